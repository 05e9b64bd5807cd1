"""Average precision against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.ops import nms

from lxmert.detector.evaluate import PrecisionTable, as_written, average_precision, best_detections


@pytest.mark.parametrize(
    ("hits", "count", "expected"),
    [
        ([], 3, 0.0),
        ([True], 1, 1.0),
        ([False, True], 1, 0.5),
        ([True, False, True], 2, 0.5 + 0.5 * 2 / 3),
        ([False, True, True], 4, 0.5 * 2 / 3),  # the envelope lifts 1/2 to 2/3
    ],
)
def test_area_under_the_curve(hits, count, expected):
    assert math.isclose(average_precision(np.array(hits, bool), count), expected)


def add(table, boxes, classes, scores, truth, true_classes):
    return table.add(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int64), np.array(scores, np.float32),
        np.array(truth, np.float32).reshape(-1, 4), np.array(true_classes, np.int64),
    )  # fmt: skip


def test_one_hit_a_true_box_and_the_better_score_has_it():
    table = PrecisionTable(2)
    box = [0, 0, 9, 9]
    hits = add(table, [box, [0, 0, 9, 8], box, box], [0, 0, 1, 0], [0.5, 0.9, 0.8, 0.1], [box], [0])
    assert hits.tolist() == [-1, 0, -1, -1]  # the second is best; the third is of another class
    summary = table.summary(("a", "b"))
    assert summary["classes"][0] == {"name": "a", "ap": 1.0, "boxes": 1}
    assert (summary["map"], summary["weighted_map"]) == (0.5, 1.0)


def test_overlap_must_exceed_one_half():
    table = PrecisionTable(1)
    assert add(table, [[0, 0, 9, 4]], [0], [1.0], [[0, 0, 9, 9]], [0]).tolist() == [-1]  # exactly one half
    assert add(table, [[0, 0, 9, 5]], [0], [1.0], [[0, 0, 9, 9]], [0]).tolist() == [0]


def test_empty_images_and_empty_tables():
    table = PrecisionTable(2)
    assert table.summary(("a", "b"))["map"] == 0
    add(table, [], [], [], [], [])
    add(table, [], [], [], [[0, 0, 5, 5]], [1])
    add(table, [[0, 0, 5, 5]], [1], [0.5], [], [])
    summary = table.summary(("a", "b"))
    assert summary["map"] == 0 and summary["classes"][1]["boxes"] == 1


def test_best_detections_equal_suppressing_every_class_in_full():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(40, 6, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 5 + torch.rand(40, 6, 2, generator=generator) * 40], -1)
    scores = torch.rand(40, 6, generator=generator)
    expected = []
    for c in range(6):
        kept = nms(boxes[:, c] + torch.tensor([0, 0, 1.0, 1.0]), scores[:, c], 0.3)
        expected += [(scores[i, c].item(), int(i), c) for i in kept]
    expected = sorted(expected, reverse=True)
    for count in (5, 30, 400):
        found = best_detections(boxes, scores, count)
        assert (
            list(zip(found.scores.tolist(), found.regions.tolist(), found.classes.tolist(), strict=True))
            == expected[:count]
        )


def test_no_proposals_give_no_detections():
    assert len(best_detections(torch.zeros(0, 3, 4), torch.zeros(0, 3)).scores) == 0


def test_detections_as_the_reference_writes_them():
    boxes, scores = as_written(np.float32([[0, 0.04, 9.96, 4]]), np.float32([0.12349]))
    np.testing.assert_array_equal(boxes, np.float32([[1, 1, 11, 5]]))
    np.testing.assert_array_equal(scores, np.float32([0.123]))
    table, box = PrecisionTable(1), [3, 0, 9, 7]  # a pixel decides: 56 of 100, then 48 of 108
    assert add(table, [box], [0], [1.0], [[0, 0, 9, 9]], [0]).tolist() == [0]
    moved, _ = as_written(np.float32([box]), np.float32([1.0]))
    assert add(table, moved, [0], [1.0], [[0, 0, 9, 9]], [0]).tolist() == [-1]
