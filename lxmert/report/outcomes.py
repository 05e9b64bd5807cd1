"""What a run answered to a split, row by row beside the labels, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.data.answers import read_answers
from lxmert.data.columns import Columns
from lxmert.errors import DataError
from lxmert.tasks.submission import read_predictions

NO_ANSWER = -1


@dataclass(frozen=True)
class Labels:
    """A split with its labels.

    Attributes:
        columns: its examples.
        answers: answer strings, position = id.
        truth: int32 [N], the best-scored answer of each example, -1 where it has no label.
    """

    columns: Columns
    answers: list[str]
    truth: np.ndarray

    def scores_of(self, predicted: np.ndarray) -> np.ndarray:
        """float32 [N], the label's score of each predicted answer; 0 where it is no label.

        Args:
            predicted: int32 [N], answer ids.
        """
        ids, scores = self.columns.ragged("answer_ids"), self.columns.ragged("answer_scores")
        rows = np.repeat(np.arange(len(ids)), ids.lengths())
        hit = np.asarray(ids.values) == predicted[rows]
        return np.bincount(rows[hit], np.asarray(scores.values)[hit], len(ids)).astype(np.float32)

    def seen(self) -> np.ndarray:
        """Whether every image of each example is there, bool [N]."""
        absent = set(self.columns.meta.get("absent_images", ()))
        image = np.asarray(self.columns.array("image"))
        if not absent:
            return np.ones(len(image), bool)
        here = np.array([name not in absent for name in self.columns.strings("images")], bool)
        return here[image].reshape(len(image), -1).all(axis=1)

    def texts_of(self, row: int) -> list[tuple[str, float]]:
        """(answer, score) of one example, best first."""
        ids, scores = self.columns.ragged("answer_ids")[row], self.columns.ragged("answer_scores")[row]
        order = np.argsort(-scores, kind="stable")
        return [(self.answers[int(ids[place])], float(scores[place])) for place in order]


def read_labels(folder: Path, split: str) -> Labels:
    """The labels of a split.

    Args:
        folder: of a task's examples.
        split: its name.

    Raises:
        DataError: a file is missing or faulty.
    """
    answers = read_answers(folder / "answers.json")
    columns = Columns(folder / f"{split}.safetensors")
    return Labels(columns, answers, best_labels(columns))


def best_labels(columns: Columns) -> np.ndarray:
    """int32 [N]: the first of the best-scored answers of each example, -1 where there is none."""
    ids, scores = columns.ragged("answer_ids"), columns.ragged("answer_scores")
    lengths = ids.lengths()
    rows = np.repeat(np.arange(len(ids)), lengths)
    order = np.lexsort((-np.asarray(scores.values), rows))
    truth = np.full(len(ids), NO_ANSWER, np.int32)
    some = lengths > 0
    truth[some] = np.asarray(ids.values)[order[np.asarray(ids.offsets[:-1])[some]]]
    return truth


def predicted_ids(task: dict[str, Any], labels: Labels, path: Path) -> np.ndarray:
    """int32 [N], what a submission file answers to each example; -1 for answers outside the list.

    Raises:
        DataError: the file is faulty, or has no answer to an example.
    """
    index = {answer: number for number, answer in enumerate(labels.answers)}
    given = read_predictions(task, path)
    predicted = np.empty(len(labels.columns), np.int32)
    for row, example_id in enumerate(labels.columns.strings("id")):
        if example_id not in given:
            raise DataError(
                f"{path}: no answer to question {example_id} of {labels.columns.path}. Predict again."
            )
        predicted[row] = index.get(given[example_id], NO_ANSWER)
    return predicted
