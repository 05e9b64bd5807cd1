"""Writing and merging region stores: same bytes by every way, and one line for every fault."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import lmdb
import numpy as np
import pytest
from region_samples import assert_equal, make_regions, make_schema

from lxmert.data import region_builder
from lxmert.data.region_merge import merge
from lxmert.data.region_store import RegionStore
from lxmert.data.region_writer import RegionWriter
from lxmert.errors import DataError
from lxmert.types import Regions

PROVENANCE = {"weights_sha256": "abc", "code": "1"}


def name(number: int) -> str:
    return f"image_{number:03d}"


def write(path: Path, numbers: list[int], provenance: dict | None = None, **schema: object) -> Path:
    with RegionWriter(path, make_schema(**schema)) as writer:
        for number in numbers:
            writer.put(name(number), make_regions(number, width=writer.schema.feature_width))
        writer.finish(PROVENANCE if provenance is None else provenance)
    return path


@pytest.mark.parametrize("width", [16, 700])  # many records in a block; more than one block
def test_shards_and_order_do_not_change_a_byte(tmp_path: Path, width: int) -> None:
    numbers = list(range(400 if width == 700 else 41))
    whole = write(tmp_path / "whole.lmdb", numbers, width=width).read_bytes()
    for shards in (1, 2, 5):
        random.Random(shards).shuffle(numbers)
        parts = [
            write(tmp_path / f"{shards}_{shard}.lmdb", numbers[shard::shards], width=width)
            for shard in range(shards)
        ]
        out = tmp_path / f"{shards}.lmdb"
        digest = merge(parts, out, map(name, numbers))
        assert out.read_bytes() == whole
        assert digest == RegionStore(out).digest
    assert sorted(path.name for path in tmp_path.iterdir() if ".lmdb" not in path.suffixes) == []


@pytest.mark.parametrize(
    ("boxes", "width", "images"), [(36, 2048, 200), (16, 128, 1500), (100, 2048, 60), (10, 2048, 300)]
)
def test_a_file_is_hardly_larger_than_its_arrays(tmp_path: Path, boxes: int, width: int, images: int) -> None:
    path = tmp_path / "a.lmdb"
    regions = make_regions(0, boxes, width)
    with RegionWriter(path, make_schema(width, boxes)) as writer:
        for number in range(images):
            writer.put(f"COCO_val2014_{number:012d}", regions)
        writer.finish(PROVENANCE)
    arrays = regions.features.nbytes + regions.boxes_px.nbytes + 2 * 4 * boxes + 3 * 4 * boxes
    assert path.stat().st_size <= 1.03 * images * arrays
    assert path.stat().st_blocks * 512 <= 1.03 * images * arrays


def test_empty_and_single_stores(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.lmdb", [])
    assert len(RegionStore(empty)) == 0 and list(RegionStore(empty).ids) == []
    assert name(1) not in RegionStore(empty)
    one = write(tmp_path / "one.lmdb", [1])
    merge([empty, one], tmp_path / "both.lmdb", [name(1)])
    assert (tmp_path / "both.lmdb").read_bytes() == one.read_bytes()
    assert_equal(RegionStore(tmp_path / "both.lmdb").regions(name(1)), make_regions(1))


def test_an_unfinished_writer_leaves_no_store_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.lmdb"
    with RegionWriter(path, make_schema()) as writer:
        for number in (3, 1):
            writer.put(name(number), make_regions(number))
    assert not path.exists() and (tmp_path / "a.lmdb.partial").exists()
    with RegionWriter(path, make_schema()) as writer:
        assert writer.ids() == [name(1), name(3)] and name(3) in writer and name(2) not in writer
        assert len(writer) == 2
        writer.put(name(2), make_regions(2))
        writer.finish(PROVENANCE)
    assert path.read_bytes() == write(tmp_path / "b.lmdb", [1, 2, 3]).read_bytes()
    assert not (tmp_path / "a.lmdb.partial").exists()


_WORKER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from region_samples import make_regions, make_schema
from lxmert.data.region_writer import RegionWriter
out = Path(sys.argv[1])
with RegionWriter(out, make_schema(512), partial=out.with_name("state.lmdb"), commit_records=3) as writer:
    for number in range(60):
        if f"image_{number:03d}" not in writer:
            writer.put(f"image_{number:03d}", make_regions(number, width=512))
        if number % 10 == 0:
            print(number, flush=True)
    print("finish", flush=True)
    writer.finish({"weights_sha256": "abc", "code": "1"})
"""


def test_killed_at_any_moment_then_resumed_gives_the_same_bytes(tmp_path: Path) -> None:
    wanted = write(tmp_path / "wanted.lmdb", list(range(60)), width=512).read_bytes()
    command = [sys.executable, "-c", _WORKER, str(tmp_path / "a.lmdb"), str(Path(__file__).parent)]
    for moment in ("0", "20", "40", "finish"):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == moment:
                time.sleep(random.Random(moment).random() * 0.003)
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.close()
        process.wait()
        if moment != "finish":
            assert not (tmp_path / "a.lmdb").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "a.lmdb").read_bytes() == wanted
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.lmdb", "wanted.lmdb"]


def test_the_map_grows_from_almost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = write(tmp_path / "wanted.lmdb", list(range(300)), width=512)
    path = tmp_path / "a.lmdb"
    with RegionWriter(path, make_schema(512), map_bytes=1 << 15, commit_records=7) as writer:
        for number in range(300):
            writer.put(name(number), make_regions(number, width=512))
        monkeypatch.setattr(region_builder, "MAP_BYTES", 1 << 15)
        digest = writer.finish(PROVENANCE)
    assert digest == RegionStore(wanted).digest
    assert path.stat().st_size <= wanted.stat().st_size + 8192, "growth leaves no holes"


def test_two_writers_do_not_share_a_partial_file(tmp_path: Path) -> None:
    with RegionWriter(tmp_path / "a.lmdb", make_schema()):
        with pytest.raises(DataError, match="another process is writing it"):
            RegionWriter(tmp_path / "a.lmdb", make_schema())
    RegionWriter(tmp_path / "a.lmdb", make_schema()).close()


def test_a_partial_file_of_another_profile_is_refused(tmp_path: Path) -> None:
    RegionWriter(tmp_path / "a.lmdb", make_schema(profile="one")).close()
    with pytest.raises(DataError, match="profile one .* and profile two .*remove it to start again"):
        RegionWriter(tmp_path / "a.lmdb", make_schema(profile="two"))


def _change(**values: object) -> Regions:
    return replace(make_regions(5), **values)  # type: ignore[arg-type]


def _spoil(field: str, value: float) -> Regions:
    regions = make_regions(5)
    getattr(regions, field).flat[1] = value
    return regions


@pytest.mark.parametrize(
    ("regions", "fault"),
    [
        (make_regions(5, width=17), r"features of shape \(4, 17\), the store wants \(4, 16\)"),
        (make_regions(5, boxes=5), "5 boxes, profile test has 1 to 4"),
        (make_regions(5, boxes=0), "0 boxes"),
        (make_regions(5, dtype="float64"), "type float64, the store wants float16"),
        (_spoil("features", np.nan), "not a finite number"),
        (_spoil("features", np.inf), "not a finite number"),
        (_change(features=np.full((4, 16), 1e6, np.float32)), "exceeds float16's range"),
        (_spoil("boxes_px", np.nan), "a box is not finite"),
        (_spoil("boxes_px", -1.5), "leaves its 640x480 image by more than 1 pixel"),
        (_change(width=480, height=640), "width and height are not swapped"),
        (_change(boxes_px=np.full((4, 4), [9, 9, 5, 20], np.float32)), "ends before it begins"),
        (_change(boxes_px=np.zeros((4, 5), np.float32)), r"boxes of shape \(4, 5\)"),
        (_spoil("object_ids", 1600), "object id 1600 is outside 0..1599"),
        (_spoil("attribute_ids", -2), "attribute id -2 is outside 0..399"),
        (_spoil("object_scores", np.nan), "a score of an object is not a finite number"),
        (_spoil("selection_scores", np.inf), "selection score is infinite"),
        (_change(width=0), "image size 0x480"),
        (_change(object_ids=np.zeros(3, np.int64)), r"object_ids of shape \(3,\)"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_by_name(tmp_path: Path, regions: Regions, fault: str) -> None:
    with RegionWriter(tmp_path / "a.lmdb", make_schema()) as writer:
        with pytest.raises(DataError, match=fault) as caught:
            writer.put("cat", regions)
        assert "a.lmdb: image cat: " in str(caught.value) and "\n" not in str(caught.value)
        assert "cat" not in writer


def test_unknown_labels_and_selection_scores_may_be_missing(tmp_path: Path) -> None:
    unknown, nothing = np.full(4, -1), np.full(4, np.nan, np.float32)
    regions = _change(object_ids=unknown, object_scores=nothing, selection_scores=nothing)
    with RegionWriter(tmp_path / "a.lmdb", make_schema()) as writer:
        writer.put("cat", regions)
        writer.finish({})
    assert_equal(RegionStore(tmp_path / "a.lmdb").regions("cat"), regions)


@pytest.mark.parametrize("image_id", ["", "a\tb", "a\n", "a\0", "x" * 501])
def test_impossible_ids_are_refused(tmp_path: Path, image_id: str) -> None:
    with RegionWriter(tmp_path / "a.lmdb", make_schema()) as writer:
        with pytest.raises(DataError, match="image id .* rename the image"):
            writer.put(image_id, make_regions(1))


def test_an_image_put_twice_is_refused(tmp_path: Path) -> None:
    with RegionWriter(tmp_path / "a.lmdb", make_schema()) as writer:
        writer.put("cat", make_regions(1))
        with pytest.raises(DataError, match="image cat appears twice"):
            writer.put("cat", make_regions(1))


def test_float32_features_are_rounded_into_a_float16_store(tmp_path: Path) -> None:
    regions = make_regions(1, dtype="float32")
    with RegionWriter(tmp_path / "a.lmdb", make_schema()) as writer:
        writer.put("cat", regions)
        writer.finish({})
    found = RegionStore(tmp_path / "a.lmdb").regions("cat").features
    np.testing.assert_array_equal(found, regions.features.astype(np.float16))
    with RegionWriter(tmp_path / "b.lmdb", make_schema(dtype="float32")) as writer:
        with pytest.raises(DataError, match="type float16, the store wants float32"):
            writer.put("cat", make_regions(1))


def test_merge_refuses_what_does_not_belong_together(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.lmdb", [1, 2]), write(tmp_path / "two.lmdb", [3])
    other_profile = write(tmp_path / "profile.lmdb", [4], profile="uniter")
    other_version = write(tmp_path / "version.lmdb", [4], boxes=9)
    other_weights = write(tmp_path / "weights.lmdb", [4], {**PROVENANCE, "weights_sha256": "def"})
    again = write(tmp_path / "again.lmdb", [2, 9])
    out = tmp_path / "out.lmdb"
    for parts, expected, fault in (
        (
            [one, other_profile],
            None,
            "mixed extractions: profile test .*one.lmdb.* and profile uniter .*profile.lmdb",
        ),
        ([one, other_version], None, "mixed extractions: profile test with max_boxes 4 .* and 9"),
        ([one, other_weights], None, 'weights_sha256 is "def", in .*one.lmdb it is "abc"'),
        ([one, again], None, "again.lmdb: image image_002 is in .*one.lmdb too"),
        (
            [one, two],
            range(9),
            "6 of 9 images have no regions in any part: image_000, image_004, .*, image_007, ...",
        ),
        ([one, two], (1, 2), "1 of 2 images are in the parts but not in the listing: image_003;"),
        ([], None, "no parts"),
        ([one, tmp_path / "absent.lmdb"], None, "no such region store"),
    ):
        with pytest.raises(DataError, match=fault) as caught:
            merge(parts, out, None if expected is None else map(name, expected))
        assert "\n" not in str(caught.value) and not out.exists()


def test_quarantined_images_count_as_accounted_for(tmp_path: Path) -> None:
    bad = [{"id": name(8), "reason": "truncated"}, {"id": name(7), "reason": "tiny"}]
    parts = [
        write(tmp_path / "one.lmdb", [1], {**PROVENANCE, "quarantined": bad[:1]}),
        write(tmp_path / "two.lmdb", [2], {**PROVENANCE, "quarantined": bad[1:]}),
    ]
    merge(parts, tmp_path / "out.lmdb", map(name, (1, 2, 7, 8)))
    assert RegionStore(tmp_path / "out.lmdb").provenance["quarantined"] == bad[::-1]
    whole = write(tmp_path / "whole.lmdb", [2, 1], {**PROVENANCE, "quarantined": bad})
    assert whole.read_bytes() == (tmp_path / "out.lmdb").read_bytes()


def test_merge_notices_a_damaged_part(tmp_path: Path) -> None:
    part = write(tmp_path / "one.lmdb", [1, 2], width=512)
    data = bytearray(part.read_bytes())
    data[data.index(make_regions(2, width=512).features.tobytes()) + 50] ^= 4
    part.write_bytes(data)
    with pytest.raises(DataError, match="one.lmdb: image image_002: its checksum differs"):
        merge([part], tmp_path / "out.lmdb")
    assert not (tmp_path / "out.lmdb").exists()


def test_no_space_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """The limit on file size makes the kernel refuse writes as a full disk does."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        status = 9
        try:
            write(tmp_path / "a.lmdb", list(range(500)), width=1024)
        except DataError as error:
            text = str(error)
            status = 0 if "a.lmdb" in text and "space" in text and "\n" not in text else 8
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not (tmp_path / "a.lmdb").exists()


def test_a_full_disk_while_finishing_keeps_the_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.lmdb"
    with RegionWriter(path, make_schema()) as writer:
        writer.put(name(1), make_regions(1))
        with monkeypatch.context() as patch:
            patch.setattr(region_builder.StoreBuilder, "close", _no_space)
            with pytest.raises(DataError, match="no space left"):
                writer.finish(PROVENANCE)
        assert [file.name for file in tmp_path.iterdir()] == ["a.lmdb.partial"]
    with RegionWriter(path, make_schema()) as writer:
        assert writer.ids() == [name(1)]
        writer.finish(PROVENANCE)
    assert path.read_bytes() == write(tmp_path / "b.lmdb", [1]).read_bytes()


def _no_space(builder: region_builder.StoreBuilder, provenance: object) -> str:
    error = lmdb.Error("mdb_put: No space left on device")
    raise builder._database._explain(error) from error


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        RegionWriter(tmp_path / "file" / "a.lmdb", make_schema())


def test_provenance_must_be_json(tmp_path: Path) -> None:
    with RegionWriter(tmp_path / "a.lmdb", make_schema()) as writer:
        with pytest.raises(DataError, match="cannot be written as JSON"):
            writer.finish({"time": {1, 2}})
    assert not (tmp_path / "a.lmdb").exists()
