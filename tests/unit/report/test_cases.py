from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lxmert.errors import DataError
from lxmert.report.answers import common_answers, confusion
from lxmert.report.cases import choose_cases
from lxmert.report.outcomes import Labels, predicted_ids, read_labels
from lxmert.specs import read_document


@pytest.fixture
def labels(results_tree: Path) -> Labels:
    return read_labels(results_tree / "examples" / "vqa", "minival")


def test_truth_and_scores(labels: Labels) -> None:
    rows = np.arange(len(labels.columns))
    expected = np.where(rows % 17 == 16, -1, rows % 5)
    np.testing.assert_array_equal(labels.truth, expected)
    scores = labels.scores_of((rows % 5).astype(np.int32))
    wanted = np.where(rows % 17 == 16, 0, np.where(rows % 3 == 0, 0.6, 1.0))
    np.testing.assert_allclose(scores, wanted, atol=1e-6)
    assert labels.scores_of(np.full(len(rows), -1, np.int32)).sum() == 0
    assert labels.texts_of(3) == [("yes", pytest.approx(0.6))]
    assert labels.texts_of(16) == []


@pytest.mark.parametrize(("task", "ending"), [("vqa", "json"), ("gqa", "json"), ("nlvr2", "csv")])
def test_predictions_by_row(results_tree: Path, task: str, ending: str) -> None:
    split = {"vqa": "minival", "gqa": "testdev", "nlvr2": "valid"}[task]
    found = read_labels(results_tree / "examples" / task, split)
    path = results_tree / "results" / task / f"{split}_predict.{ending}"
    predicted = predicted_ids(read_document("task", task), found, path)
    assert predicted.dtype == np.int32 and 0.5 < (found.scores_of(predicted) > 0).mean() < 1


def test_a_missing_prediction_is_named(labels: Labels, tmp_path: Path) -> None:
    path = tmp_path / "minival_predict.json"
    path.write_text('[{"question_id": 1000, "answer": "red"}]')
    with pytest.raises(DataError, match="no answer to question 1001"):
        predicted_ids(read_document("task", "vqa"), labels, path)


def test_cases_are_balanced_distinct_and_stable(labels: Labels) -> None:
    predicted = np.where(np.arange(len(labels.truth)) % 2, labels.truth, 4).astype(np.int32)
    cases = choose_cases(labels, predicted, None, 2, 2)
    assert [case.is_right for case in cases] == [True, True, False, False]
    assert cases == choose_cases(labels, predicted, None, 2, 2)
    assert len({case.images for case in cases[:2]}) == 2
    assert all(case.blind_answer is None for case in cases)
    assert cases[2].score == 0 and cases[2].answer == "no"


def test_all_right_fills_up_with_right_ones(labels: Labels) -> None:
    cases = choose_cases(labels, labels.truth, np.full(len(labels.truth), -1, np.int32), 2, 2)
    assert [case.is_right for case in cases] == [True] * 4
    assert cases[0].blind_answer == "(outside the answer list)"
    assert choose_cases(labels, labels.truth, None, 0, 0) == []


def test_unlabelled_examples_are_never_shown(labels: Labels) -> None:
    cases = choose_cases(labels, labels.truth, None, 100, 100)
    assert all(case.truth for case in cases) and 0 < len(cases) <= 6  # one of each image


def test_confusion_counts_every_labelled_row() -> None:
    truth, predicted = np.array([0, 0, 1, 2, -1, 3]), np.array([0, 1, 1, 9, 0, -1])
    matrix = confusion(truth, predicted, [1, 0])
    assert matrix.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 2]]
    assert matrix.sum() == 5


def test_common_answers_stand_by_frequency(labels: Labels) -> None:
    answers = common_answers(labels, np.zeros(len(labels.truth), np.int32))
    counts = [(labels.truth == answer).sum() for answer in answers]
    assert counts == sorted(counts, reverse=True) and set(answers) == set(range(5))
