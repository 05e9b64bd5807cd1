"""Visual Genome's boxes: cleaning, vocabularies, splits, rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from detector_scenes import write_raw

from lxmert.detector.vg_data import (
    clean_attribute,
    clean_object,
    clean_string,
    load_rows,
    read_split,
    read_vocabulary,
)
from lxmert.errors import DataError
from lxmert.specs.documents import read_document


def test_cleaning_rules():
    assert clean_string("  A Dog. ") == "a dog"
    assert clean_string("etc..") == "etc."  # one full stop goes
    assert clean_object("Small RED ball") == ("ball", ["small", "red"])
    assert clean_object("fire truck") == ("fire truck", [])
    assert clean_object("red fire truck") == ("red fire truck", [])
    assert clean_object("red") == ("red", [])
    assert clean_attribute("Black and white") == ["black and white"]
    assert clean_attribute("red and  round.") == ["red", "round"]


def test_vocabulary(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("Ball, sphere\nbox\nround thing,sphere")
    found = read_vocabulary(path)
    assert found.names == ("ball", "box", "round thing")
    assert found.ids == {"ball": 0, "sphere": 2, "box": 1, "round thing": 2}
    path.write_text("ball\n\nbox\n")
    with pytest.raises(DataError, match=":2: empty line"):
        read_vocabulary(path)


def test_published_vocabularies(shared_data):
    objects = read_vocabulary(shared_data / "butd" / "objects_vocab.txt")
    attributes = read_vocabulary(shared_data / "butd" / "attributes_vocab.txt")
    relations = read_vocabulary(shared_data / "butd" / "relations_vocab.txt")
    assert (len(objects), len(attributes), len(relations)) == (1600, 400, 20)
    assert objects.sha256 == "d985096938db111f585a311ff0a2ee9092fbc325c3a619ac9622e57e5389722f"
    assert len(attributes.ids) <= 410 and len(relations.ids) == 106


def test_rows(tmp_path):
    raw, listing = write_raw(tmp_path)
    objects, attributes = (
        read_vocabulary(raw / "vg" / f"{name}_vocab.txt") for name in ("objects", "attributes")
    )
    rows = load_rows(raw, "train", listing, objects, attributes)
    assert rows.ids == tuple("123456") and rows.offsets[-1] == len(rows.classes)
    assert (
        rows.classes.min() >= 1 and (rows.attributes[:, 0] > 0).all() and (rows.attributes[:, 1:] == 0).all()
    )
    assert rows.wide.tolist() == [True, True, False] * 2
    boxes, classes, ids = rows.clipped(0, 64, 80)
    assert boxes.dtype == np.float32 and classes.dtype == ids.dtype == np.int64


def change(raw, name, edit):
    path = raw / "vg" / name
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def test_boxes_are_clipped_cut_and_mended(tmp_path):
    raw, listing = write_raw(tmp_path)

    def edit(document):
        document[0]["objects"] = [
            {"object_id": 1, "x": -3.5, "y": 2.7, "w": 500, "h": 10, "names": ["red ball"]},
            {"object_id": 2, "x": 200, "y": 0, "w": 5, "h": 5, "names": ["box"]},
            {"object_id": 3, "x": 0, "y": 0, "w": 5, "h": 5, "names": ["unicorn"]},
            {"object_id": 4, "x": 0, "y": 0, "w": 5, "h": 5, "names": []},
        ]

    change(raw, "scene_graphs.json", edit)
    objects, attributes = (
        read_vocabulary(raw / "vg" / f"{name}_vocab.txt") for name in ("objects", "attributes")
    )
    rows = load_rows(raw, "train", listing, objects, attributes)
    boxes, classes, ids = rows.clipped(0, 64, 80)
    assert boxes.tolist() == [[0, 2, 79, 12], [0, 0, 79, 63]]  # inside out: the whole image
    assert classes.tolist() == [1, 2]
    assert 1 in ids[0]  # "red" split off the name


def test_images_without_known_objects_are_left_out(tmp_path):
    raw, listing = write_raw(tmp_path)
    change(raw, "scene_graphs.json", lambda document: document[2].update(objects=[]))
    vocabularies = [read_vocabulary(raw / "vg" / f"{name}_vocab.txt") for name in ("objects", "attributes")]
    assert load_rows(raw, "train", listing, *vocabularies).ids == tuple("12456")
    document = json.loads(listing.read_text())
    document["images"] = document["images"][:2]
    listing.write_text(json.dumps(document))
    assert load_rows(raw, "train", listing, *vocabularies).ids == tuple("12")
    with pytest.raises(DataError, match="none of the 2 images of split val"):
        load_rows(raw, "val", listing, *vocabularies)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("scene_graphs.json", "{", "not valid JSON"),
        ("scene_graphs.json", "{}", "not valid JSON: expecting"),
        ("scene_graphs.json", '[{"image_id": 1}]', "no list of objects"),
        ("scene_graphs.json", '[{"image_id": 1, "objects": [{"names": ["ball"]}]}]', "without box"),
        (
            "attributes.json",
            '[{"image_id": 1, "attributes": [{"attributes": ["red"]}]}]',
            "without object_id",
        ),
        ("splits/train.txt", "1\n", ":1: must begin with an image path"),
    ],
)
def test_malformed_files_are_named(tmp_path, name, text, words):
    raw, listing = write_raw(tmp_path)
    vocabularies = [read_vocabulary(raw / "vg" / f"{kind}_vocab.txt") for kind in ("objects", "attributes")]
    (raw / "vg" / name).write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        load_rows(raw, "train", listing, *vocabularies)
    assert name.split("/")[-1] in str(caught.value) and "\n" not in str(caught.value)


def test_split_files(tmp_path):
    path = tmp_path / "s.txt"
    path.write_text("VG_100K_2/12.jpg xml/12.xml\n\nVG_100K/3.jpg xml/3.xml\n")
    assert read_split(path) == ["12", "3"]


def test_objects_are_of_the_release_that_attributes_are_of(tmp_path):
    """`objects.json` is another release, whose ids differ: whatever it holds, rows are the same."""
    raw, listing = write_raw(tmp_path)
    vocabularies = [read_vocabulary(raw / "vg" / f"{name}_vocab.txt") for name in ("objects", "attributes")]
    before = load_rows(raw, "train", listing, *vocabularies)
    (raw / "vg" / "objects.json").write_text('[{"image_id": 1, "objects": []}]')
    after = load_rows(raw, "train", listing, *vocabularies)
    assert np.array_equal(before.boxes, after.boxes) and before.attributes.any()
    dataset = read_document("dataset", "visual_genome")
    read = {name for name, entry in dataset["files"].items() if entry.get("detector")}
    assert {"vg/scene_graphs.json", "vg/attributes.json"} <= read and "vg/objects.json" not in read
