"""Masked region modelling: name the object and attribute of a region, and restore its feature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lxmert.models.layers import Linear, Transform
from lxmert.objectives import Loss, Parts, full_precision
from lxmert.types import Batch, Encoded


class MaskedRegionModelling(nn.Module):
    """One transform, three decoders.

    Quirk kept for parity: the object and attribute losses weigh each region by the detector's
    confidence *instead of* by whether it was masked, so they run over all regions; they are scaled by
    1 / mask rate all the same. The paper describes masked regions only, which `masked_only` gives.
    tests/golden/lxmert fails without it.

    Args:
        hidden: H.
        objects: number of object classes.
        attributes: number of attribute classes.
        feature_width: F.
        mask_rate: share of regions that are masked; its inverse scales all three losses.
        masked_only: object and attribute losses on masked regions only.
    """

    reads = "all"
    names = ("object", "attribute", "feature")
    switches = ("masked_only",)

    def __init__(
        self,
        hidden: int,
        objects: int,
        attributes: int,
        feature_width: int,
        mask_rate: float = 0.15,
        masked_only: bool = False,
    ) -> None:
        super().__init__()
        self.scale = 1.0 / mask_rate
        self.masked_only = masked_only
        self.transform = Transform(hidden)
        self.object = Linear(hidden, objects)
        self.attribute = Linear(hidden, attributes)
        self.feature = Linear(hidden, feature_width)

    @classmethod
    def of(cls, parts: Parts, settings: Mapping[str, Any]) -> MaskedRegionModelling:
        """The objective of a model."""
        return cls(
            parts.hidden,
            parts.object_classes,
            parts.attribute_classes,
            parts.feature_width,
            parts.mask_rate,
            bool(settings.get("masked_only", False)),
        )

    def denominators(self, batch: Batch) -> dict[str, Tensor]:
        """Number of regions, masked or not; padding is not counted."""
        masked = batch.targets["region_masked"]
        if batch.region_mask is None:
            regions = torch.full((), float(masked.numel()), device=masked.device)
        else:
            regions = batch.region_mask.sum().float()
        return dict.fromkeys(self.names, regions)

    def forward(self, encoded: Encoded, batch: Batch) -> dict[str, Loss]:
        """The three losses.

        Targets: `object_ids`, `attribute_ids` int64 [B, R]; `object_scores`, `attribute_scores`
        float32 [B, R]; `region_masked` bool [B, R]; `original_features` float [B, M, F], those of the
        masked regions alone, see :func:`lxmert.data.masking.masked_features`.
        """
        targets = batch.targets
        regions = self.denominators(batch)["feature"]
        masked = targets["region_masked"].flatten()  # [B * R]
        if batch.region_mask is not None:
            masked = masked & batch.region_mask.flatten().bool()
        chosen = masked.nonzero().squeeze(1)
        states = encoded.vision.flatten(0, 1)
        kept = None
        if self.masked_only:
            kept = chosen
        elif batch.region_mask is not None:
            kept = batch.region_mask.flatten().nonzero().squeeze(1)
        states = self.transform(states if kept is None else states.index_select(0, kept))
        losses = {
            name: Loss(self._classify(decoder(states), targets, name, kept), regions)
            for name, decoder in (("object", self.object), ("attribute", self.attribute))
        }
        if kept is None:
            states = states.index_select(0, chosen)
        elif not self.masked_only:
            states = states.index_select(0, masked.index_select(0, kept).nonzero().squeeze(1))
        original = _of_masked(targets["original_features"], targets["region_masked"], chosen)
        restored = full_precision(self.feature(states))
        distance = functional.smooth_l1_loss(restored, original.to(restored.dtype), reduction="sum")
        losses["feature"] = Loss(distance * (self.scale / original.shape[1]), regions)
        return losses

    def _classify(self, logits: Tensor, targets: dict[str, Tensor], name: str, kept: Tensor | None) -> Tensor:
        """Confidence-weighted cross-entropy, summed over regions and scaled."""
        labels, scores = targets[f"{name}_ids"].flatten(), targets[f"{name}_scores"].flatten()
        if kept is not None:
            labels, scores = labels.index_select(0, kept), scores.index_select(0, kept)
        each = functional.cross_entropy(full_precision(logits), labels, reduction="none")
        return (each * scores).sum() * self.scale


OBJECTIVE = MaskedRegionModelling


def _of_masked(kept: Tensor, masked: Tensor, chosen: Tensor) -> Tensor:
    """Features of some masked regions, [len(chosen), F].

    Args:
        kept: float [B, M, F], features of the masked regions of each example, in order.
        masked: bool [B, R].
        chosen: int64, places of regions among the B * R.
    """
    order = masked.long().cumsum(1) - 1
    room = kept.shape[1]
    places = order + torch.arange(len(kept), device=kept.device)[:, None] * room  # [B, R]
    return kept.flatten(0, 1).index_select(0, places.flatten().index_select(0, chosen))
