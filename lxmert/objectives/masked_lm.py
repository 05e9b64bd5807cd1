"""Masked language modelling: name the word pieces that were hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lxmert.models.layers import Transform
from lxmert.objectives import Loss, Parts, full_precision
from lxmert.types import Batch, Encoded


class MaskedLanguageModelling(nn.Module):
    """BERT's transform, then a decoder that shares the word embeddings, plus a bias.

    Args:
        words: the encoder's word embeddings [V, H]; shared, not copied.
    """

    reads = "language"
    names = ("masked_lm",)
    switches = ()

    def __init__(self, words: nn.Parameter) -> None:
        super().__init__()
        self.transform = Transform(words.shape[1])
        self.words = words
        self.bias = nn.Parameter(torch.empty(words.shape[0]))

    @classmethod
    def of(cls, parts: Parts, settings: Mapping[str, Any]) -> MaskedLanguageModelling:
        """The objective of a model."""
        return cls(parts.words)

    def denominators(self, batch: Batch) -> dict[str, Tensor]:
        """Number of hidden word pieces."""
        return {"masked_lm": (batch.targets["masked_lm_labels"] != -1).sum().float()}

    def logits(self, states: Tensor) -> Tensor:
        """Scores over the vocabulary, [..., H] to [..., V]."""
        return functional.linear(self.transform(states), self.words, self.bias)

    def forward(self, encoded: Encoded, batch: Batch) -> dict[str, Loss]:
        """Cross-entropy at the hidden places; target `masked_lm_labels` int64 [B, L], -1 elsewhere.

        About 15 % of the places are hidden. They are gathered first: the decoder is the widest
        product of the model, and the other rows would be thrown away.
        """
        labels = batch.targets["masked_lm_labels"].flatten()
        chosen = (labels != -1).nonzero().squeeze(1)
        states = encoded.language.flatten(0, 1).index_select(0, chosen)  # [M, H]
        logits = full_precision(self.logits(states))
        total = functional.cross_entropy(logits, labels.index_select(0, chosen), reduction="sum")
        return {"masked_lm": Loss(total, self.denominators(batch)["masked_lm"])}


OBJECTIVE = MaskedLanguageModelling
