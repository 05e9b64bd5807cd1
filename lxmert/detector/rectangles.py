"""The rectangles of the feature map that quantised pooling takes maxima over, each once.

Pooling a region to 14 x 14 cells reads one rectangle a cell. Neighbouring cells of a small region, and
cells of overlapping regions, read the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rectangles:
    """U different rectangles, and which of them the cells of regions are.

    Attributes:
        corners: int64 [U, 4]: first row, row behind the last, first column, column behind the last.
        levels: int64 [U], ascending: which pyramid of maxima they are read from.
        cells: int64 [D, pool, pool], rectangle of each cell of D different regions.
        region: int64 [R], which of those each region is.
    """

    corners: Tensor
    levels: Tensor
    cells: Tensor
    region: Tensor

    def __len__(self) -> int:
        return len(self.corners)


def shared_rectangles(boxes: Tensor, height: int, width: int, pool: int, scale: float) -> Rectangles:
    """Rectangles of boxes float32 [R, 4] (pixels) on a map of height x width cells.

    Corners are rounded half away from zero, and bins have the bounds of Caffe's ROIPooling in float32, as
    `torchvision.ops.roi_pool` computes them.
    """
    corners, region = torch.unique(_rounded(boxes * scale), dim=0, return_inverse=True)
    x0, x1 = _bins(corners[:, 0], corners[:, 2], width, pool)  # [D, pool]
    y0, y1 = _bins(corners[:, 1], corners[:, 3], height, pool)
    parts = [y0[:, :, None], y1[:, :, None], x0[:, None, :], x1[:, None, :]]
    every = torch.stack(torch.broadcast_tensors(*parts), -1)  # [D, pool, pool, 4]
    key = _level(y1 - y0)[:, :, None] * _LEVELS + _level(x1 - x0)[:, None, :]
    for part, most in ((0, height), (1, height), (2, width), (3, width)):
        key = key * (most + 1) + every[..., part]
    keys, cells = torch.unique(key, return_inverse=True)
    unpacked = []
    for most in (width, width, height, height):
        unpacked.append(keys % (most + 1))
        keys = keys // (most + 1)
    return Rectangles(torch.stack(unpacked[::-1], 1), keys, cells, region)


_LEVELS = 32


def _rounded(values: Tensor) -> Tensor:
    """Half away from zero, as C's `round`."""
    whole = values.trunc()
    return (whole + values.sign() * ((values - whole).abs() >= 0.5)).long()


def _bins(first: Tensor, last: Tensor, cells: int, pool: int) -> tuple[Tensor, Tensor]:
    """Bounds int64 [D, pool] of the bins between two cells, clipped to the map."""
    size = (last - first + 1).clamp(min=1).float() / pool
    number = torch.arange(pool, dtype=torch.float32)
    low = (number * size[:, None]).floor().long() + first[:, None]
    high = ((number + 1) * size[:, None]).ceil().long() + first[:, None]
    return low.clamp(0, cells), high.clamp(0, cells)


def _level(length: Tensor) -> Tensor:
    """Exponent of the largest power of two within lengths; 0 for empty ones."""
    return torch.log2(length.clamp(min=1).double()).floor().long()


def pooled_rectangles(feature_map: Tensor, found: Rectangles, rows: int) -> Iterator[tuple[int, Tensor]]:
    """Maxima float32 [<= rows, C] over rectangles of a map [C, h, w], with the first one's number.

    A rectangle is covered by four squares whose sides are powers of two, so four reads do for any size.
    """
    cells = feature_map.permute(1, 2, 0).contiguous()  # [h, w, C]
    levels, counts = torch.unique_consecutive(found.levels, return_counts=True)
    start = 0
    for level, count in zip(levels.tolist(), counts.tolist(), strict=True):
        down, across = divmod(level, _LEVELS)
        maxima = _windows(_windows(cells, 0, down), 1, across)
        flat, columns = maxima.flatten(0, 1), maxima.shape[1]
        for part in found.corners[start : start + count].split(rows):
            y0, y1, x0, x1 = part.unbind(1)
            empty = (y1 <= y0) | (x1 <= x0)
            y0, x0 = y0.clamp(max=maxima.shape[0] - 1), x0.clamp(max=columns - 1)
            low, right = (y1 - 2**down).clamp(min=0), (x1 - 2**across).clamp(min=0)
            pooled = flat[y0 * columns + x0]
            if down:
                pooled = torch.maximum(pooled, flat[low * columns + x0])
            if across:
                pooled = torch.maximum(pooled, flat[y0 * columns + right])
            if down and across:
                pooled = torch.maximum(pooled, flat[low * columns + right])
            if empty.any():
                pooled[empty] = 0
            yield start, pooled
            start += len(part)


def _windows(x: Tensor, dim: int, exponent: int) -> Tensor:
    """Maxima over 2 ** exponent neighbours along a dimension, which grows shorter."""
    for power in range(exponent):
        step = 2**power
        length = x.shape[dim] - step
        x = torch.maximum(x.narrow(dim, 0, length), x.narrow(dim, step, length))
    return x
