"""An encoder with its pretraining objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lxmert.errors import SpecError, suggest
from lxmert.models.lxmert import LxmertEncoder
from lxmert.objectives import Loss, Parts, find_objective
from lxmert.types import Batch

_READS = ("pooled", "language", "all")  # each holds what the ones before it hold


class PretrainingModel(nn.Module):
    """Encodes once, then asks every objective.

    Args:
        encoder: maps a batch to an encoding.
        objectives: by name; see :mod:`lxmert.objectives`.
        weights: by name of a loss, its factor in the total; 1 where unnamed.
    """

    def __init__(
        self,
        encoder: nn.Module,
        objectives: Mapping[str, nn.Module],
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.objectives = nn.ModuleDict(objectives)
        given = weights or {}
        names = [name for objective in self.objectives.values() for name in objective.names]
        self.weights = {name: float(given.get(name, 1.0)) for name in names}
        reads = [objective.reads for objective in self.objectives.values()]
        self.read = max(reads, key=_READS.index, default="pooled")

    def forward(self, batch: Batch) -> dict[str, Loss]:
        """All losses of a batch, by name."""
        encoded = self.encoder(batch, read=self.read)
        losses: dict[str, Loss] = {}
        for objective in self.objectives.values():
            losses.update(objective(encoded, batch))
        return losses

    def denominators(self, batch: Batch) -> dict[str, Tensor]:
        """What each loss of this batch is divided by; needs no forward pass."""
        counted: dict[str, Tensor] = {}
        for objective in self.objectives.values():
            counted.update(objective.denominators(batch))
        return counted

    def total(self, losses: Mapping[str, Loss], denominators: Mapping[str, Tensor] | None = None) -> Tensor:
        """The weighted sum of mean losses, as a float32 scalar.

        Args:
            losses: from :meth:`forward`, of this micro-batch.
            denominators: of the whole global batch; those of the losses when None.

        Returns:
            The share of this micro-batch in the global loss; the shares add up to it.
        """
        shares = [
            self.weights[name] * loss.mean(None if denominators is None else denominators[name])
            for name, loss in losses.items()
            if self.weights[name] != 0
        ]
        return torch.stack(shares).sum()


def build_pretraining(
    encoder: LxmertEncoder,
    recipe: Mapping[str, Any],
    object_classes: int,
    attribute_classes: int,
    answers: int,
    mask_rate: float = 0.15,
    order: Sequence[str] | None = None,
) -> PretrainingModel:
    """A pretraining model.

    Args:
        encoder: the encoder.
        recipe: the recipe's `objectives`: by name the weight of its loss, or of each of its losses with its
            other settings, such as {object, attribute, feature: weight, masked_only: bool}. An objective left
            out or null is not built.
        object_classes: number of object classes.
        attribute_classes: number of attribute classes.
        answers: number of answers of the joint table.
        mask_rate: the recipe's `region_mask_rate`.
        order: the objectives of the system, in their order; None for those of the recipe in its own.

    Raises:
        SpecError: an unknown objective or setting, or one that the system has not.
    """
    parts = Parts(
        encoder.embeddings.words.weight,
        encoder.size.hidden,
        encoder.feature_width,
        object_classes,
        attribute_classes,
        answers,
        mask_rate,
    )
    recipe = {name: value for name, value in recipe.items() if value is not None}
    for name in recipe:
        _check_settings(name, recipe[name], order)
    built: dict[str, nn.Module] = {}
    weights: dict[str, float] = {}
    for name in [name for name in (recipe if order is None else order) if name in recipe]:
        kind, value = find_objective(name), recipe[name]
        settings = value if isinstance(value, Mapping) else dict.fromkeys(kind.names, value)
        built[name] = kind.of(parts, settings)
        weights |= {loss: settings[loss] or 0.0 for loss in kind.names if loss in settings}
    return PretrainingModel(encoder, built, weights)


def _check_settings(name: str, value: Any, order: Sequence[str] | None) -> None:
    kind, where = find_objective(name), f"recipe/objectives/{name}"
    if order is not None and name not in order:
        raise SpecError(f"{where}: the system has no such objective.{suggest(name, order)}")
    known = (*kind.names, *kind.switches)
    for setting in value if isinstance(value, Mapping) else ():
        if setting not in known:
            raise SpecError(f"{where}/{setting}: unknown setting.{suggest(setting, known)}")
