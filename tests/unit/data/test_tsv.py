"""TSV features: the real file there and back, line ends, columns, and every malformed row by line."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from region_samples import assert_equal, make_regions, make_schema

from lxmert.data.formats import tsv as tsv_module
from lxmert.data.formats.transfer import export_store, import_store, schema_from_documents
from lxmert.data.formats.tsv import TsvReader, write_row
from lxmert.data.formats.tsv_form import Rows, TsvWriter
from lxmert.data.region_store import RegionStore
from lxmert.data.region_writer import RegionWriter
from lxmert.errors import DataError
from lxmert.specs.documents import read_document


@pytest.fixture(params=["pybase64", "binascii"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "binascii":
        monkeypatch.setattr(tsv_module, "pybase64", None)
    elif tsv_module.pybase64 is None:
        pytest.skip("pybase64 is not installed")


def import_tsv(source: Path, out: Path, schema, columns: str = "lxmert") -> str:
    return import_store(Rows(source, columns), out, schema)


def export_tsv(store: Path, out: Path, columns: str = "lxmert", line_end=b"\r\n", by_id=False) -> int:
    return export_store(RegionStore(store), TsvWriter(out, columns, line_end), by_id=by_id).images


def write_tsv(path: Path, count: int = 3, columns: str = "lxmert", line_end: bytes = b"\r\n") -> Path:
    with open(path, "wb") as handle:
        for number in range(count):
            write_row(handle, f"image_{number}", make_regions(number, dtype="float32"), columns, line_end)
    return path


@pytest.fixture
def lxmert_schema() -> object:
    return schema_from_documents(
        read_document("profile", "lxmert-36"), read_document("detector_size", "full"), "float32"
    )


@pytest.mark.usefixtures("decoder")
def test_the_real_file_comes_back_byte_for_byte(shared_data: Path, tmp_path: Path, lxmert_schema) -> None:
    source = shared_data / "coco10" / "train2014_obj36.tsv"
    import_tsv(source, tmp_path / "a.lmdb", lxmert_schema)
    store = RegionStore(tmp_path / "a.lmdb")
    assert len(store) == 10 and store.schema.profile_name == "lxmert-36"
    assert store.provenance["imported_from"] == {
        "file": "train2014_obj36.tsv",
        "bytes": 3951820,
        "sha256": "a2148a4b761e7572c407d5787595de5c1458034f74108551e8925cc79b7798c5",
        "columns": "lxmert",
        "rows": 10,
    }
    first = store.regions("COCO_train2014_000000132417")
    assert (first.height, first.width, len(first)) == (333, 500, 36)
    assert (first.object_ids[0], first.attribute_ids[0]) == (72, 6)
    assert first.features.min() >= 0 and first.boxes_px.max() == 499.5
    export_tsv(tmp_path / "a.lmdb", tmp_path / "back.tsv")
    assert (tmp_path / "back.tsv").read_bytes() == source.read_bytes()
    export_tsv(tmp_path / "a.lmdb", tmp_path / "lf.tsv", line_end=b"\n")
    assert (tmp_path / "lf.tsv").read_bytes() == source.read_bytes().replace(b"\r\n", b"\n")


def test_float16_loses_half_a_unit_in_the_last_place_at_most(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "coco10" / "train2014_obj36.tsv"
    schema = schema_from_documents(
        read_document("profile", "lxmert-36"), read_document("detector_size", "full"), None
    )
    assert schema.feature_dtype == "float16"
    import_tsv(source, tmp_path / "a.lmdb", schema)
    export_tsv(tmp_path / "a.lmdb", tmp_path / "back.tsv")
    rows = list(zip(TsvReader(source), TsvReader(tmp_path / "back.tsv"), strict=True))
    assert len(rows) == 10
    for (_, one_id, one), (_, other_id, other) in rows:
        assert one_id == other_id
        half_unit = np.spacing(one.features.astype(np.float16)).astype(np.float32) / 2
        assert (np.abs(one.features - other.features) <= half_unit).all()
        assert_equal(other, type(other)(**{**vars(one), "features": other.features}))


@pytest.mark.parametrize("columns", ["lxmert", "butd"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("chunk_bytes", [1 << 22, 700, 64])
@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.usefixtures("decoder")
def test_rows_come_back_across_line_ends_and_chunks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
    line_end: bytes,
    chunk_bytes: int,
    ended: bool,
) -> None:
    monkeypatch.setattr(tsv_module, "_CHUNK_BYTES", chunk_bytes)
    path = write_tsv(tmp_path / "a.tsv", 3, columns, line_end)
    if not ended:  # a whole last row without a line end is a row
        path.write_bytes(path.read_bytes()[: -len(line_end)])
    reader = TsvReader(path, columns)
    rows = list(reader)
    assert [(line, image_id) for line, image_id, _ in rows] == [(n + 1, f"image_{n}") for n in range(3)]
    for number, (_, _, found) in enumerate(rows):
        wanted = make_regions(number, dtype="float32")
        assert (found.width, found.height) == (640, 480)
        np.testing.assert_array_equal(found.features, wanted.features)
        np.testing.assert_array_equal(found.boxes_px, wanted.boxes_px)
        assert np.isnan(found.selection_scores).all()
        if columns == "lxmert":
            np.testing.assert_array_equal(found.object_ids, wanted.object_ids)
            np.testing.assert_array_equal(found.attribute_scores, wanted.attribute_scores)
        else:
            assert (found.object_ids == -1).all() and np.isnan(found.object_scores).all()
    assert reader.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert reader.bytes_read == path.stat().st_size


def test_the_two_forms_have_their_own_order_of_width_and_height(tmp_path: Path) -> None:
    for columns, first, second in (("lxmert", b"480", b"640"), ("butd", b"640", b"480")):
        fields = write_tsv(tmp_path / "a.tsv", 1, columns).read_bytes().split(b"\t")
        assert fields[1:3] == [first, second]


def _spoil(fields: list[bytes], column: int, value: bytes) -> bytes:
    return b"\t".join([*fields[:column], value, *fields[column + 1 :]])


def _encoded(array: np.ndarray) -> bytes:
    return base64.b64encode(array.tobytes())


FAULTS = [
    (lambda f: b"\t".join(f[:-1]), "9 fields instead of 10"),
    (lambda f: b"\t".join([*f, b""]), "over 10|11 fields instead of 10"),
    (lambda f: b"", "1 fields instead of 10"),
    (lambda f: b"\t".join([f[0], f[2], f[1], f[7], f[8], f[9]]), r"6 fields .*--form butd-tsv"),
    (lambda f: _spoil(f, 9, f[9][:-2]), "features: not base64"),
    (lambda f: _spoil(f, 9, f[9][:-4]), r"features: \d+ bytes do not divide by 4 boxes"),
    (lambda f: _spoil(f, 9, b""), "features: 0 bytes"),
    (lambda f: _spoil(f, 9, b"*" + f[9][1:]), "features: not base64"),
    (lambda f: _spoil(f, 3, b"b'" + f[3] + b"'"), r"objects_id: holds Python's b'\.\.\.'"),
    (lambda f: _spoil(f, 8, f[8][:-4]), r"boxes: \d+ bytes, 4 boxes need 64"),
    (lambda f: _spoil(f, 7, b"5"), "objects_id: 32 bytes, 5 boxes need 40"),
    (lambda f: _spoil(f, 7, b"0"), "num_boxes is 0"),
    (lambda f: _spoil(f, 7, b"4.0"), "num_boxes: '4.0' is not a whole number"),
    (lambda f: _spoil(f, 1, b"-480"), "img_h: '-480' is not a whole number"),
    (lambda f: _spoil(f, 2, b"9" * 30), "img_w: '9+' is not a whole number"),
    (lambda f: _spoil(f, 0, b""), "img_id: empty"),
    (lambda f: _spoil(f, 0, b"\xff\xfe"), "img_id: not UTF-8"),
    (lambda f: _spoil(f, 0, b"image_0"), "image image_0 appears twice"),
    (
        lambda f: _spoil(f, 9, _encoded(np.full((4, 16), np.nan, np.float32))),
        "a feature is not a finite number",
    ),
    (
        lambda f: _spoil(f, 9, _encoded(np.zeros((4, 8), np.float32))),
        r"features of shape \(4, 8\), the store wants",
    ),
    (lambda f: _spoil(f, 8, _encoded(np.full((4, 4), 900, np.float32))), "a box leaves its 640x480 image"),
    (lambda f: _spoil(f, 8, _encoded(np.full((4, 4), np.inf, np.float32))), "a box is not finite"),
    (lambda f: _spoil(f, 5, _encoded(np.full(4, 400))), "attribute id 400 is outside 0..399"),
    (
        lambda f: _spoil(f, 4, _encoded(np.full(4, np.nan, np.float32))),
        "a score of an object is not a finite",
    ),
]


@pytest.mark.parametrize(("spoil", "fault"), FAULTS)
@pytest.mark.usefixtures("decoder")
def test_a_malformed_row_is_named_by_file_and_line(tmp_path: Path, spoil, fault: str) -> None:
    path = write_tsv(tmp_path / "a.tsv")
    lines = path.read_bytes().split(b"\r\n")
    lines[1] = spoil(lines[1].split(b"\t"))
    path.write_bytes(b"\r\n".join(lines))
    with pytest.raises(DataError, match=fault) as caught:
        import_tsv(path, tmp_path / "a.lmdb", make_schema(dtype="float32"))
    assert str(caught.value).startswith(f"{path}:2: ") and "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["a.tsv"]


@pytest.mark.usefixtures("decoder")
def test_a_torn_last_line_is_noticed_wherever_it_is_torn(tmp_path: Path) -> None:
    whole = write_tsv(tmp_path / "a.tsv").read_bytes()
    start = whole.rindex(b"image_2")
    for size in [*range(start + 1, len(whole) - 2, 37), len(whole) - 3, len(whole) - 6]:
        (tmp_path / "torn.tsv").write_bytes(whole[:size])
        with pytest.raises(DataError, match="torn.tsv:3: the last line is cut short: "):
            list(TsvReader(tmp_path / "torn.tsv"))


def test_files_that_are_no_tsv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = make_schema()
    with pytest.raises(DataError, match="absent.tsv: no such file"):
        import_tsv(tmp_path / "absent.tsv", tmp_path / "a.lmdb", schema)
    (tmp_path / "empty.tsv").write_bytes(b"")
    with pytest.raises(DataError, match="empty.tsv: holds no images"):
        import_tsv(tmp_path / "empty.tsv", tmp_path / "a.lmdb", schema)
    monkeypatch.setattr(tsv_module, "_LONGEST_ROW_BYTES", 1000)
    (tmp_path / "zip.tsv").write_bytes(bytes(5000))
    with pytest.raises(DataError, match="zip.tsv:1: no line end in 5000 bytes"):
        import_tsv(tmp_path / "zip.tsv", tmp_path / "a.lmdb", schema)
    assert not (tmp_path / "a.lmdb").exists()


def test_export_order_and_columns(tmp_path: Path) -> None:
    source = tmp_path / "a.tsv"
    with open(source, "wb") as handle:
        for number in (2, 0, 1):
            write_row(handle, f"image_{number}", make_regions(number, dtype="float32"), "butd")
    import_tsv(source, tmp_path / "a.lmdb", make_schema(dtype="float32"), "butd")
    export_tsv(tmp_path / "a.lmdb", tmp_path / "stored.tsv", "butd")
    assert (tmp_path / "stored.tsv").read_bytes() == source.read_bytes()
    export_tsv(tmp_path / "a.lmdb", tmp_path / "id.tsv", "butd", by_id=True)
    assert [image_id for _, image_id, _ in TsvReader(tmp_path / "id.tsv", "butd")] == [
        f"image_{n}" for n in range(3)
    ]
    with pytest.raises(DataError, match="has no object ids.*--form butd-tsv"):
        export_tsv(tmp_path / "a.lmdb", tmp_path / "lxmert.tsv")
    assert not (tmp_path / "lxmert.tsv").exists()


def test_order_of_rows_changes_the_file_but_not_the_digest(tmp_path: Path) -> None:
    digests = set()
    lines = write_tsv(tmp_path / "a.tsv", 5).read_bytes().splitlines(keepends=True)
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 1, 3]):
        (tmp_path / "b.tsv").write_bytes(b"".join(lines[number] for number in order))
        digests.add(import_tsv(tmp_path / "b.tsv", tmp_path / "b.lmdb", make_schema()))
    with RegionWriter(tmp_path / "c.lmdb", make_schema()) as writer:
        for _, image_id, regions in TsvReader(tmp_path / "a.tsv"):
            writer.put(image_id, regions)
        digests.add(writer.finish({"other": "provenance"}))
    assert len(digests) == 1


IMPORT = ("store", "import", "--form", "lxmert-tsv")
EXPORT = ("store", "export", "--form", "lxmert-tsv")


def run_verb(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lxmert", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_verbs_import_describe_verify_merge_and_export(shared_data: Path, tmp_path: Path) -> None:
    source, store = shared_data / "coco10" / "train2014_obj36.tsv", tmp_path / "a.lmdb"
    assert run_verb(*IMPORT, "--source", source, "--out", store, "--dtype", "float32").returncode == 0
    shown = run_verb("store", "info", store)
    assert shown.returncode == 0 and "lxmert-36" in shown.stdout and "train2014_obj36.tsv" in shown.stdout
    assert "10 images, every checksum right" in run_verb("store", "verify", store).stdout
    assert run_verb("merge", "--parts", store, "--out", tmp_path / "b.lmdb").returncode == 0
    assert RegionStore(tmp_path / "b.lmdb").digest == RegionStore(store).digest
    assert run_verb(*EXPORT, "--store", store, "--out", tmp_path / "a.tsv").returncode == 0
    assert (tmp_path / "a.tsv").read_bytes() == source.read_bytes()


def test_verbs_end_with_2_and_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.lmdb"
    with RegionWriter(path, make_schema(512)) as writer:
        writer.put("cat", make_regions(1, width=512))
        writer.finish({})
    data = bytearray(path.read_bytes())
    data[data.index(make_regions(1, width=512).features.tobytes()) + 9] ^= 8
    path.write_bytes(data)
    for arguments, fault in (
        (("store", "verify", path), "image cat: its checksum differs"),
        (("store", "info", tmp_path), "is a folder"),
        (
            (*IMPORT, "--source", path, "--out", tmp_path / "b.lmdb", "--profile", "lxmert36"),
            "lxmert-36",
        ),
    ):
        done = run_verb(*arguments)
        lines = [line for line in done.stderr.splitlines() if " INFO " not in line]
        assert done.returncode == 2 and len(lines) == 1 and fault in lines[0], done.stderr
