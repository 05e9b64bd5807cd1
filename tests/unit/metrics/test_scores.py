"""Scorers at their edges; their golden cases stand in tests/golden/scorers."""

from __future__ import annotations

import pytest

from lxmert.errors import DataError
from lxmert.metrics import vqa
from lxmert.metrics.checks import check_ids, mean
from lxmert.metrics.gqa import score_gqa
from lxmert.metrics.nlvr2 import score_nlvr2
from lxmert.metrics.vqa import normalise_answer, question_accuracy, score_labels, score_vqa


def record(number, answers, kind="other"):
    return {
        "question_id": number,
        "question_type": "what",
        "answer_type": kind,
        "answers": [{"answer": answer, "answer_id": i} for i, answer in enumerate(answers)],
    }


def test_tables_have_their_published_sizes():
    assert len(vqa._PUNCTUATION) == len(set(vqa._PUNCTUATION)) == 21
    assert len(vqa._PROPER) == 120 and len(vqa._DIGITS) == 12


def test_records_equal_in_every_field_count_as_one_person():
    same = [{"answer": "a"}] * 4 + [{"answer": "b"}] * 6
    assert question_accuracy("a", same) == pytest.approx(0.6)
    distinct = [{**item, "answer_id": i} for i, item in enumerate(same)]
    assert question_accuracy("a", distinct) == 1.0


@pytest.mark.parametrize(("agreeing", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (9, 1)])
def test_score_by_number_of_people(agreeing, score):
    records = record(1, ["a"] * agreeing + ["b"] * (10 - agreeing))["answers"]
    assert question_accuracy("a", records) == pytest.approx(score)


def test_three_questions():
    annotations = [
        {**record(1, ["red"] * 4 + ["b"] * 6), "question_type": "what color"},
        {**record(2, ["yes"] * 10, "yes/no"), "question_type": "is the"},
        {**record(3, ["2"] * 2 + ["3"] * 8, "number"), "question_type": "how many"},
    ]
    scores = score_vqa({1: "red", 2: "no", 3: "two"}, annotations)
    assert round(100 * scores["accuracy"], 2) == 53.33
    assert [scores[f"answer_type/{kind}"] for kind in ("other", "yes/no", "number")] == pytest.approx(
        [1, 0, 0.6]
    )


def test_no_questions():
    assert score_vqa({}, [])["accuracy"] == 0
    assert score_nlvr2({}, [])["accuracy"] == 0
    assert score_gqa({}, []) == {}
    assert score_labels({}, []) == {"label_score": 0, "oracle": 0}


def test_labels():
    labels = [("1", {"red": 0.6, "blue": 1.0}), ("2", {}), ("3", {"no": 0.3})]
    scores = score_labels({"1": "red", "2": "red", "3": "yes"}, labels)
    assert scores == {"label_score": pytest.approx(0.2), "oracle": pytest.approx(1.3 / 3)}


def test_first_five_ids_at_fault():
    with pytest.raises(DataError, match="7 of 9 questions have no prediction, first: 0, 1, 2, 3, 4\\."):
        score_vqa({7: "a", 8: "a"}, [record(i, ["a"]) for i in range(9)])
    with pytest.raises(
        DataError, match="6 predictions answer no question of this split, first: 1, 2, 3, 4, 5\\."
    ):
        score_vqa(dict.fromkeys(range(7), "a"), [record(0, ["a"])])
    with pytest.raises(DataError, match="1 ids occur twice among the references, first: 0"):
        score_vqa({0: "a"}, [record(0, ["a"])] * 2)
    assert score_vqa(dict.fromkeys(range(7), "a"), [record(0, ["a"] * 4)], strict=False)["accuracy"] == 1
    check_ids({}, [], [])


def test_the_mean_of_nothing():
    assert mean([]) == 0.0


def test_only_the_first_32_full_stops_go():
    assert normalise_answer("." * 40) == "." * 8
