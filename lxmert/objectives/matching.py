"""Image-text matching: does the sentence belong to the image?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from lxmert.models.layers import Linear
from lxmert.objectives import Loss, Parts, full_precision
from lxmert.types import Batch, Encoded


class Matching(nn.Module):
    """Linear to two classes over the pooled vector; class 1 is a match."""

    reads = "pooled"
    names = ("matching",)
    switches = ()

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.classifier = Linear(hidden, 2)

    @classmethod
    def of(cls, parts: Parts, settings: Mapping[str, Any]) -> Matching:
        """The objective of a model."""
        return cls(parts.hidden)

    def denominators(self, batch: Batch) -> dict[str, Tensor]:
        """Number of examples that are asked."""
        return {"matching": (batch.targets["matched"] != -1).sum().float()}

    def forward(self, encoded: Encoded, batch: Batch) -> dict[str, Loss]:
        """Cross-entropy; target `matched` int64 [B], 0 where the sentence was exchanged, -1: not asked."""
        labels = batch.targets["matched"]
        logits = full_precision(self.classifier(encoded.pooled))
        total = functional.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
        return {"matching": Loss(total, self.denominators(batch)["matching"])}


OBJECTIVE = Matching
