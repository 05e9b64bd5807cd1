"""Our VQA score against what the official script gave for the same input (see make_vqa.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lxmert.metrics.vqa import normalise_answer, question_accuracy, score_vqa

HERE = Path(__file__).parent
RECORD = json.loads((HERE / "vqa_score.json").read_text())
NORMALISED = [line.split("\t") for line in (HERE / "vqa_norm.tsv").read_text().splitlines()]


def test_the_fixtures_are_whole():
    assert len(NORMALISED) > 200 and len(RECORD["questions"]) == len(RECORD["annotations"]) > 200


def test_normalised_answers():
    wrong = {
        text: (wanted, normalise_answer(json.loads(text)))
        for text, wanted in NORMALISED
        if normalise_answer(json.loads(text)) != json.loads(wanted)
    }
    assert not wrong


@pytest.mark.parametrize("row", range(15))
def test_documented_questions(row):
    check_question(RECORD["annotations"][row])


def test_random_questions():
    assert sum(0 < score < 1 for score in RECORD["questions"].values()) > 50
    for annotation in RECORD["annotations"]:
        check_question(annotation)


def check_question(annotation):
    number = str(annotation["question_id"])
    score = question_accuracy(RECORD["predictions"][number], annotation["answers"])
    assert score == pytest.approx(RECORD["questions"][number], abs=1e-6)


def test_totals():
    predictions = {int(number): answer for number, answer in RECORD["predictions"].items()}
    scores = score_vqa(predictions, RECORD["annotations"])
    assert scores["accuracy"] == pytest.approx(RECORD["overall"], abs=1e-6)
    for kind in ("question_type", "answer_type"):
        for name, value in RECORD[kind].items():
            assert scores[f"{kind}/{name}"] == pytest.approx(value, abs=1e-6)
