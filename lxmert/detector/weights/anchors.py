"""Which anchors a file's proposal network was made for, and how they stand to Caffe's.

Published files hold continuous corners (x2 and y2 one larger than Caffe's inclusive ones) in an order of
their own, or none at all; the proposal weights belong to exactly these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lxmert.detector.anchors import cell_anchors
from lxmert.detector.documents import DetectorSize


@dataclass(frozen=True)
class AnchorMatch:
    """How a file's anchors relate to Caffe's.

    Attributes:
        kind: "caffe", "stock" or "own".
        rows: file row of each of our rows; kept as they are unless the kind is "caffe".
        cells: inclusive corners float32 [A, 4] to use instead of Caffe's; None for kind "caffe".
    """

    kind: str
    rows: list[int]
    cells: np.ndarray | None


def caffe_anchors(size: DetectorSize) -> np.ndarray:
    """Continuous corners float32 [A, 4] of Caffe's anchors, in Caffe's order."""
    rpn = size.rpn
    return cell_anchors(size.stride, rpn.anchor_ratios, rpn.anchor_scales) + np.array(
        [0, 0, 1, 1], np.float32
    )


def stock_anchors(size: DetectorSize) -> np.ndarray:
    """Corners float32 [A, 4] of detectron2's own generator: sizes outer, ratios inner, centred at 0."""
    rows = []
    for scale in size.rpn.anchor_scales:
        for ratio in size.rpn.anchor_ratios:
            width = np.sqrt((scale * size.stride) ** 2 / ratio)
            height = width * ratio
            rows.append([-width / 2, -height / 2, width / 2, height / 2])
    return np.array(rows, np.float32)


def match_anchors(cells: np.ndarray, size: DetectorSize, shift_px: float) -> AnchorMatch:
    """Relates a file's cell anchors to Caffe's.

    Args:
        cells: float32 [A, 4], continuous corners as in the file.
        size: of the network.
        shift_px: what the file's grid adds to every corner (detectron2's offset times the stride).
    """
    shifted = (cells.astype(np.float64) + shift_px).astype(np.float32)
    caffe = caffe_anchors(size)
    near = np.abs(caffe[:, None, :] - shifted[None, :, :]).max(2) < 1e-3  # [ours, file]
    if (near.sum(0) == 1).all() and (near.sum(1) == 1).all():
        return AnchorMatch("caffe", near.argmax(1).tolist(), None)
    stock = stock_anchors(size)
    kind = "own"
    if cells.shape == stock.shape and np.abs(cells - stock).max() < 1e-3:
        kind = "stock"
    inclusive = shifted - np.array([0, 0, 1, 1], np.float32)
    return AnchorMatch(kind, list(range(len(cells))), inclusive)
