"""Learning-rate factors at the points that matter."""

from __future__ import annotations

import pytest

from lxmert.errors import SpecError
from lxmert.training.schedules import build_schedule, cosine, linear


def test_linear_has_the_reference_values() -> None:
    """warmup_linear with w = 0.1 and T = 100: x / w, then (x - 1) / (w - 1)."""
    factors = [linear(step, 100, 0.1) for step in range(101)]
    assert factors[0] == 0.0
    assert factors[5] == pytest.approx(0.5)
    assert factors[10] == pytest.approx(1.0)
    assert factors[55] == pytest.approx(0.5)
    assert factors[99] == pytest.approx(1 / 90)
    assert factors[100] == 0.0
    assert linear(150, 100, 0.1) == 0.0


def test_cosine_peaks_after_warm_up_and_ends_at_zero() -> None:
    assert cosine(0, 100, 0.2) == 0.0
    assert cosine(20, 100, 0.2) == pytest.approx(1.0)
    assert cosine(60, 100, 0.2) == pytest.approx(0.5)
    assert cosine(100, 100, 0.2) == 0.0
    assert cosine(120, 100, 0.2) == 0.0


@pytest.mark.parametrize("name", ["linear", "cosine", "constant"])
def test_extreme_warm_ups(name: str) -> None:
    without = build_schedule({"name": name, "warmup_fraction": 0.0}, 10)
    assert without(0) == 1.0
    whole = build_schedule({"name": name, "warmup_fraction": 1.0}, 10)
    assert whole(0) == 0.0
    assert whole(5) == pytest.approx(0.5)
    assert whole(10) == 1.0
    one = build_schedule({"name": name, "warmup_fraction": 0.1}, 1)
    assert one(0) == 0.0


def test_constant_stays() -> None:
    schedule = build_schedule({"name": "constant", "warmup_fraction": 0.1}, 100)
    assert schedule(10) == schedule(99) == schedule(1000) == 1.0


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"name": "linaer"}, 'unknown schedule "linaer". Did you mean "linear"?'),
        ({"name": "linear", "warmup_fraction": 1.5}, "schedule/warmup_fraction: 1.5 is not between 0 and 1"),
    ],
)
def test_a_bad_schedule_document_is_explained(spec: dict, told: str) -> None:
    with pytest.raises(SpecError) as error:
        build_schedule(spec, 10)
    assert told in str(error.value)
