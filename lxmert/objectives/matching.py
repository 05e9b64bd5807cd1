"""Image-text matching: does the sentence belong to the image?"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lxmert.models.layers import Linear
from lxmert.objectives import Loss, full_precision
from lxmert.types import Batch, Encoded


class Matching(nn.Module):
    """Linear to two classes over the pooled vector; class 1 is a match."""

    reads = "pooled"
    names = ("matching",)

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.classifier = Linear(hidden, 2)

    def denominators(self, batch: Batch) -> dict[str, Tensor]:
        """Number of examples."""
        labels = batch.targets["matched"]
        return {"matching": torch.full((), float(len(labels)), device=labels.device)}

    def forward(self, encoded: Encoded, batch: Batch) -> dict[str, Loss]:
        """Cross-entropy; target `matched` int64 [B], 0 where the sentence was exchanged."""
        logits = full_precision(self.classifier(encoded.pooled))
        total = functional.cross_entropy(logits, batch.targets["matched"], reduction="sum")
        return {"matching": Loss(total, self.denominators(batch)["matching"])}
