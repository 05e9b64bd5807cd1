"""Which proposals become regions: exact class-wise suppression, then a threshold with bounds."""

from __future__ import annotations

import numpy as np

from lxmert.detector.documents import SelectionRule

_WORD = 64


def iou_plus_one(boxes: np.ndarray) -> np.ndarray:
    """Overlaps float32 [R, R] of float32 boxes [R, 4], areas and extents with +1."""
    x1, y1, x2, y2 = boxes.T.astype(np.float32)
    area = (x2 - x1 + 1) * (y2 - y1 + 1)
    width = np.maximum(0, np.minimum(x2[:, None], x2) - np.maximum(x1[:, None], x1) + 1)
    height = np.maximum(0, np.minimum(y2[:, None], y2) - np.maximum(y1[:, None], y1) + 1)
    shared = width * height
    return shared / (area[:, None] + area - shared)


def class_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Which boxes survive greedy suppression, for every class at once.

    All classes walk down their own ranking in step, so R steps of small array operations replace
    one suppression per class; a row of the overlap matrix is kept as bits, 64 boxes a word.

    Args:
        boxes: float32 [R, 4], the same for each class.
        scores: float32 [R, C].
        threshold: boxes overlapping a better one by this much or more go (compared in float64).

    Returns:
        bool [R, C].
    """
    regions, classes = scores.shape
    if regions == 0:
        return np.zeros((0, classes), bool)
    overlaps = iou_plus_one(boxes).astype(np.float64) >= threshold
    words = -(-regions // _WORD)
    padded = np.zeros((regions, words * _WORD), bool)
    padded[:, :regions] = overlaps
    masks = np.packbits(padded, axis=1, bitorder="little").view("<u8")  # [R, words]
    order = np.argsort(-scores.T, axis=1, kind="stable")  # [C, R], best first
    removed = np.zeros((classes, words), np.uint64)
    kept = np.zeros((classes, regions), bool)
    rows = np.arange(classes)
    for rank in range(regions):
        box = order[:, rank]
        word, bit = box // _WORD, (box % _WORD).astype(np.uint64)
        alive = (removed[rows, word] >> bit) & np.uint64(1) == 0
        kept[rows, box] = alive
        removed |= np.where(alive[:, None], masks[box], np.uint64(0))
    return kept.T


def select(boxes: np.ndarray, class_scores: np.ndarray, rule: SelectionRule) -> tuple[np.ndarray, np.ndarray]:
    """The regions of one image.

    A proposal's score is the best class probability with which it survives that class's
    suppression. Proposals at or above the threshold stay in proposal order; if they are fewer than
    `min_boxes` or more than `max_boxes`, that many best ones are taken instead, best first. So rows
    are ranked unless the count fell within the bounds by itself (kept for parity).

    Args:
        boxes: float32 [R, 4] in pixels of the original image.
        class_scores: float32 [R, C] probabilities without background.
        rule: bounds and thresholds.

    Returns:
        Indices int64 [K] (K < `min_boxes` only if R is), and every proposal's score float32 [R].

    Source: spec section 5; Caffe reference `get_detections_from_im`.
    """
    kept = class_nms(boxes, class_scores, rule.nms)
    best = np.where(kept, class_scores, np.float32(0)).max(axis=1, initial=0).astype(np.float32)
    if rule.rule == "class_nms_then_cut":
        first = _within(best, rule.threshold, rule.max_boxes, rule.max_boxes)
        above = int((best[first].astype(np.float16).astype(np.float64) > rule.threshold).sum())
        return first[: max(above, rule.min_boxes)], best
    return _within(best, rule.threshold, rule.min_boxes, rule.max_boxes), best


def _within(best: np.ndarray, threshold: float, least: int, most: int) -> np.ndarray:
    """Those at or above the threshold in proposal order, or the `least` or `most` best, ranked."""
    chosen = np.flatnonzero(best.astype(np.float64) >= threshold)
    if len(chosen) < least:
        return _ranked(best)[:least]
    return _ranked(best)[:most] if len(chosen) > most else chosen


def _ranked(scores: np.ndarray) -> np.ndarray:
    """Indices by falling score; of equals the later comes first, as when an ascending sort is reversed."""
    return np.argsort(scores, kind="stable")[::-1]
