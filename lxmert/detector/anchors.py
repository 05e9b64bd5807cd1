"""Anchor boxes with Caffe's integer windows: ratios outer, scales inner, corners inclusive."""

from __future__ import annotations

import numpy as np


def cell_anchors(stride: int, ratios: tuple[float, ...], scales: tuple[float, ...]) -> np.ndarray:
    """The anchors of the first cell, float32 [A, 4].

    A base window (0, 0, stride - 1, stride - 1) keeps its area while its sides are rounded half to
    even for each ratio h / w; then it is multiplied by each scale around its centre, which lies
    (stride - 1) / 2 pixels in.
    """
    centre = (stride - 1) / 2
    rows = []
    for ratio in ratios:
        width = np.rint(np.sqrt(stride * stride / ratio))
        height = np.rint(width * ratio)
        for scale in scales:
            half_w, half_h = (width * scale - 1) / 2, (height * scale - 1) / 2
            rows.append([centre - half_w, centre - half_h, centre + half_w, centre + half_h])
    return np.array(rows, dtype=np.float32)


def grid_anchors(cell: np.ndarray, stride: int, map_height: int, map_width: int) -> np.ndarray:
    """All anchors of a feature map, float32 [map_height * map_width * A, 4]: rows, columns, anchors."""
    x = np.arange(map_width, dtype=np.float32) * stride
    y = np.arange(map_height, dtype=np.float32) * stride
    grid_x, grid_y = np.meshgrid(x, y)
    shifts = np.stack([grid_x, grid_y, grid_x, grid_y], -1)  # [map_height, map_width, 4]
    return (shifts[:, :, None, :] + cell).reshape(-1, 4)
