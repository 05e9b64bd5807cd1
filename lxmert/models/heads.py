"""What stands on an encoder for each kind of task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lxmert.errors import SpecError, suggest
from lxmert.models.layers import LayerNorm, Linear
from lxmert.types import Batch, Encoded


class ClassificationHead(nn.Module):
    """Linear to 2H, GELU, norm, linear to K, over the pooled vector. No dropout."""

    inputs = 1  # pooled vectors of one example
    reads = "pooled"

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.inner = Linear(self.inputs * hidden, 2 * hidden)
        self.norm = LayerNorm(2 * hidden)
        self.outer = Linear(2 * hidden, classes)

    def forward(self, encoded: Encoded) -> Tensor:
        """Logits [B, K] of an encoded batch."""
        return self.score(encoded.pooled)

    def score(self, pooled: Tensor) -> Tensor:
        """Logits [B, K] of pooled vectors [B, inputs * H]."""
        return self.outer(self.norm(self.inner(pooled, gelu=True)))


class PairClassificationHead(ClassificationHead):
    """The same over two images of one sentence.

    The batch holds 2b rows: sentence i with its left image at row 2i, with its right one at 2i + 1.
    """

    inputs = 2

    def forward(self, encoded: Encoded) -> Tensor:
        """Logits [b, K] of 2b encoded rows."""
        return self.score(encoded.pooled.reshape(len(encoded.pooled) // 2, -1))  # [b, 2H]


HEADS: dict[str, type[ClassificationHead]] = {
    "classification": ClassificationHead,
    "pair_classification": PairClassificationHead,
}


def build_head(kind: str, hidden: int, classes: int) -> ClassificationHead:
    """The default head of a kind.

    Raises:
        SpecError: no such kind.
    """
    if kind not in HEADS:
        raise SpecError(f'head: unknown kind "{kind}".{suggest(kind, HEADS)}')
    return HEADS[kind](hidden, classes)


class TaskModel(nn.Module):
    """An encoder with a task's head."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, batch: Batch) -> Tensor:
        """Logits, [B, K]; [b, K] where 2b rows make b pairs."""
        return self.head(self.encoder(batch, read=self.head.reads))


@torch.no_grad()
def warm_start_answers(target: ClassificationHead, source: ClassificationHead, rows: Sequence[int]) -> int:
    """Copy a trained answer head, choosing the last layer's rows by answer.

    Args:
        target: the head to fill, K answers.
        source: the pretrained head.
        rows: K row numbers of `source`, one for each answer of `target`; -1 where it has none, and
            that row and bias become 0, as in the reference.

    Returns:
        How many rows were copied.
    """
    target.inner.load_state_dict(source.inner.state_dict())
    target.norm.load_state_dict(source.norm.state_dict())
    index = torch.as_tensor(rows, dtype=torch.int64, device=source.outer.weight.device)
    assert index.shape == (target.outer.out_features,)
    known = index >= 0
    chosen = index.clamp(min=0)
    target.outer.weight.copy_(source.outer.weight[chosen] * known[:, None])
    target.outer.bias.copy_(source.outer.bias[chosen] * known)
    return int(known.sum())
