"""Dropout whose masks follow from the step's number, not from a generator's state."""

from __future__ import annotations

import hashlib
import weakref
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lxmert.models.rows import Rows

_BLOCK = 8  # batch rows that share one seeding of a device's generator
_BLOCK_OF_TOKENS = 256  # the same, where a row is one token


class Before(NamedTuple):
    """How much of the global batch stands before the piece that is computed.

    Attributes:
        examples: rows of the encoder's batch.
        tokens: real word pieces.
        regions: real regions.
    """

    examples: int = 0
    tokens: int = 0
    regions: int = 0


class DropoutNoise:
    """The random numbers of all dropouts of one model, drawn from counters.

    A mask depends on (key, forward pass, place in the model, row of the global batch) and on nothing
    else: not on the global generator, not on other masks. So a resumed run repeats an unbroken one, a
    layer computed twice (activation checkpointing) sees the same mask twice, and a batch cut in
    micro-batches or among ranks sees the masks of the whole, as long as its pieces are padded alike.

    PyTorch's own dropout spends about 8 ns an element on the CPU, more than the layer it follows at
    small widths. Here one 64-bit draw decides four elements, 0.6 ns each; the rate is therefore rounded
    to a multiple of 1/65536, and survivors are scaled by the rounded rate.
    """

    def __init__(self) -> None:
        self.key: tuple[int, ...] = (0,)
        self.passes = 0
        self.before = Before()
        self._places = 0
        self.number = 0  # under which compiled code finds it; 0: none has been compiled

    def begin(self, *key: int, before: Before | None = None) -> None:
        """Set the key, say (seed, step); the next forward pass is number 0.

        Args:
            key: what the masks depend on.
            before: what of the global batch stands before the batches to come; None: nothing.
        """
        self.key = tuple(int(part) for part in key)
        self.passes = 0
        self.before = before or Before()

    def advance(self) -> None:
        """Count one forward pass."""
        self.passes += 1

    def new_place(self) -> int:
        """The number of the next dropout of the model."""
        self._places += 1
        return self._places

    def register(self) -> None:
        """Let compiled code draw from here."""
        self.number = max(_COMPILED, default=0) + 1
        _COMPILED[self.number] = self

    def scaled_mask(self, like: Tensor, rate: float, *place: int, before: int = 0) -> Tensor:
        """0 where dropped, 1 / (1 - rate) elsewhere; shape, dtype and device of `like`.

        Args:
            like: [rows, ...].
            rate: share to drop.
            place: where in the model.
            before: rows of the global batch's tensor that stand before these.
        """
        dropped = round(rate * 65536)
        scale = 65536 / (65536 - dropped)
        seed = (*self.key, self.passes, *place)
        if like.device.type != "cpu":
            return self.drawn_in_blocks(like, 1 / scale, seed, before).mul_(scale)
        start = before * (like.numel() // max(like.shape[0], 1))
        source = np.random.PCG64(seed)
        source.advance(start // 4)
        bits = source.random_raw(-(-(start % 4 + like.numel()) // 4)).view(np.int16)[start % 4 :]
        mask = torch.empty(like.shape, dtype=like.dtype)
        return torch.ge(
            torch.from_numpy(bits[: like.numel()]).view(like.shape), dropped - 32768, out=mask
        ).mul_(scale)

    def drawn_in_blocks(self, like: Tensor, kept: float, seed: tuple[int, ...], before: int) -> Tensor:
        """1 with probability `kept`, else 0; by the device's generator, seeded for every few rows."""
        size = _BLOCK_OF_TOKENS if like.dim() == 2 else _BLOCK
        first, stop = before, before + like.shape[0]
        mask = torch.empty(like.shape, dtype=like.dtype, device=like.device)
        rows = mask.view(stop - first, -1)
        for block in range(first // size, -(-stop // size)):
            generator = torch.Generator(like.device).manual_seed(fold_seed(*seed, block))
            low, high = max(block * size, first), min((block + 1) * size, stop)
            if high - low == size:
                rows[low - first : high - first].bernoulli_(kept, generator=generator)
            else:
                whole = torch.empty((size, rows.shape[1]), dtype=like.dtype, device=like.device)
                whole.bernoulli_(kept, generator=generator)
                rows[low - first : high - first] = whole[low - block * size : high - block * size]
        return mask


class Dropout(nn.Module):
    """Dropout whose masks come from a :class:`DropoutNoise`."""

    def __init__(self, rate: float, noise: DropoutNoise) -> None:
        super().__init__()
        self.rate = float(rate)
        self.noise = noise
        self.place = noise.new_place()
        # The place where compiled code reads it: as a tensor, so that all layers share one piece of code.
        self._place = torch.tensor(self.place, device="cpu")

    @property
    def active(self) -> bool:
        """Whether values are dropped at all."""
        return self.training and self.rate > 0

    def forward(self, values: Tensor, use: int = 0, before: int = 0) -> Tensor:
        """The values [rows, ...], some of them zeroed.

        Args:
            values: float [rows, ...].
            use: tells uses within one forward pass apart.
            before: rows of the global batch's tensor that stand before these.
        """
        if not self.active:
            return values
        return values * self._mask(values, use, before)

    def add_to(self, residual: Tensor, values: Tensor, *streams: Rows) -> Tensor:
        """``residual + dropout(values)`` in one pass.

        Args:
            residual: float [T, H].
            values: float [T, H], rows of one stream, or of several one after the other.
            streams: the rows of each.
        """
        if not self.active:
            return residual + values
        parts = [
            self._mask(part, use, rows.before)
            for use, (rows, part) in enumerate(zip(streams, values.split([*map(len, streams)]), strict=True))
        ]
        return torch.addcmul(residual, values, parts[0] if len(parts) == 1 else torch.cat(parts))

    def _mask(self, like: Tensor, use: int, before: int) -> Tensor:
        if torch.compiler.is_compiling():
            return _mask_in_compiled_code(
                like.detach(), self._place, self.noise.number, self.rate, use, before
            )
        return self.noise.scaled_mask(like, self.rate, self.place, use, before=before)


# Drawing is NumPy's work and depends on counters that change with each step: torch.compile sees one operation
# without insides, so that a layer stays one graph, and compiled code drops what plain code drops.
_COMPILED: weakref.WeakValueDictionary[int, DropoutNoise] = weakref.WeakValueDictionary()


@torch.library.custom_op("lxmert::dropout_mask", mutates_args=())
def _mask_in_compiled_code(
    like: Tensor, place: Tensor, noise: int, rate: float, use: int, before: int
) -> Tensor:
    return _COMPILED[noise].scaled_mask(like, rate, int(place), use, before=before)


@_mask_in_compiled_code.register_fake
def _(like: Tensor, place: Tensor, noise: int, rate: float, use: int, before: int) -> Tensor:
    return torch.empty_like(like)


def fold_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and on their order."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
