"""Convolutions of three taps with fewer multiplications: the matrices of Cook, Toom and Winograd.

`m` outputs of a 3-tap filter need `m + 2` products instead of `3 m`. A row of 7 cells with a zero on either
side is cut into 4 + 3 outputs, which takes 6 + 5 products; in both directions 121 instead of 441. Exact in
exact numbers; in float32 rounding errors grow less than twofold (tests/golden/detector/test_fast_head.py).
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np

TAPS = 3
_POINTS = (0, 1, -1, 2, -2)  # where the polynomials are evaluated, beside infinity
_LARGEST = len(_POINTS) + 1 - TAPS + 1  # outputs of one tile; more would cost too many digits


def tile_matrices(outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices of one tile: outputs = back @ ((filters @ taps) * (inputs @ cells)).

    Args:
        outputs: m, 1 to 4.

    Returns:
        float64: inputs [m + 2, m + 2], filters [m + 2, 3], back [m, m + 2].
    """
    count = outputs + TAPS - 1
    points = [Fraction(point) for point in _POINTS[: count - 1]]
    inputs = [_product(p for p in points if p != point) + [Fraction(0)] for point in points]
    inputs.append(_product(points))
    filters, back = [], []
    for point in points:
        norm = Fraction(1)
        for other in points:
            norm *= point - other if other != point else 1
        filters.append([point**k / norm for k in range(TAPS)])
        back.append([point**k for k in range(outputs)])
    filters.append([Fraction(0)] * (TAPS - 1) + [Fraction(1)])
    back.append([Fraction(0)] * (outputs - 1) + [Fraction(1)])
    return (
        np.array(inputs, np.float64),
        np.array(filters, np.float64),
        np.array(back, np.float64).T,
    )


def _product(roots: object) -> list[Fraction]:
    """Coefficients, constant first, of the polynomial with these roots."""
    found = [Fraction(1)]
    for root in roots:  # type: ignore[attr-defined]
        shifted = [Fraction(0), *found]
        found = [high - root * low for high, low in zip(shifted, [*found, Fraction(0)], strict=True)]
    return found


@lru_cache(maxsize=8)
def row_matrices(cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices of a row of `cells` with a zero on either side, cut into tiles.

    Returns:
        float64: inputs [P, cells], filters [P, 3], back [cells, P].
    """
    tiles = -(-cells // _LARGEST)
    widths = [cells // tiles + (tile < cells % tiles) for tile in range(tiles)]
    inputs, filters, back = [], [], np.zeros((cells, 0))
    start = 0
    for width in widths:
        tile_inputs, tile_filters, tile_back = tile_matrices(width)
        padded = np.zeros((width + 2, cells + 2))
        padded[:, start : start + width + 2] = tile_inputs
        inputs.append(padded[:, 1:-1])
        filters.append(tile_filters)
        rows = np.zeros((cells, width + 2))
        rows[start : start + width] = tile_back
        back = np.concatenate([back, rows], 1)
        start += width
    return np.concatenate(inputs), np.concatenate(filters), back
