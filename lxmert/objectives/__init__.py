"""Pretraining objectives, one a file: a head with its losses.

An objective is a module with

* ``reads``: the part of an encoding it needs, "pooled", "language" or "all";
* ``names``: the names of its losses;
* ``of(parts, settings)``: a class method that builds it from what a model has and its recipe's settings;
* ``switches``: the names of settings that are no weights of losses;
* ``denominators(batch)``: by name, what each loss is divided by, from the targets alone;
* ``forward(encoded, batch)``: by name, a :class:`Loss`.

A loss is kept as a sum and a denominator, so that the mean over a global batch comes out the same
however the batch is cut: add up the denominators of all micro-batches and ranks before the first
backward pass, divide every sum by that total, and add the gradients.

Its file is its name, which a `system.yaml` lists, and calls its class ``OBJECTIVE``: nothing else names it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lxmert.errors import SpecError, suggest
from lxmert.specs.documents import objective_names


@dataclass(frozen=True)
class Parts:
    """What objectives are built of.

    Attributes:
        words: the encoder's word embeddings [V, H].
        hidden: H.
        feature_width: F.
        object_classes: number of object classes.
        attribute_classes: number of attribute classes.
        answers: number of answers of the joint table.
        mask_rate: share of regions that are masked.
    """

    words: nn.Parameter
    hidden: int
    feature_width: int
    object_classes: int
    attribute_classes: int
    answers: int
    mask_rate: float


class Objective(Protocol):
    """The class of an objective, as far as it is built and asked for its settings."""

    names: tuple[str, ...]
    switches: tuple[str, ...]

    def of(self, parts: Parts, settings: Mapping[str, Any]) -> nn.Module:
        """The objective of a model."""


def find_objective(name: str) -> Objective:
    """The objective of a name.

    Raises:
        SpecError: there is no file of that name.
    """
    known = objective_names()
    if name not in known:
        raise SpecError(f"recipe/objectives/{name}: unknown objective.{suggest(name, known)}")
    found: Objective = importlib.import_module(f"lxmert.objectives.{name}").OBJECTIVE
    return found


@dataclass(frozen=True)
class Loss:
    """One loss of one batch.

    Attributes:
        sum: float32 scalar, over whatever the denominator counts.
        denominator: float32 scalar without gradient; 0 when nothing in the batch has this target.
    """

    sum: Tensor
    denominator: Tensor

    def mean(self, denominator: Tensor | None = None) -> Tensor:
        """Sum over denominator, of the global batch if given; 0, not NaN, when nothing was counted.

        The reference divides 0 by 0 when no token is masked or no question answered.
        """
        counted = self.denominator if denominator is None else denominator
        return self.sum / counted.clamp(min=1e-12)


def full_precision(logits: Tensor) -> Tensor:
    """Logits as losses read them: float32 where autocast made them shorter, else as they are."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
