"""Our GQA scores against what the official script gave (see make_gqa_nlvr2.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lxmert.errors import DataError
from lxmert.metrics.gqa import score_gqa

HERE = Path(__file__).parent
QUESTIONS, CHOICES, RECORD = (
    json.loads((HERE / f"gqa_{name}.json").read_text()) for name in ("questions", "choices", "predictions")
)
PREDICTIONS = RECORD["predictions"]


def test_every_score():
    scores = score_gqa(PREDICTIONS, QUESTIONS.items(), CHOICES, consistency=True)
    for name, value in RECORD["scores"].items():
        assert scores[name] == pytest.approx(value, abs=1e-6), name
    # Of "select: kite", "query: name" only the first is a step; the question has three words.
    assert scores["steps/01/count"] == scores["words/03/count"] == 7


def test_balanced_questions_suffice_without_consistency():
    balanced = {i: record for i, record in QUESTIONS.items() if record["isBalanced"]}
    given = {i: PREDICTIONS[i] for i in balanced}
    scores = score_gqa(given, balanced.items())
    assert scores["accuracy"] == pytest.approx(3 / 7)
    assert "consistency" not in scores and "validity" not in scores
    # Unbalanced questions that nobody answered do no harm either.
    assert score_gqa(given, QUESTIONS.items()) == scores
    with pytest.raises(DataError, match="00 entails 02"):
        score_gqa(given, balanced.items(), consistency=True)


def test_an_answer_outside_the_gold_answers_of_its_group_costs_only_the_miss():
    colours = [i for i in QUESTIONS if QUESTIONS[i]["groups"]["global"] == "color"]
    questions = {i: QUESTIONS[i] for i in colours}
    scores = score_gqa(dict.fromkeys(colours, "mauve"), questions.items())
    # Right answers: red once, blue twice. (0-1)^2/1 + (0-2)^2/2 = 3, over 100.
    assert scores["distribution"] == pytest.approx(0.03)


def test_no_group_gives_no_distribution():
    assert "distribution" not in score_gqa({"05": "left"}, [("05", QUESTIONS["05"])])


def test_ids_must_fit():
    rows = QUESTIONS.items()
    with pytest.raises(DataError, match="1 of 8 questions have no prediction, first: 04"):
        score_gqa({i: a for i, a in PREDICTIONS.items() if i != "04"}, rows)
    with pytest.raises(DataError, match="answer no question of this split, first: 4"):
        score_gqa({**PREDICTIONS, "4": "red"}, rows)
    with pytest.raises(DataError, match="03 has no choices"):
        score_gqa(PREDICTIONS, rows, {i: c for i, c in CHOICES.items() if i != "03"})
    assert score_gqa({**PREDICTIONS, "4": "red"}, rows, strict=False)["accuracy"] == pytest.approx(3 / 7)


def test_case_counts():
    assert score_gqa({"00": "Red"}, [("00", QUESTIONS["00"])])["accuracy"] == 0
