"""Tokens without padding: sequences of different length, one after the other as rows of one matrix.

Nine tenths of the work are products, norms and activations of single tokens, and for those a batch needs no
rectangle. So the sentences of a batch lie one after the other, [T, H], and only attention, which relates
tokens of one sentence, sees them side by side, [B, N, H]. Every batch is then computed as if all its examples
were of one length, whichever examples the sampler drew: the order is that of the published runs, and no
bucketing by length bends it. Regions of images with different numbers of boxes are treated alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Where the tokens of B sequences stand when they lie one after the other.

    Attributes:
        shape: B and N, the length of the longest.
        mask: additive float [B, 1, 1, N], 0 where a token is real; None when all are.
        places: int64 [T], place of each row among the B * N of the rectangle; None when nothing is padding.
        starts: int64 [B], row of each sequence's first token; None when nothing is padding.
        before: rows of the global batch that stand before these.
        examples_before: sequences of the global batch that stand before these.
    """

    shape: tuple[int, int]
    mask: Tensor | None = None
    places: Tensor | None = None
    starts: Tensor | None = None
    before: int = 0
    examples_before: int = 0

    @classmethod
    def of(
        cls, mask: Tensor | None, shape: tuple[int, int], before: int = 0, examples_before: int = 0
    ) -> Rows:
        """The rows of a padded batch; the first token of each sequence must be real.

        Args:
            mask: additive, as :func:`additive_mask` gives it.
            shape: B and N.
            before: see the class.
            examples_before: see the class.
        """
        if mask is None:
            return cls(shape, None, None, None, before, examples_before)
        real = mask[:, 0, 0] == 0
        places = real.flatten().nonzero().squeeze(1)
        lengths = real.sum(1)
        return cls(shape, mask, places, lengths.cumsum(0) - lengths, before, examples_before)

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1] if self.places is None else len(self.places)

    def gather(self, padded: Tensor) -> Tensor:
        """[B, N, X] to [T, X]."""
        flat = padded.flatten(0, 1)
        return flat if self.places is None else flat.index_select(0, self.places)

    def spread(self, rows: Tensor) -> Tensor:
        """[T, X] to [B, N, X], zeros where nothing stands."""
        if self.places is not None:
            room = rows.new_zeros(self.shape[0] * self.shape[1], rows.shape[1])
            rows = room.index_copy(0, self.places, rows)
        return rows.view(*self.shape, rows.shape[1])

    def first(self, rows: Tensor) -> Tensor:
        """The first token of each sequence: [T, X] to [B, X]."""
        if self.starts is None:
            return rows.view(*self.shape, rows.shape[1])[:, 0]
        return rows.index_select(0, self.starts)

    def firsts(self) -> Rows:
        """The rows that :meth:`first` gives."""
        return Rows((self.shape[0], 1), before=self.examples_before, examples_before=self.examples_before)


MASKED_SCORE = -10000.0  # in float32 exp(-10000) is exactly 0: a masked key weighs nothing


def additive_mask(mask: Tensor | None, dtype: torch.dtype = torch.float32) -> Tensor | None:
    """What to add to attention scores: [B, N] of ones and zeros to [B, 1, 1, N] of 0 and -10000.

    A mask of ones only, or None, gives None where that can be known without waiting for a GPU.
    """
    if mask is None or (mask.device.type == "cpu" and bool(mask.all())):
        return None
    return ((1.0 - mask.to(dtype)) * MASKED_SCORE)[:, None, None, :]
