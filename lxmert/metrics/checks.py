"""What every scorer asks of its input: each id once, none missing, none too many."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from lxmert.errors import DataError

SHOWN = 5  # ids that a message names


class IdError(DataError):
    """Predictions and questions do not name the same ids."""


def mean(values: Sequence[float]) -> float:
    """The mean in float64, summed in the given order; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def check_ids(
    predictions: Collection[Any], references: Sequence[Any], missing: Sequence[Any], strict: bool = True
) -> None:
    """Checks that predictions and references name the same ids.

    Args:
        predictions: ids that were predicted.
        references: ids that are asked for, in their order.
        missing: those of them that were not predicted.
        strict: also refuse ids that are not asked for.

    Raises:
        IdError: with the first five ids at fault.
    """
    if missing:
        raise missing_ids(len(missing), len(references), missing[:SHOWN])
    asked = set(references)
    if len(asked) != len(references):
        seen: set[Any] = set()
        twice = [item for item in references if item in seen or seen.add(item)]  # type: ignore[func-returns-value]
        raise IdError(f"{len(twice)} ids occur twice among the references, first: {_list(twice)}.")
    extra = [item for item in predictions if item not in asked] if strict else []
    if extra:
        raise extra_ids(len(extra), extra[:SHOWN])


def missing_ids(number: int, total: int, first: Sequence[Any]) -> IdError:
    """What is wrong where some of the questions have no prediction."""
    return IdError(
        f"{number} of {total} questions have no prediction, first: {_list(first)}."
        " Predict the whole split again."
    )


def extra_ids(number: int, first: Sequence[Any]) -> IdError:
    """What is wrong where some predictions belong to no question."""
    return IdError(
        f"{number} predictions answer no question of this split, first: {_list(first)}."
        " Is it the file of another split?"
    )


def _list(ids: Sequence[Any]) -> str:
    return ", ".join(map(str, ids[:SHOWN]))
