"""Boxes a user gives: files in three forms, both meanings, and every way to be wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from micro_detector import extract, micro_detector, save, write_pictures
from PIL import Image

from lxmert.data.region_merge import merge
from lxmert.data.region_store import RegionStore
from lxmert.detector.documents import parse_profile
from lxmert.detector.extract import Extractor
from lxmert.detector.given_boxes import GivenBoxes
from lxmert.errors import DataError
from lxmert.specs.documents import read_document

SIZES = [(80, 64), (64, 72), (80, 64)]
BOXES = [[1.5, 2, 40, 50], [0, 0, 80, 64], [1.5, 2, 40, 50], [30, 20, 31, 60.5]]


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return Extractor(micro_detector(), parse_profile(read_document("profile", "sample-16")))


@pytest.fixture(scope="module")
def weights(tmp_path_factory, extractor) -> Path:
    return save(extractor.model, tmp_path_factory.mktemp("weights") / "detector.safetensors")


@pytest.fixture(scope="module")
def listing(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "images", SIZES)


def picture(listing: Path, number: int = 0) -> Path:
    return listing.with_suffix("") / f"{number}.png"


def write_boxes(path: Path, boxes: dict[str, object]) -> Path:
    entries = [{"image": name, "boxes_px": rows} for name, rows in boxes.items()]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_three_forms_say_the_same(tmp_path):
    entries = [{"image": "a/1.jpg", "boxes_px": BOXES}, {"image": 2, "boxes_px": BOXES[:1]}]
    (tmp_path / "b.json").write_text(json.dumps(entries))
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, entries)) + "\n\n")
    (tmp_path / "o.json").write_text(json.dumps({"1": BOXES, "2.png": BOXES[:1]}))
    for name in ("b.json", "b.jsonl", "o.json"):
        boxes = GivenBoxes(tmp_path / name, "regions")
        assert boxes.ids() == ["1", "2"] and boxes.most == 4 and len(boxes) == 2
        np.testing.assert_array_equal(boxes.of("1"), np.float32(BOXES))


def test_boxes_given_as_regions_are_described_as_they_are(extractor, listing):
    found = extractor.image(picture(listing), boxes_px=np.float32(BOXES))
    np.testing.assert_array_equal(found.boxes_px, np.float32(BOXES))
    for name in ("features", "object_ids", "attribute_scores"):  # the same box twice, the same answer twice
        np.testing.assert_array_equal(getattr(found, name)[0], getattr(found, name)[2])
    assert not np.array_equal(found.features[0], found.features[1])


def test_boxes_of_a_store_give_their_features_again(extractor, listing):
    for number in range(len(SIZES)):
        stored = extractor.image(picture(listing, number))
        again = extractor.image(picture(listing, number), boxes_px=stored.boxes_px)
        # A corner on a rounding boundary may move a pooling cell; there are few.
        same = (np.abs(again.features.astype("f4") - stored.features) < 1e-3).all(axis=1)
        assert same.mean() >= 0.9
        np.testing.assert_array_equal(again.object_ids[same], stored.object_ids[same])


def test_boxes_given_as_proposals_are_selected_by_the_profile(extractor, listing):
    detected = extractor.stages(extractor.read(picture(listing)))
    boxes = (detected.proposals.numpy() / np.float32(detected.blob.scale)).astype(np.float32)
    assert len(boxes) > 16
    chosen = extractor.image(picture(listing), boxes_px=boxes, meaning="proposals")
    assert len(chosen) == len(detected.regions) == 16
    np.testing.assert_allclose(chosen.boxes_px, detected.regions.boxes_px, atol=1e-3)
    np.testing.assert_allclose(chosen.selection_scores, detected.regions.selection_scores, atol=1e-3)
    twice = extractor.image(picture(listing), boxes_px=np.float32(BOXES), meaning="proposals")
    assert (
        len(twice) == 4 and (np.diff(twice.selection_scores) <= 0).all() and twice.selection_scores[-1] == 0
    )


def test_the_job_writes_a_store_that_mixes_with_no_other(tmp_path, weights, listing):
    boxes = write_boxes(tmp_path / "boxes.jsonl", {"0": BOXES, "1.png": BOXES[:1] * 30, "2": BOXES[::-1]})
    assert extract(tmp_path, weights, listing, "given.lmdb", "--boxes", boxes) == 0
    with RegionStore(tmp_path / "given.lmdb") as store:
        assert store.schema.max_boxes == 30 and store.schema.profile["given_boxes"] == "regions"
        assert store.provenance["given_boxes"]["file"] == "boxes.jsonl"
        np.testing.assert_array_equal(store.regions("2").boxes_px, np.float32(BOXES[::-1]))
    assert (
        extract(tmp_path, weights, listing, "given2.lmdb", "--boxes", boxes, "--boxes-as", "proposals") == 0
    )
    assert extract(tmp_path, weights, listing, "found.lmdb") == 0
    with RegionStore(tmp_path / "given2.lmdb") as store:
        assert store.schema.max_boxes == 16 and store.schema.profile["given_boxes"] == "proposals"
        assert len(store.regions("1")) == 16  # the 30 equal boxes, of which one scores
    for other in ("found", "given2"):
        with pytest.raises(DataError, match="mixed extractions"):
            merge([tmp_path / "given.lmdb", tmp_path / f"{other}.lmdb"], tmp_path / "all.lmdb")


def test_boxes_lie_in_the_picture_as_it_is_seen(tmp_path, extractor):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40)).save(tmp_path / "a.png", exif=exif)  # seen as 40 x 80
    extractor.image(tmp_path / "a.png", boxes_px=np.float32([[0, 0, 40, 80]]))
    with pytest.raises(
        DataError, match="leaves its image of 40 x 80 px; .* after turning it by its EXIF tag"
    ):
        extractor.image(tmp_path / "a.png", boxes_px=np.float32([[0, 0, 80, 40]]))


WRONG = [
    ({"0": BOXES, "1": BOXES}, "2 of 3|1 of 3 images of .* have no boxes, first: 2"),
    ({"0": BOXES, "1": BOXES, "2": BOXES, "9": BOXES}, "image 9 is not in .*images.json"),
    ({"0": BOXES, "a/0.jpg": BOXES}, ":2: image 0 has boxes already"),
    ({"0": []}, ":1: image 0: has no boxes"),
    ({"0": [[1, 2, 3]]}, "rows of four numbers"),
    ({"0": "box"}, "rows of four numbers"),
    ({"0": [[1, 2, None, 4]]}, "rows of four numbers|finite"),
    ({"0": [[1, 2, 1e999, 4]]}, "box 1 is not of finite numbers"),
    ({"0": [[5, 2, 3, 4]]}, r"box 1 \[5, 2, 3, 4\] ends before it begins"),
    ({"0": BOXES, "1": [[0, 0, 9, 9], [0, 0, 65, 9]], "2": BOXES}, r"1: box 2 \[0, 0, 65, 9\] leaves"),
    ({"0": BOXES, "1": [[-1, 0, 10, 10]], "2": BOXES}, r"image 1: box 1 \[-1, 0, 10, 10\] leaves"),
    ({True: BOXES}, "image must be an id or a file name|not in"),
]  # fmt: skip


@pytest.mark.parametrize(("boxes", "told"), WRONG)
def test_wrong_boxes_are_one_line_before_anything_runs(tmp_path, capsys, weights, listing, boxes, told):
    path = write_boxes(tmp_path / "boxes.jsonl", boxes)
    assert extract(tmp_path, weights, listing, "a.lmdb", "--boxes", path) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(told, message) and "boxes.jsonl" in message, message
    assert [entry.name for entry in tmp_path.iterdir()] == ["boxes.jsonl"]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("b.json", "3", "must be a list of"),
        ("b.json", "[3]", "record 1: must be an object"),
        ("b.json", '[{"image": "0"}]', "boxes_px is missing"),
        ("b.json", '[{"image": "0", "boxes": []}]', "unknown key 'boxes'. Did you mean \"boxes_px\""),
        ("b.json", "{", "not valid JSON"),
        ("b.jsonl", '{"image": "0", "boxes_px": [[0, 0, 1, 1]]}\n{"image', "b.jsonl:2: not valid JSON"),
        ("b.jsonl", "\n", "names no image"),
    ],
)
def test_malformed_files_are_one_line(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=told) as error:
        GivenBoxes(tmp_path / name, "regions")
    assert "\n" not in str(error.value) and name in str(error.value)
