"""Examples whose images are missing: left out of training within bounds, elsewhere an error or answered."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lxmert.cli import main
from lxmert.data.batching import Examples
from lxmert.data.columns import Columns
from lxmert.data.region_record import StoreSchema
from lxmert.data.region_store import RegionStore
from lxmert.data.region_writer import RegionWriter
from lxmert.data.regions import RegionSource
from lxmert.data.store_listing import write_store_listing
from lxmert.errors import DataError
from lxmert.specs import load_plan, read_document
from lxmert.tasks.prepare_cli import prepare
from lxmert.tasks.score_cli import score
from lxmert.tasks.submission import meta_path, write_submission
from lxmert.types import Regions

TRAIN_IMAGES = [f"train-1-{pair}-img{image}" for pair in (0, 1) for image in (0, 1)]
DEV_IMAGES = [f"dev-3-{pair}-img{image}" for pair in (0, 1) for image in (0, 1)]


def run(
    tree: Any, task: str = "nlvr2", limit: float = 0.5, evaluated: str = "stop", **spec: Any
) -> dict[str, Columns]:
    document = read_document("task", task)
    trained = document.get("train_on", ["train"])
    rules = {"train": dict.fromkeys(trained, limit), "evaluated": evaluated}
    spec = {"min_answer_count": 2, "missing_images": rules, **spec}
    prepare(document, spec, tree.raw, tree.vocabulary, tree.listings, tree.out, None)
    return {path.stem: Columns(path) for path in sorted(tree.out.glob("*.safetensors"))}


def write_store(path: Path, ids: list[str]) -> Path:
    """Features of ones, so that no image is blank."""
    with RegionWriter(
        path, StoreSchema(4, "float16", 2, 5, 5, profile={"profile": "test", "version": 1})
    ) as writer:
        for name in sorted(ids):
            boxes = np.array([[0, 0, 5, 5], [1, 1, 8, 9]], np.float32)
            numbers, scores = np.zeros(2, np.int64), np.full(2, 0.5, np.float32)
            features = np.ones((2, 4), np.float16)
            writer.put(name, Regions(boxes, features, numbers, scores, numbers, scores, scores, 10, 10))
        writer.finish({})
    return path


def report(tree: Any) -> dict[str, Any]:
    return json.loads((tree.out / "missing.json").read_text())


def test_training_goes_without_a_few_and_says_so(tree, caplog):
    tree.listing("nlvr2_train", TRAIN_IMAGES[:3], None)  # one image of the second pair is nowhere
    with caplog.at_level(logging.WARNING):
        found = run(tree)
    train = found["train"]
    assert train.strings("id").to_list() == ["train-1-0-0"]
    assert train.strings("images").to_list() == [f"nlvr2_train/{name}" for name in TRAIN_IMAGES[:2]]
    assert (
        train.meta["left_out"] == 1 and train.meta["dropped"] == 0 and "left_out" not in found["valid"].meta
    )
    assert report(tree) == {
        "train": {
            "examples": 2,
            "left_out": 1,
            "limit": 0.5,
            "images": ["nlvr2_train/train-1-1-img1"],
        }
    }
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "nlvr2 train: 1 of 2 examples (50.00 %) are left out: 1 images are missing, first"
        " nlvr2_train/train-1-1-img1"
    ]


def test_more_than_the_limit_is_one_line(tree):
    tree.listing("nlvr2_train", TRAIN_IMAGES[:3], None)
    with pytest.raises(DataError) as caught:
        run(tree, limit=0.49)
    text = str(caught.value)
    assert "\n" not in text
    for words in (
        "train.json: record 2 (id train-1-1-0): image train-1-1-img1 of question train-1-1-0",
        "1 of 2 examples (50.00 %) would be left out, and 49.00 % may",
        "missing_images: {train: 0.5}",
    ):
        assert words in text
    assert not list(tree.out.glob("train*")) and not (tree.out / "missing.json").exists()


@pytest.mark.parametrize("split", ["valid", "test"])
def test_evaluated_splits_stop_unless_told_to_answer(tree, split):
    image_set, ids = {"valid": ("nlvr2_valid", DEV_IMAGES[1:]), "test": ("nlvr2_test", ["test1-9-0-img0"])}[
        split
    ]
    tree.listing(image_set, ids, None)
    with pytest.raises(DataError, match=r"missing_images: \{evaluated: answer\}"):
        run(tree, limit=1.0)
    assert not (tree.out / f"{split}.safetensors").exists()


def test_without_a_rule_a_missing_image_is_an_error(tree):
    tree.listing("nlvr2_train", TRAIN_IMAGES[:3], None)
    with pytest.raises(DataError, match="image train-1-1-img1 of question train-1-1-0 is not in image set"):
        prepare(read_document("task", "nlvr2"), {}, tree.raw, tree.vocabulary, tree.listings, tree.out, None)


def test_a_leaderboard_gets_every_id(tree, caplog):
    tree.listing("nlvr2_valid", DEV_IMAGES[1:], None)
    with caplog.at_level(logging.WARNING):
        valid = run(tree, evaluated="answer")["valid"]
    assert valid.strings("id").to_list() == ["dev-3-0-0", "dev-3-1-0", "dev-3-0-1"]
    assert valid.meta["unseen"] == 2 and valid.meta["absent_images"] == ["nlvr2_valid/dev-3-0-img0"]
    assert report(tree)["valid"]["answered_without_images"] == 2
    assert "nlvr2 valid: 2 of 3 examples (66.67 %) are answered without their images" in caplog.text


def test_every_answer_is_scored_and_the_score_says_which_saw_nothing(tree):
    tree.listing("nlvr2_valid", DEV_IMAGES[1:], None)
    valid = run(tree, evaluated="answer")["valid"]
    task, out = read_document("task", "nlvr2"), tree.root / "valid_predict.csv"
    write_submission(task, valid, ["False", "True"], np.array([1, 0, 1]), out, {"run": "mine"})
    assert [line.partition(",")[0] for line in out.read_text().splitlines()] == list(valid.strings("id"))
    assert json.loads(meta_path(out).read_text())["unseen"] == 2
    result = score(task, "valid", out, tree.out, tree.raw)
    assert result["count"] == 3 and result["official"]["accuracy"] == pytest.approx(2 / 3)
    assert result["left_out"] == {"images": "2 examples were answered without theirs, which are missing"}
    tree.listing("nlvr2_valid", DEV_IMAGES, None)
    tree.listing("nlvr2_train", TRAIN_IMAGES[:3], None)
    train = run(tree)["train"]
    write_submission(task, train, ["False", "True"], np.array([1]), out, {})
    result = score(task, "train", out, tree.out, tree.raw)
    assert result["count"] == 1 and result["left_out"] == {"examples": "1 whose images are missing"}


def test_images_without_regions_are_seen_as_blank(tree, tmp_path):
    tree.listing("nlvr2_valid", DEV_IMAGES[1:], None)
    run(tree, evaluated="answer")
    store = write_store(tmp_path / "nlvr2_valid.lmdb", DEV_IMAGES[1:])
    path = tree.out / "valid.safetensors"
    regions = RegionSource([store])
    every = Examples([path], regions, regions.feature_width)
    assert len(every) == 3
    batch = every.batch(np.arange(3), 2)
    sees = batch.features.abs().sum(dim=(1, 2)) > 0
    assert sees.tolist() == [False, True, True, True, False, True]  # left images of both sentences on pair 0
    kept = Examples([path], RegionSource([store]), regions.feature_width, leave_out=True)
    assert len(kept) == 1
    read = every.read_regions(["nlvr2_valid/dev-3-0-img0", "nlvr2_valid/dev-3-0-img1"])
    assert not read.features[0].any() and read.features[1].any()
    with pytest.raises(DataError, match="no regions for image dev-3-0-img0"):
        RegionSource([store]).require(["nlvr2_valid/dev-3-0-img0"], path)


def test_rows_that_published_features_lack(tree, tmp_path):
    """A listing made of a store, as the graph makes it of a published TSV, lacks what the store lacks."""
    store = write_store(tmp_path / "nlvr2_train.lmdb", TRAIN_IMAGES[:3])
    with RegionStore(store) as opened:
        assert len(opened) == 3
    write_store_listing("nlvr2_train", store, None, None, tree.root / "images" / "nlvr2_train.json")
    assert run(tree)["train"].meta["left_out"] == 1


def test_a_subset_still_drops_what_is_outside_it(tree):
    tree.listing("nlvr2_train", TRAIN_IMAGES[:2], 2)
    train = run(tree, limit=0.0)["train"]
    assert train.meta["dropped"] == 1 and "left_out" not in train.meta
    assert not (tree.out / "missing.json").exists()


def test_a_report_of_an_earlier_run_does_not_stay(tree):
    tree.listing("nlvr2_train", TRAIN_IMAGES[:3], None)
    run(tree)
    assert report(tree)
    tree.listing("nlvr2_train", TRAIN_IMAGES, None)
    run(tree)
    assert not (tree.out / "missing.json").exists()


def test_missing_examples_count_as_the_publishers(tree):
    tree.listing("nlvr2_train", TRAIN_IMAGES[:3], None)
    counts = {"train": {"examples": 2, "certain": True}}
    assert len(run(tree, counts=counts)["train"]) == 1
    with pytest.raises(DataError, match="gives 2 examples of nlvr2 train"):
        run(tree, counts={"train": {"examples": 3, "certain": True}})


def test_pretraining_goes_without_a_few_too(tree):
    tree.listing("vg_gqa", ["501", "502", "504", "n91", "n92"], None)  # 503 is nowhere
    found = run(tree, "pretrain", limit=0.5)
    assert found["train"].meta["left_out"] == report(tree)["train"]["left_out"] == 4
    assert report(tree)["train"]["images"] == ["vg_gqa/503"]
    assert sum(found["train"].meta["sentences"].values()) == len(found["train"])
    for path in tree.out.iterdir():
        path.unlink()
    with pytest.raises(DataError, match="would be left out, and 1.00 % may"):
        run(tree, "pretrain", limit=0.01)
    assert not list(tree.out.glob("*.safetensors"))  # neither split, since one may not be


def test_equal_input_gives_equal_bytes(tree):
    tree.listing("nlvr2_train", TRAIN_IMAGES[:3], None)
    tree.listing("nlvr2_valid", DEV_IMAGES[1:], None)
    written = []
    for _ in range(2):
        run(tree, evaluated="answer")
        written.append({path.name: path.read_bytes() for path in tree.out.iterdir()})
    assert written[0] == written[1] and len(written[0]) == 5


def test_a_listing_may_lack_images_that_questions_ask_about(tree, tmp_path, monkeypatch):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "n91.jpg").write_bytes(b"x")
    out = tmp_path / "listing.json"
    command = ["list-images", "--image-set", "gqa_testdev", "--folder", str(folder), "--out", str(out)]
    command += ["--only-gqa", str(tree.raw / "gqa/testdev_balanced_questions.json")]
    assert main(command) == 2
    assert main([*command, "--allow-missing"]) == 0
    out.unlink()
    monkeypatch.setenv("LXMERT_MISSING_IMAGES", "answer")
    assert main(command) == 0
    assert [image["id"] for image in json.loads(out.read_text())["images"]] == ["n91"]


def test_the_verb_takes_rules_that_are_no_part_of_its_spec(tree, monkeypatch, capsys):
    tree.listing("nlvr2_train", TRAIN_IMAGES[:3], None)
    tree.listing("nlvr2_valid", DEV_IMAGES[1:], None)
    plan = load_plan({"tasks": ["nlvr2"]})
    command = ["prepare", "--task", "nlvr2", "--spec", plan.prepare_spec("nlvr2"), "--raw", str(tree.raw)]
    command += ["--vocabulary", str(tree.vocabulary), "--listings", *map(str, tree.listings)]
    command += ["--out-folder", str(tree.out)]
    assert main(command) == 2 and "50.00 %) would be left out, and 1.00 % may" in capsys.readouterr().err
    assert main([*command, "--missing-limit", "0.5"]) == 2
    assert "missing_images: {evaluated: answer}" in capsys.readouterr().err
    assert main([*command, "--missing-limit", "0.5", "--missing-images", "answer"]) == 0
    made = {path.name: path.read_bytes() for path in tree.out.iterdir()}
    assert report(tree)["train"]["left_out"] == 1 and report(tree)["valid"]["answered_without_images"] == 2
    monkeypatch.setenv("LXMERT_MISSING_IMAGES", "answer")
    monkeypatch.setenv("LXMERT_MISSING_LIMIT", "0.5")
    assert main(command) == 0
    assert {path.name: path.read_bytes() for path in tree.out.iterdir()} == made
    monkeypatch.setenv("LXMERT_MISSING_LIMIT", "2")
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert "argument --missing-limit: 2: give a share from 0 to 1" in capsys.readouterr().err


def test_examples_of_a_laxer_rule_are_those_of_a_stricter_one(tree):
    written = []
    for limit, evaluated in ((0.0, "stop"), (0.5, "answer")):
        run(tree, limit=limit, evaluated=evaluated)
        written.append({path.name: path.read_bytes() for path in tree.out.iterdir()})
    assert written[0] == written[1] and len(written[0]) == 4


@pytest.mark.parametrize(
    ("config", "nlvr2", "vqa"),
    [
        ({}, 0.01, 0.01),
        ({"features": "extract", "nlvr2_images": "crawl"}, 0.5, 0.01),
        ({"features": "download", "nlvr2_images": "crawl"}, 0.01, 0.01),
        ({"features": "extract", "nlvr2_images": "crawl", "missing_images": {"train": 0.2}}, 0.5, 0.01),
    ],
)
def test_limits_of_the_documents_and_of_config(config, nlvr2, vqa):
    plan = load_plan({"corpus": "full", **config})
    assert plan.missing_limit == ("0.2" if "missing_images" in config else "")
    for task, limit, splits in (("nlvr2", nlvr2, ["train"]), ("vqa", vqa, ["train", "nominival"])):
        settings = json.loads(plan.prepare_spec(task))["missing_images"]
        assert settings == {"train": dict.fromkeys(splits, limit), "evaluated": "stop"}
    assert "missing_images" not in json.loads(plan.prepare_spec("nlvr2"))["task"]
