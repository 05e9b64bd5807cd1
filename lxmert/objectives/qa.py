"""Question answering in pretraining: one answer out of the joint table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from lxmert.models.heads import ClassificationHead
from lxmert.objectives import Loss, Parts, full_precision
from lxmert.types import Batch, Encoded


class QuestionAnswering(nn.Module):
    """The classification head that fine-tuning starts from."""

    reads = "pooled"
    names = ("qa",)
    switches = ()

    def __init__(self, hidden: int, answers: int) -> None:
        super().__init__()
        self.head = ClassificationHead(hidden, answers)

    @classmethod
    def of(cls, parts: Parts, settings: Mapping[str, Any]) -> QuestionAnswering:
        """The objective of a model."""
        return cls(parts.hidden, parts.answers)

    def denominators(self, batch: Batch) -> dict[str, Tensor]:
        """Number of answered examples."""
        return {"qa": (batch.targets["answer"] != -1).sum().float()}

    def forward(self, encoded: Encoded, batch: Batch) -> dict[str, Loss]:
        """Cross-entropy; target `answer` int64 [B], -1 where there is none or the pair is mismatched."""
        labels = batch.targets["answer"]
        logits = full_precision(self.head(encoded))
        total = functional.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
        return {"qa": Loss(total, self.denominators(batch)["qa"])}


OBJECTIVE = QuestionAnswering
