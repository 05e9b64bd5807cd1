"""An encoder with its pretraining objectives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lxmert.errors import SpecError, suggest
from lxmert.models.lxmert import LxmertEncoder
from lxmert.objectives import Loss
from lxmert.objectives.masked_lm import MaskedLanguageModelling
from lxmert.objectives.masked_region import MaskedRegionModelling
from lxmert.objectives.matching import Matching
from lxmert.objectives.qa import QuestionAnswering
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
) -> PretrainingModel:
    """LXMERT's pretraining model.

    Args:
        encoder: the encoder.
        recipe: the recipe's `objectives`: {masked_lm, matching, qa: weight, masked_region: {object,
            attribute, feature: weight, masked_only: bool}}. An objective left out or null is not built.
        object_classes: number of object classes.
        attribute_classes: number of attribute classes.
        answers: number of answers of the joint table.
        mask_rate: the recipe's `region_mask_rate`.

    Raises:
        SpecError: an unknown objective.
    """
    hidden = encoder.size.hidden
    recipe = {name: value for name, value in recipe.items() if value is not None}
    region = dict(recipe.get("masked_region") or {})
    masked_only = bool(region.pop("masked_only", False))
    known = {
        "masked_lm": lambda: MaskedLanguageModelling(encoder.embeddings.words.weight),
        "matching": lambda: Matching(hidden),
        "masked_region": lambda: MaskedRegionModelling(
            hidden, object_classes, attribute_classes, encoder.feature_width, mask_rate, masked_only
        ),
        "qa": lambda: QuestionAnswering(hidden, answers),
    }
    for name in recipe:
        if name not in known:
            raise SpecError(f"recipe/objectives/{name}: unknown objective.{suggest(name, known)}")
    for name in region:
        if name not in MaskedRegionModelling.names:
            names = (*MaskedRegionModelling.names, "masked_only")
            raise SpecError(f"recipe/objectives/masked_region/{name}: unknown setting.{suggest(name, names)}")
    weights = {name: weight for name, weight in recipe.items() if name != "masked_region"} | region
    return PretrainingModel(encoder, {name: known[name]() for name in known if name in recipe}, weights)
