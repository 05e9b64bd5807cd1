"""Float16 conversion equals NumPy's for every pattern and rounding, with and without PyTorch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from lxmert.data.halves import _narrow, all_finite, copy_features

_HALVES = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
_MIDDLES = ((_HALVES[1:].astype(np.float64) + _HALVES[:-1]) / 2).astype(np.float32)


@pytest.mark.parametrize(
    "values",
    [
        np.concatenate(
            [_HALVES, _MIDDLES, np.nextafter(_MIDDLES, 0), np.nextafter(_MIDDLES, np.float32(1e9))]
        ),
        -_MIDDLES,
        np.array([65504, 65519.99, 0, 1e-8, 5.9e-8, 6.1e-5]),
        np.array([65520, 1, 2]),
        np.array([np.nan, 1]),
        np.array([np.inf, 1]),
        np.zeros(0),
    ],
    ids=["every half and every tie", "negative", "edges", "too large", "nan", "infinite", "empty"],
)
def test_narrowing_gives_numpys_bits(values: np.ndarray) -> None:
    values = values.astype(np.float32)
    found = np.empty(values.shape, np.float16)
    _narrow(found, values)
    with np.errstate(over="ignore"):
        wanted = values.astype(np.float16)
    np.testing.assert_array_equal(found.view(np.uint16), wanted.view(np.uint16))


def test_widening_gives_numpys_numbers_without_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from lxmert.data.halves import copy_features\n"
        "halves = np.arange(0xFC01, dtype=np.uint16).view(np.float16)\n"
        "out = np.empty(halves.shape, np.float32)\n"
        "copy_features(out, halves)\n"
        "assert np.array_equal(out, halves.astype(np.float32), equal_nan=True)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("writeable", [True, False])
def test_torch_gives_the_same_bits(writeable: bool) -> None:
    pytest.importorskip("torch")
    values = _MIDDLES.copy()
    values.flags.writeable = writeable
    found, back = np.empty(values.shape, np.float16), np.empty(values.shape, np.float32)
    copy_features(found, values)
    np.testing.assert_array_equal(found, values.astype(np.float16))
    copy_features(back, found)
    np.testing.assert_array_equal(back, found.astype(np.float32))


def test_all_finite_sees_one_bad_number() -> None:
    for dtype in (np.float16, np.float32):
        values = np.zeros((2, 3), dtype)
        assert all_finite(values)
        for bad in (np.nan, np.inf, -np.inf):
            values[1, 2] = bad
            assert not all_finite(values)
