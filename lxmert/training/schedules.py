"""Learning-rate factors by step: each maps a step counted from 0 to a share of the peak rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from lxmert.errors import SpecError, suggest

Schedule = Callable[[int], float]


def linear(step: int, total_steps: int, warmup_fraction: float) -> float:
    """Rises from 0 to 1 at the warm-up's end, falls to 0 at the last step.

    The first update has rate 0, as in the reference.

    Source: BertAdam's `warmup_linear`: x / w below w, else max((x - 1) / (w - 1), 0).
    """
    done = step / total_steps
    if done < warmup_fraction:
        return done / warmup_fraction
    if warmup_fraction >= 1.0:
        return 0.0 if done > 1.0 else 1.0
    return max((done - 1.0) / (warmup_fraction - 1.0), 0.0)


def cosine(step: int, total_steps: int, warmup_fraction: float) -> float:
    """Rises linearly to 1 at the warm-up's end, then follows half a cosine to 0."""
    done = step / total_steps
    if done < warmup_fraction:
        return done / warmup_fraction
    if done >= 1.0 or warmup_fraction >= 1.0:
        return 0.0 if done >= 1.0 and warmup_fraction < 1.0 else 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (done - warmup_fraction) / (1.0 - warmup_fraction)))


def constant(step: int, total_steps: int, warmup_fraction: float) -> float:
    """Rises linearly to 1 at the warm-up's end and stays."""
    done = step / total_steps
    return done / warmup_fraction if done < warmup_fraction else 1.0


SCHEDULES: dict[str, Callable[[int, int, float], float]] = {
    "linear": linear,
    "cosine": cosine,
    "constant": constant,
}


def build_schedule(spec: Mapping[str, Any], total_steps: int) -> Schedule:
    """The schedule of a recipe: {name, warmup_fraction}.

    Raises:
        SpecError: an unknown name, or a warm-up outside 0..1.
    """
    name, warmup = spec.get("name", "linear"), float(spec.get("warmup_fraction", 0.1))
    if name not in SCHEDULES:
        raise SpecError(f'schedule/name: unknown schedule "{name}".{suggest(name, SCHEDULES)}')
    if not 0.0 <= warmup <= 1.0:
        raise SpecError(
            f"schedule/warmup_fraction: {warmup} is not between 0 and 1; give a share of all steps."
        )
    function, steps = SCHEDULES[name], max(int(total_steps), 1)
    return lambda step: function(step, steps, warmup)
