"""Regions of single images: printed, drawn, kept; equal to what extraction puts into a store."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from detector_scenes import ATTRIBUTES, OBJECTS, micro_documents, write_raw
from PIL import Image

from lxmert.cli import main
from lxmert.data.formats.arrays import read_npz
from lxmert.data.formats.npz import plain_regions
from lxmert.data.region_store import RegionStore
from lxmert.detector.documents import parse_size
from lxmert.detector.model import build_detector, save_detector
from lxmert.specs.documents import read_document


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_raw(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    size, _ = micro_documents()
    size["classes"] = {"objects": 3, "attributes": 3}
    path = tmp_path_factory.mktemp("weights") / "detector.safetensors"
    names = {"objects": list(OBJECTS), "attributes": list(ATTRIBUTES)}
    save_detector(path, build_detector(parse_size(size), 1, head_std=0.05), names)
    return path


def describe(images, weights: Path, *options: object) -> int:
    arguments = [*images, "--weights", weights, *options]
    return main(["--threads", "1", "describe", *map(str, arguments)])


def pictures(scenes) -> list[Path]:
    return [scenes[0] / "vg" / "VG_100K" / f"{number}.jpg" for number in (1, 3)]


def test_a_table_is_printed_best_first(scenes, weights, capsys):
    assert describe(pictures(scenes), weights, "--profile", "sample-16", "--show", 3) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 5 and lines[0].endswith("1.jpg: 80 x 64 px, 12 regions of 8 features")
    assert any(name in lines[2] for name in OBJECTS) and any(name in lines[2] for name in ATTRIBUTES)


def test_json_drawing_and_arrays_agree_with_a_store(tmp_path, scenes, weights, capsys):
    images = pictures(scenes)
    assert describe(images, weights, "--profile", "sample-16", "--json", "--out", tmp_path / "out") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.npz", "1.png", "3.npz", "3.png"]
    spec = json.dumps({"profile": read_document("profile", "sample-16")})
    extract = ["--threads", "1", "extract", "--spec", spec, "--weights", weights, "--listing", scenes[1]]
    assert main([*map(str, extract), "--state", str(tmp_path / "s"), "--out", str(tmp_path / "a.lmdb")]) == 0
    with RegionStore(tmp_path / "a.lmdb") as store:
        for image, printed in zip(images, found, strict=True):
            stored = store.regions(image.stem)
            kept = plain_regions(read_npz((tmp_path / "out" / f"{image.stem}.npz").read_bytes()))
            for name in ("boxes_px", "features", "object_ids", "attribute_scores", "selection_scores"):
                np.testing.assert_array_equal(getattr(kept, name), getattr(stored, name), err_msg=name)
            assert printed["boxes"] == len(stored) and printed["width"] == stored.width
            scores = [region["selection_score"] for region in printed["regions"]]
            assert scores == sorted(scores, reverse=True) and len(scores) == min(10, len(stored))
            best = printed["regions"][0]
            assert best["object"] == OBJECTS[stored.object_ids[best["row"]]]
            np.testing.assert_allclose(best["box_px"], stored.boxes_px[best["row"]], atol=0.051)
    with Image.open(tmp_path / "out" / "1.png") as drawn:
        assert max(drawn.size) == 1000
    # A folder of such files is a form of its own.
    bring = ["store", "import", "--form", "npz", "--source", str(tmp_path / "out"), "--like"]
    assert main([*bring, str(tmp_path / "a.lmdb"), "--out", str(tmp_path / "b.lmdb")]) == 0


def test_given_boxes_are_described_as_they_are(tmp_path, scenes, weights, capsys):
    boxes = [[2.0, 3.0, 40.0, 50.5], [0.0, 0.0, 80.0, 64.0]]
    (tmp_path / "boxes.jsonl").write_text(json.dumps({"image": "1.jpg", "boxes_px": boxes}))
    options = ("--boxes", tmp_path / "boxes.jsonl", "--out", tmp_path / "out", "--profile", "sample-16")
    assert describe(pictures(scenes)[:1], weights, *options) == 0
    kept = plain_regions(read_npz((tmp_path / "out" / "1.npz").read_bytes()))
    np.testing.assert_array_equal(kept.boxes_px, np.float32(boxes))
    capsys.readouterr()
    assert describe(pictures(scenes), weights, *options) == 2
    assert "image 3 has no boxes. Known: 1." in capsys.readouterr().err


def test_images_that_cannot_be_read_do_not_stop_the_others(tmp_path, scenes, weights, capsys):
    (tmp_path / "text.jpg").write_text("<html>")
    images = [tmp_path / "text.jpg", *pictures(scenes), tmp_path / "none.jpg"]
    assert describe(images, weights, "--profile", "sample-16", "--json") == 2
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert "2 of 4 images failed, first: " in printed.err.splitlines()[-1]
    assert "text.jpg: cannot be read as an image (not an image)" in printed.err.splitlines()[-1]


def test_wrong_calls_are_one_line(tmp_path, scenes, weights, capsys):
    other = tmp_path / "1.png"
    Image.new("RGB", (9, 9)).save(other)
    (tmp_path / "names.txt").write_text("a\nb")
    image = pictures(scenes)[0]
    for images, options, told in (
        ([image, other], (), "has the id 1 of"),
        ([image], ("--show", -1), "--show -1: must be 0 or more"),
        ([image], ("--objects", tmp_path / "names.txt"), "names 2 objects, .* has 3"),
        ([image], ("--profile", "sample16"), "sample-16"),
        ([image], ("--boxes", tmp_path / "none.json"), "none.json: no such file"),
    ):
        assert describe(images, weights, *options) == 2
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert re.search(told, message), message
