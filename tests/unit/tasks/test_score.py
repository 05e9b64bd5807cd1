"""The verb `score`: official and label scores, chance, and what cannot be scored."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from lxmert.cli import main
from lxmert.data.answers import read_answers
from lxmert.data.columns import Columns
from lxmert.errors import DataError
from lxmert.specs import read_document
from lxmert.tasks.prepare_cli import prepare
from lxmert.tasks.score_cli import most_frequent_answer, score
from lxmert.tasks.submission import write_submission


def predicted(tree: Any, task: str, split: str, chosen: list[str]) -> Any:
    document = read_document("task", task)
    folder = tree.out / task
    if not folder.exists():
        prepare(document, {"min_answer_count": 2}, tree.raw, tree.vocabulary, tree.listings, folder, None)
    answers = read_answers(folder / "answers.json")
    out = tree.root / f"{split}_predict.{document['submission']['form']}"
    rows = np.array([answers.index(answer) for answer in chosen], dtype=np.int64)
    write_submission(document, Columns(folder / f"{split}.safetensors"), answers, rows, out, {"run": "mine"})
    return document, split, out, folder, tree.raw


def test_vqa_minival(tree):
    result = score(*predicted(tree, "vqa", "minival", ["yes"]))
    assert result["official"]["accuracy"] == 1.0 and result["metrics"] == {"label_score": 1.0, "oracle": 1.0}
    assert (result["task"], result["split"], result["count"], result["run"]) == ("vqa", "minival", 1, "mine")
    # red has 1.0 + 0.6 + 1.0 over train and nominival, yes has 1.0.
    assert result["chance"]["answer"] == "red" and result["chance"]["official"]["accuracy"] == 0.0
    assert result["official"]["answer_type/yes/no"] == 1.0


def test_official_and_label_scores_stay_apart(tree):
    result = score(*predicted(tree, "vqa", "train", ["red", "yes", "red", "yes"]))
    # "Red" counts for the official score only; nobody called the last thing "yes".
    assert result["official"]["accuracy"] == pytest.approx((1 + 1 + 0.6 + 0) / 4)
    assert result["metrics"] == {"label_score": pytest.approx(0.65), "oracle": pytest.approx(0.65)}


def write_choices(tree: Any) -> None:
    choices = {"0003": {"valid": ["red", "blue"], "plausible": ["blue"]}, "9": {"valid": [], "plausible": []}}
    (tree.raw / "gqa/val_choices.json").write_text(json.dumps(choices))


def test_gqa_testdev_and_valid(tree):
    result = score(*predicted(tree, "gqa", "testdev", ["red", "yes"]))
    assert result["official"]["accuracy"] == 0.5
    assert (result["official"]["open"], result["official"]["binary"]) == (1.0, 0.0)
    assert "validity" not in result["official"] and "consistency" not in result["official"]
    assert result["chance"]["answer"] == "blue"  # one each; the first of equals
    write_choices(tree)
    result = score(*predicted(tree, "gqa", "valid", ["red"]))
    assert (result["official"]["validity"], result["official"]["plausibility"]) == (1.0, 0.0)


def test_gqa_consistency_when_all_questions_are_answered(tree):
    document, split, out, folder, raw = predicted(tree, "gqa", "testdev", ["red", "yes"])
    testdev = json.loads((raw / "gqa/testdev_balanced_questions.json").read_text())
    testdev["0101"]["entailed"] = ["0101", "0199"]
    testdev["0199"] = {**testdev["0102"], "isBalanced": False}
    (raw / "gqa/testdev_all_questions.json").write_text(json.dumps(testdev))
    answers = json.loads(out.read_text())
    out.write_text(json.dumps([*answers, {"questionId": "0199", "prediction": "no"}]))
    result = score(document, split, out, folder, raw)
    assert result["official"]["consistency"] == 1.0 and result["official"]["accuracy"] == 0.5
    assert result["count"] == 2


def test_gqa_testdev_all_has_every_metric_that_is_public(tree):
    result = score(*predicted(tree, "gqa", "testdev_all", ["red", "yes", "yes"]))
    assert (result["count"], result["official"]["accuracy"], result["official"]["consistency"]) == (
        3,
        0.5,
        0.0,
    )


def test_what_a_score_leaves_out_is_said(tree):
    balanced = score(*predicted(tree, "gqa", "testdev", ["red", "yes"]))
    every = score(*predicted(tree, "gqa", "testdev_all", ["red", "yes", "yes"]))
    names = {"grounding", "validity", "plausibility"}
    assert set(balanced["left_out"]) == {*names, "consistency"} and set(every["left_out"]) == names
    assert "public for valid alone" in every["left_out"]["validity"]
    assert not set(every["left_out"]) & set(every["official"])
    write_choices(tree)
    valid = score(*predicted(tree, "gqa", "valid", ["red"]))
    assert set(valid["left_out"]) == {"grounding", "consistency"}
    assert "left_out" not in score(*predicted(tree, "nlvr2", "valid", ["True", "False", "True"]))


def test_nlvr2_valid(tree):
    result = score(*predicted(tree, "nlvr2", "valid", ["True", "False", "True"]))
    assert result["official"]["accuracy"] == pytest.approx(2 / 3)
    assert result["official"]["consistency"] == 0.5
    assert result["chance"]["answer"] == "False"
    assert result["metrics"]["label_score"] == pytest.approx(2 / 3)


def test_splits_without_public_answers(tree):
    with pytest.raises(
        DataError, match="answers of gqa submit are not public.*train, valid, testdev, testdev_all"
    ):
        score(*predicted(tree, "gqa", "submit", ["red", "red", "red"]))


def test_predictions_of_another_split_name_the_file(tree):
    document, _, out, folder, raw = predicted(tree, "vqa", "minival", ["yes"])
    with pytest.raises(
        DataError, match=r"minival_predict.json: 2 of 2 questions have no prediction, first: 12001"
    ):
        score(document, "nominival", out, folder, raw)
    with pytest.raises(DataError, match='no such split.*Did you mean "minival"'):
        score(document, "minval", out, folder, raw)


def test_a_subset_is_scored_on_its_own_questions(tree):
    tree.listing("nlvr2_valid", ["dev-3-1-img0", "dev-3-1-img1"], 2)
    result = score(*predicted(tree, "nlvr2", "valid", ["False"]))
    assert result["count"] == 1 and result["subset"] == 2 and result["official"]["accuracy"] == 1.0


def test_a_subset_of_all_questions_is_too(tree):
    def entail(records):
        records["0102"]["entailed"] = ["0103", "0101"]  # 0101 asks about an image outside the subset
        records["0102"]["answer"] = records["0103"]["answer"] = "yes"

    tree.change("gqa/testdev_all_questions.json", entail)
    tree.listing("gqa_testdev", ["n92"], 1)
    result = score(*predicted(tree, "gqa", "testdev_all", ["yes", "yes"]))
    assert result["count"] == 2 and result["subset"] == 1
    assert result["official"]["accuracy"] == result["official"]["consistency"] == 1.0
    result = score(*predicted(tree, "gqa", "testdev_all", ["yes", "red"]))
    assert (result["official"]["accuracy"], result["official"]["consistency"]) == (1.0, 0.0)


def test_faulty_annotations_are_one_line(tree):
    arguments = predicted(tree, "vqa", "minival", ["yes"])
    tree.change("vqa/v2_mscoco_val2014_annotations.json", lambda v: v["annotations"][0].pop("question_type"))
    with pytest.raises(DataError, match="record 0 .id 11001.*question_type"):
        score(*arguments)
    arguments = predicted(tree, "gqa", "testdev", ["red", "yes"])
    tree.change("gqa/testdev_balanced_questions.json", lambda v: v["0102"].pop("isBalanced"))
    with pytest.raises(DataError, match="0102.*isBalanced"):
        score(*arguments)


def test_most_frequent_answer(tree):
    document, _, _, folder, _ = predicted(tree, "nlvr2", "valid", ["False"] * 3)
    assert most_frequent_answer(document, folder, ["False", "True"]) == "False"


def test_the_verb(tree, capsys):
    document, split, out, folder, raw = predicted(tree, "nlvr2", "test", ["True"])
    target = tree.root / "score.json"
    arguments = [
        "score",
        "--task",
        "nlvr2",
        "--split",
        split,
        "--predictions",
        str(out),
        "--examples",
        str(folder),
    ]
    arguments += ["--raw", str(raw), "--out", str(target), "--spec", json.dumps({"task": document})]
    assert main(arguments) == 0
    assert json.loads(target.read_text())["official"]["accuracy"] == 1.0
    out.write_text("test1-9-0-0, True\n")
    assert main(arguments) == 2
    assert "without blanks" in capsys.readouterr().err.splitlines()[-1]
