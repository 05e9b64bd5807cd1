"""Pretraining objectives, one a file: a head with its losses.

An objective is a module with

* ``reads``: the part of an encoding it needs, "pooled", "language" or "all";
* ``names``: the names of its losses;
* ``denominators(batch)``: by name, what each loss is divided by, from the targets alone;
* ``forward(encoded, batch)``: by name, a :class:`Loss`.

A loss is kept as a sum and a denominator, so that the mean over a global batch comes out the same
however the batch is cut: add up the denominators of all micro-batches and ranks before the first
backward pass, divide every sum by that total, and add the gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
