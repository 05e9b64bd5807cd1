"""Examples to look at: which ones, and what the run and its blind twin said to them."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lxmert.report.outcomes import Labels

# Half of the people who answered agree: what counts as right where labels are soft.
RIGHT = 0.5
_LOOKED_AT = 64


@dataclass(frozen=True)
class Case:
    """One example and what was said to it.

    Attributes:
        id: the publisher's.
        text: question or sentence.
        images: image keys.
        truth: (answer, score) of its label, best first.
        answer: the run's.
        score: of that answer, in [0, 1].
        blind_answer: the blind twin's, None where there is none.
        blind_score: of that answer.
    """

    id: str
    text: str
    images: tuple[str, ...]
    truth: list[tuple[str, float]]
    answer: str
    score: float
    blind_answer: str | None
    blind_score: float

    @property
    def is_right(self) -> bool:
        """Whether the run's answer counts as right."""
        return self.score >= RIGHT


def choose_cases(
    labels: Labels, predicted: np.ndarray, blind: np.ndarray | None, right: int, wrong: int
) -> list[Case]:
    """Right and wrong examples in the order of a hash of their ids, so nobody picked them.

    Of each image one right and one wrong example, and not both where there are other images; where one
    kind is short, more of the other. Examples whose images are missing have nothing to show.

    Args:
        labels: of the split.
        predicted: int32 [N], the run's answers.
        blind: the same of its blind twin.
        right: how many right ones.
        wrong: how many wrong ones.
    """
    scores = labels.scores_of(predicted)
    answered = (labels.truth >= 0) & labels.seen()
    hits = _distinct(labels, np.flatnonzero(answered & (scores >= RIGHT)), right + wrong)
    of_hits = hits[:right]
    misses = _distinct(labels, np.flatnonzero(answered & (scores < RIGHT)), right + wrong, of_hits)
    of_hits = hits[: max(right, right + wrong - len(misses))]
    of_misses = misses[: max(wrong, right + wrong - len(hits))]
    return [_case(labels, row, predicted, blind) for row in [*of_hits, *of_misses]]


def _distinct(labels: Labels, rows: np.ndarray, most: int, shown: Sequence[int] = ()) -> list[int]:
    """Rows in the order of the hash, the first one of each image; those on images of `shown` come last."""
    ids = labels.columns.strings("id")
    images = labels.columns.array("image")
    candidates = heapq.nsmallest(_LOOKED_AT + 8 * most, rows.tolist(), key=lambda row: _hash(ids[row]))
    seen = {image for row in shown for image in np.atleast_1d(images[row]).tolist()}
    chosen: list[int] = []
    for avoided in (seen, set()):
        for row in candidates:
            members = set(np.atleast_1d(images[row]).tolist())
            used = {image for other in chosen for image in np.atleast_1d(images[other]).tolist()}
            if len(chosen) < most and not members & (avoided | used):
                chosen.append(row)
    return chosen


def _hash(example_id: str) -> bytes:
    return hashlib.sha256(example_id.encode()).digest()


def _case(labels: Labels, row: int, predicted: np.ndarray, blind: np.ndarray | None) -> Case:
    columns, truth = labels.columns, labels.texts_of(row)
    keys = columns.strings("images")
    scores = dict(truth)

    def text(answer: int) -> str:
        return labels.answers[answer] if answer >= 0 else "(outside the answer list)"

    answer, blind_answer = text(int(predicted[row])), None if blind is None else text(int(blind[row]))
    return Case(
        id=columns.strings("id")[row],
        text=columns.strings("text")[row],
        images=tuple(keys[int(image)] for image in np.atleast_1d(columns.array("image")[row])),
        truth=truth,
        answer=answer,
        score=scores.get(answer, 0.0),
        blind_answer=blind_answer,
        blind_score=0.0 if blind_answer is None else scores.get(blind_answer, 0.0),
    )
