"""Files of answers from anywhere, checked against the questions of a server's phase."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lxmert.cli import main
from lxmert.errors import DataError
from lxmert.specs import read_document
from lxmert.tasks.check_cli import published_count, split_of_phase

VQA = [{"question_id": 91001, "answer": "red"}, {"question_id": 92001, "answer": ""}]
GQA = [{"questionId": number, "prediction": "no"} for number in ("0201", "0101", "0003")]


# Questions of VQA's test2015, GQA's submission_all, NLVR2's dev, test1 and test2.
PUBLISHED = {
    ("vqa", "test"): 447_793,
    ("gqa", "submit"): 4_237_524,
    ("nlvr2", "valid"): 6_982,
    ("nlvr2", "test"): 6_967,
    ("nlvr2", "hidden"): 6_970,
}


def check(tree: Any, task: str, phase: str, text: str) -> int:
    path = tree.root / "answers"
    path.write_text(text)
    return main(["check-submission", str(path), "--task", task, "--phase", phase, "--raw", str(tree.raw)])


@pytest.mark.parametrize(
    ("task", "phase", "text"),
    [
        ("vqa", "test-dev", json.dumps(VQA)),
        ("vqa", "test-standard", json.dumps(VQA[::-1])),
        ("vqa", "test-challenge", json.dumps(VQA)),
        ("gqa", "test-dev", json.dumps(GQA)),
        ("nlvr2", "test-p", "test1-9-0-0,True\n"),
        ("nlvr2", "valid", "dev-3-0-0,True\ndev-3-0-1,False\ndev-3-1-0,True\n"),
    ],
)
def test_what_a_phase_takes(tree, capsys, task, phase, text):
    assert check(tree, task, phase, text) == 0
    captured = capsys.readouterr()
    assert f"fit for {phase}" in captured.out
    assert "the publisher's file" in captured.err  # the tree holds a handful of the published questions


@pytest.mark.parametrize(
    ("task", "phase", "text", "words"),
    [
        # Of test2015 the server wants all, also where it scores a part.
        ("vqa", "test-dev", json.dumps(VQA[:1]), "1 of 2 questions have no prediction, first: 92001"),
        ("vqa", "test-dev", json.dumps([*VQA, VQA[0]]), "id 91001 is answered twice"),
        ("vqa", "test-dev", json.dumps([*VQA, {"question_id": 5, "answer": "x"}]), "first: 5"),
        ("vqa", "test-dev", "[]", "2 of 2 questions have no prediction, first: 91001, 92001"),
        ("vqa", "test-challenge", json.dumps([{**VQA[0], "question_id": 5}, VQA[1]]), "first: 91001"),
        ("vqa", "test-dev", json.dumps([{**VQA[0], "question_id": "91001"}]), "must be integer"),
        ("vqa", "test-dev", json.dumps([{**VQA[0], "answer": 3}]), "must be text"),
        ("vqa", "test-dev", json.dumps([VQA[0], {**VQA[1], "answer": "a\tb"}]), "holds a tab"),
        (
            "vqa",
            "test-dev",
            "\n".join(map(json.dumps, VQA)),
            "answers",
        ),  # JSON lines: the server says Extra data
        ("gqa", "test-dev", json.dumps(GQA[1:]), "first: 0201"),
        ("gqa", "test-dev", json.dumps([{**GQA[0], "prediction": ""}, *GQA[1:]]), "is empty"),
        ("nlvr2", "test-p", "test1-9-0-0, True\n", "without blanks"),
        ("nlvr2", "test-p", "test1-9-0-0,1\n", "must be True or False"),
        ("nlvr2", "test-x", "", "has no such phase or split"),
    ],
)
def test_what_it_refuses(tree, capsys, task, phase, text, words):
    assert check(tree, task, phase, text) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in last


def test_phases_name_splits():
    for name, phases in (("vqa", 3), ("gqa", 3), ("nlvr2", 3)):
        task = read_document("task", name)
        assert len(task["phases"]) == phases
        for phase, split in task["phases"].items():
            assert split_of_phase(task, phase) == split and split in task["splits"]
            assert published_count(task, split) == PUBLISHED[name, split]
    with pytest.raises(DataError, match="tset-dev.*test-dev"):
        split_of_phase(read_document("task", "vqa"), "tset-dev")
