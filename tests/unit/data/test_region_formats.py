"""Other projects' forms of region features: what their own tools read, and round trips."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import lmdb
import numpy as np
import pytest
from format_samples import BOXES, CLASSES, IDS, bring_back, export, scored, wanted, write_store
from region_samples import assert_equal, make_regions, make_schema

from lxmert.data.formats.arrays import read_npz, unpack_arrays
from lxmert.data.formats.img_db import DatabaseName
from lxmert.data.formats.sizes import ImageSizes
from lxmert.data.formats.uniter import file_name, image_id_of
from lxmert.data.region_store import RegionStore
from lxmert.data.region_writer import RegionWriter
from lxmert.errors import DataError


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("formats") / "set.lmdb")


@pytest.fixture
def sizes(tmp_path) -> Path:
    path = tmp_path / "sizes.jsonl"
    path.write_text("".join(json.dumps({"image": i, "width": 640, "height": 480}) + "\n" for i in IDS))
    return path


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("npz", []),
        ("uniter-npz", []),
        ("uniter-img-db", ["--database", "all"]),
        ("uniter-img-db", ["--database", "all_compressed"]),
        ("vlp-hdf5", []),
    ],
)
def test_a_store_of_10_to_100_boxes_comes_back(tmp_path, store, sizes, form, options):
    if form == "vlp-hdf5":
        pytest.importorskip("h5py", reason="h5py is not installed")
    assert export(form, store, tmp_path / "x", *options) == 0
    given = [] if form == "npz" else ["--sizes", sizes]
    assert bring_back(form, tmp_path / "x", tmp_path / "back.lmdb", "--like", store, *given) == 0
    back = RegionStore(tmp_path / "back.lmdb")
    assert sorted(back.ids) == sorted(IDS) and back.schema.class_scores == CLASSES
    for number, image_id in enumerate(IDS):
        found, expected = back.regions(image_id), wanted(number, form)
        if form.startswith("uniter"):  # corners are half-precision shares of the image
            np.testing.assert_allclose(found.boxes_px, expected.boxes_px, atol=640 / 2048)
            found = dataclasses.replace(found, boxes_px=expected.boxes_px)
        assert_equal(found, expected)
    if form == "npz":
        assert back.digest == RegionStore(store).digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.lmdb", "sizes.jsonl", "x"]


def test_images_have_uniter_names_and_back():
    names = [
        "coco_val2014_000000000042.npz", "coco_train2014_000000000042.npz", "vg_000002412112.npz",
        "gqa_n161313.npz", "nlvr2_train-10171-0-img0.npz", "my picture.npz", "é.npz",
    ]  # fmt: skip
    assert [file_name(image_id, None) for image_id in IDS] == names
    assert [image_id_of(name, None) for name in names] == IDS
    assert file_name("36979", "flickr30k") == "flickr30k_000000036979.npz"
    assert image_id_of("flickr30k_000000036979.npz", None) == "36979"
    assert image_id_of(file_name("7", "own"), "own") == "7"
    assert image_id_of(file_name("a.b", "own"), "own") == "a.b"
    with pytest.raises(DataError, match="cannot be a file name"):
        file_name("../a", None)


def database(path: Path) -> dict[bytes, bytes]:
    """All of an LMDB folder, opened as UNITER does."""
    with lmdb.open(str(path), readonly=True, create=False, readahead=True, lock=False) as environment:
        with environment.begin() as transaction:
            return dict(transaction.cursor())


def test_an_image_database_is_what_its_name_says(tmp_path, store):
    assert export("uniter-img-db", store, tmp_path) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "feat_th0.2_max100_min10", "nbb_th0.2_max100_min10.json",
    ]  # fmt: skip
    values = database(tmp_path / "feat_th0.2_max100_min10")
    names = [file_name(image_id, None) for image_id in IDS]
    assert json.loads(values.pop(b"__keys__")) == sorted(names)
    assert sorted(values) == sorted(name.encode() for name in names)
    counts = json.loads((tmp_path / "nbb_th0.2_max100_min10.json").read_text())
    for number, name in enumerate(names):
        arrays = unpack_arrays(values[name.encode()])
        assert list(arrays) == ["norm_bb", "features", "conf", "soft_labels"]
        assert {array.dtype.str for array in arrays.values()} == {"<f2"}
        regions = wanted(number, "uniter-img-db")
        above = int((regions.selection_scores > 0.2).sum())
        assert counts[name] == len(arrays["conf"]) == min(100, max(10, above), len(regions))
        assert (np.diff(arrays["conf"][:, 0]) <= 0).all()
        boxes = arrays["norm_bb"].astype(np.float64)
        np.testing.assert_allclose(boxes[:, 4:], boxes[:, 2:4] - boxes[:, :2], atol=2e-3)
        np.testing.assert_array_equal(arrays["features"], regions.features[: len(boxes)])
    assert export("uniter-img-db", store, tmp_path, "--database", "feat_numbb36_compressed") == 0
    values = database(tmp_path / "feat_numbb36_compressed")
    with np.load(io.BytesIO(values[names[1].encode()])) as arrays:
        assert sorted(arrays) == ["conf", "features", "norm_bb", "soft_labels"]
        assert arrays["conf"].shape == (36, 1)
    with np.load(io.BytesIO(values[names[0].encode()])) as arrays:
        assert len(arrays["features"]) == 10  # there are no more
    assert not list(tmp_path.glob("nbb_numbb*"))


@pytest.mark.parametrize("name", ["feat", "feat_th0.2", "feat_th0..2_max100_min10", "../all", "feat_numbb"])
def test_wrong_database_names_are_one_line(name):
    with pytest.raises(DataError, match="must be like feat_th0.2_max100_min10"):
        DatabaseName(name)


def test_given_boxes_keep_their_order(tmp_path):
    schema = make_schema(boxes=20)
    schema.profile["given_boxes"] = "regions"
    regions = make_regions(1, 20)
    with RegionWriter(tmp_path / "given.lmdb", schema) as writer:
        writer.put("a", regions)
        writer.finish({})
    assert export("uniter-npz", tmp_path / "given.lmdb", tmp_path / "x") == 0
    arrays = read_npz((tmp_path / "x" / "a.npz").read_bytes())
    assert "soft_labels" not in arrays
    np.testing.assert_array_equal(arrays["conf"][:, 0], regions.selection_scores.astype(np.float16))


def test_hdf5_files_are_as_vlp_opens_them(tmp_path, store):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    assert export("vlp-hdf5", store, tmp_path / "x", "--prefix", "coco") == 0
    names = {f"coco_{kind}{image_id[-3:]}.h5" for kind in ("feat", "cls") for image_id in IDS}
    assert {path.name for path in (tmp_path / "x").iterdir()} == {"coco_bbox.h5", *names}
    with h5py.File(tmp_path / "x" / "coco_bbox.h5") as boxes:
        assert set(boxes) == set(IDS)
        rows = boxes["2412112"][:]
    regions = scored(2, 36)
    np.testing.assert_array_equal(rows[:, :4], regions.boxes_px)
    np.testing.assert_array_equal(rows[:, 4], regions.object_ids + 1)
    np.testing.assert_array_equal(rows[:, 5], regions.object_scores)
    with (
        h5py.File(tmp_path / "x" / "coco_feat112.h5") as features,
        h5py.File(tmp_path / "x" / "coco_cls112.h5") as cls,
    ):
        np.testing.assert_array_equal(features["2412112"][:], regions.features)
        np.testing.assert_array_equal(cls["2412112"][:], regions.class_scores)
    assert export("vlp-hdf5", store, tmp_path / "y", "--prefix", "coco") == 0
    for path in (tmp_path / "x").iterdir():
        assert path.read_bytes() == (tmp_path / "y" / path.name).read_bytes()


def test_a_reader_of_one_number_of_boxes_is_thought_of(tmp_path, store, capsys):
    assert export("lxmert-tsv", store, tmp_path / "a.tsv") == 0
    told = capsys.readouterr().err
    assert "7 images of 10 to 100 boxes" in told and "LXMERT's own reader takes one number of boxes" in told
    assert export("lxmert-tsv", store, tmp_path / "b.tsv", "--cut", "10") == 0
    told = capsys.readouterr().err
    assert "7 images of 10 boxes" in told and "own reader" not in told


def test_a_cut_is_exported(tmp_path, store):
    for cut in ("36", "lxmert-36", "{rule: top, boxes: 36}"):
        out = tmp_path / f"{len(cut)}"
        assert export("npz", store, out, "--cut", cut) == 0
        found = [len(read_npz((out / f"{image_id}.npz").read_bytes())["features"]) for image_id in IDS]
        assert found == [min(boxes, 36) for boxes in BOXES]


def test_sizes_come_from_official_files(tmp_path):
    coco = {"images": [{"file_name": "COCO_val2014_000000000042.jpg", "width": 640, "height": 478, "id": 42}]}
    (tmp_path / "captions.json").write_text(json.dumps(coco))
    assert ImageSizes(tmp_path / "captions.json").of("COCO_val2014_000000000042", "x") == (640, 478)
    (tmp_path / "image_data.json").write_text(json.dumps([{"image_id": 7, "width": 5, "height": 6}]))
    assert ImageSizes(tmp_path / "image_data.json").of("7", "x") == (5, 6)
    with pytest.raises(DataError, match="x: image 8 has no size in .*image_data.json; add it there"):
        ImageSizes(tmp_path / "image_data.json").of("8", "x")
    for text, told in (
        ("{}", "holds no sizes"), ("[]", "names no image"),
        ('[{"image_id": 7, "width": 0, "height": 3}]', "from 1"),
        ('[{"width": 1, "height": 3}]', "image 1: names no image"), ("[3]", "image 1: is no object"),
    ):  # fmt: skip
        (tmp_path / "wrong.json").write_text(text)
        with pytest.raises(DataError, match=told):
            ImageSizes(tmp_path / "wrong.json")


def test_features_of_a_detector_of_no_profile_have_a_name(tmp_path, store, capsys):
    small = tmp_path / "small.lmdb"
    schema = make_schema(2048, 3, object_classes=1600, attribute_classes=400)
    regions = make_regions(1, 3, 2048)
    with RegionWriter(small, schema) as writer:
        writer.put("a", regions)
        writer.finish({})
    assert export("npz", small, tmp_path / "y") == 0
    made_by = ("--made-by", "vlp", "--max-boxes", 100)
    assert bring_back("npz", tmp_path / "y", tmp_path / "b.lmdb", *made_by, "--dtype", "float16") == 0
    with RegionStore(tmp_path / "b.lmdb") as back:
        assert back.schema.profile_name == "vlp" and back.schema.max_boxes == 100
        assert_equal(back.regions("a"), regions)
    for options, told in (
        (("--made-by", "vlp"), "--made-by vlp: needs --max-boxes"),
        ((*made_by, "--profile", "lxmert-36"), "--profile and --made-by: both say"),
        (("--like", store, "--max-boxes", 0), "max_boxes is 0"),
        (("--like", small, "--max-boxes", 2), "3 boxes, profile test has 1 to 2"),
    ):
        assert bring_back("npz", tmp_path / "y", tmp_path / "c.lmdb", *options) == 2
        assert told in capsys.readouterr().err
