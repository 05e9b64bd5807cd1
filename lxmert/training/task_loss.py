"""Losses of fine-tuning, as sums and what they are divided by."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from lxmert.errors import SpecError, suggest
from lxmert.models.heads import TaskModel
from lxmert.objectives import Loss, full_precision
from lxmert.training.step import Task


class TaskLoss:
    """One loss of logits and soft targets.

    Args:
        name: its name in recipes and histories.
        total: of logits and soft targets, both float [B, K]: the sum over the batch.
        count: of soft targets: what the sum is divided by, a float32 scalar.
    """

    def __init__(
        self, name: str, total: Callable[[Tensor, Tensor], Tensor], count: Callable[[Tensor], Tensor]
    ) -> None:
        self.name, self._total, self._count = name, total, count

    def __call__(self, logits: Tensor, targets: Tensor) -> Loss:
        """The loss of a batch: logits float [B, K], soft targets float32 [B, K]."""
        logits = full_precision(logits)
        return Loss(self._total(logits, targets.to(logits.dtype)), self._count(targets))

    def task(self, model: TaskModel) -> Task:
        """What training asks of a model with this loss; target `answer_targets` float32 [B, K]."""
        return Task(
            model=model,
            noise=model.encoder.noise,
            losses=lambda batch: {self.name: self(model(batch), batch.targets["answer_targets"])},
            denominators=lambda batch: {self.name: self._count(batch.targets["answer_targets"])},
            weights={},
        )


def task_loss(name: str) -> TaskLoss:
    """The loss of a recipe.

    Raises:
        SpecError: no such loss.
    """
    known = {
        "bce_times_answers": (_binary_sum, _examples),
        "cross_entropy": (_cross_entropy_sum, _answered),
    }
    if name not in known:
        raise SpecError(f'recipe/loss/name: unknown loss "{name}".{suggest(name, known)}')
    return TaskLoss(name, *known[name])


def _binary_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy over all answers; over the number of examples, the reference's mean x K."""
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")


def _examples(targets: Tensor) -> Tensor:
    return torch.tensor(float(len(targets)), device=targets.device)


def _cross_entropy_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with the best-scored answer; examples without any are left out."""
    return functional.cross_entropy(logits, _best(targets), ignore_index=-1, reduction="sum")


def _answered(targets: Tensor) -> Tensor:
    return (_best(targets) >= 0).sum().float()


def _best(targets: Tensor) -> Tensor:
    return torch.where(targets.amax(dim=1) > 0, targets.argmax(dim=1), -1)
