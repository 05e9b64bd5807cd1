"""The box rule, branch by branch."""

from __future__ import annotations

import numpy as np
import pytest

from lxmert.detector.documents import SelectionRule
from lxmert.detector.selection import select


def rule(least: int, most: int, threshold: float = 0.2) -> SelectionRule:
    return SelectionRule("class_nms", least, most, threshold, 0.3)


def apart(count: int) -> np.ndarray:
    """Boxes that do not touch, so that each survives in every class."""
    corner = np.arange(count, dtype=np.float32)[:, None] * 20
    return np.concatenate([corner, np.zeros_like(corner), corner + 9, np.full_like(corner, 9)], 1)


SCORES = np.array(
    [[0.1, 0.3], [0.5, 0.1], [0.05, 0.15], [0.4, 0.2], [0.25, 0.6]], np.float32
)  # best: .3 .5 .15 .4 .6


def test_within_bounds_rows_stay_in_proposal_order():
    chosen, best = select(apart(5), SCORES, rule(1, 10))
    assert chosen.tolist() == [0, 1, 3, 4]
    np.testing.assert_allclose(best, [0.3, 0.5, 0.15, 0.4, 0.6])


def test_exactly_as_many_as_asked_are_not_sorted():
    assert select(apart(5), SCORES, rule(4, 4))[0].tolist() == [0, 1, 3, 4]


def test_too_few_are_filled_with_the_best_ranked():
    assert select(apart(5), SCORES, rule(5, 5))[0].tolist() == [4, 1, 3, 0, 2]


def test_too_many_are_cut_to_the_best_ranked():
    assert select(apart(5), SCORES, rule(1, 3))[0].tolist() == [4, 1, 3]


def test_fewer_proposals_than_asked_are_all_there_is():
    assert select(apart(5), SCORES, rule(36, 36))[0].tolist() == [4, 1, 3, 0, 2]
    assert select(apart(1), SCORES[:1], rule(36, 36))[0].tolist() == [0]
    assert select(apart(0), SCORES[:0], rule(36, 36))[0].tolist() == []


def test_a_suppressed_class_does_not_count():
    boxes = apart(2)
    boxes[1] = boxes[0] + np.float32(0.5)
    scores = np.array([[0.9, 0.05], [0.8, 0.3]], np.float32)  # the second loses class 0 but wins class 1
    chosen, best = select(boxes, scores, rule(1, 10))
    np.testing.assert_allclose(best, [0.9, 0.3])
    assert chosen.tolist() == [0, 1]


def test_threshold_is_inclusive_in_double_precision():
    at = np.float32(0.2)  # 0.200000003, and one step below it 0.199999988
    for score, threshold, wanted in (
        (at, 0.2, [0, 1]),
        (np.nextafter(at, np.float32(0)), 0.2, [0]),
        (
            np.float32(0.7),
            0.7,
            [0],
        ),  # 0.699999988: at the threshold in single precision, and below it in double
    ):
        chosen, _ = select(apart(2), np.array([[0.9], [score]], np.float32), rule(1, 10, threshold))
        assert chosen.tolist() == wanted, (score, threshold)


@pytest.mark.parametrize("count", [3, 4])
def test_equal_scores_rank_the_later_first(count):
    assert select(apart(count), np.full((count, 2), 0.5, np.float32), rule(1, 2))[0].tolist() == [
        count - 1,
        count - 2,
    ]
