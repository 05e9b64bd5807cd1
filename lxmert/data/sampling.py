"""Which examples make up a step, and the random numbers of that step.

Both are functions of (seed, purpose, step) alone. A resumed job therefore needs no sampler state,
any number of workers draws the same batches, and nothing grows with the size of the data.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np

_ROUNDS = 6
_AT_ONCE = 4096  # examples whose place in the order is computed together: a batch of them costs as much


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from a tuple such as (seed, "dropout", step)."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(*parts: int | str) -> np.random.Generator:
    """An independent random generator for a tuple of parts."""
    return np.random.Generator(np.random.Philox(derive_seed(*parts)))


class Permutation:
    """A pseudo-random order of 0 … count-1 that is computed where it is needed.

    A Feistel network over the next even power of two, walked until it falls inside: an order of
    nine million examples costs no memory and no time before the first batch.

    Args:
        count: how many items.
        parts: what the order depends on, such as (seed, "epoch", 3).
    """

    def __init__(self, count: int, *parts: int | str) -> None:
        self.count = count
        self._half_bits = max(1, ((max(count, 2) - 1).bit_length() + 1) // 2)
        self._half_mask = np.uint64((1 << self._half_bits) - 1)
        draws = generator("permutation", *parts).integers(0, 2**63, _ROUNDS, dtype=np.int64)
        self._keys = draws.astype(np.uint64)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Items at some positions: int64 [B] in, int64 [B] out."""
        values = np.asarray(positions).astype(np.uint64)
        values = self._shuffle(values)
        outside = values >= self.count
        while outside.any():
            values[outside] = self._shuffle(values[outside])
            outside = values >= self.count
        return values.astype(np.int64)

    def _shuffle(self, values: np.ndarray) -> np.ndarray:
        shift = np.uint64(self._half_bits)
        left, right = values >> shift, values & self._half_mask
        for key in self._keys:
            mixed = _mix(right ^ key)
            mixed &= self._half_mask
            mixed ^= left
            left, right = right, mixed
        return (left << shift) | right


def _mix(values: np.ndarray) -> np.ndarray:
    """Splitmix64's finaliser, in place: every input bit reaches every output bit."""
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)  # arrays wrap around
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def step_rows(count: int, batch: int, step: int, *parts: int | str) -> np.ndarray:
    """Rows of a training step, counted over epochs: int64 [batch].

    Every epoch has its own order and drops its last, partial batch.
    """
    per_epoch = count // batch
    epoch, position = divmod(step, per_epoch)
    together = max(1, _AT_ONCE // batch)
    block, inside = divmod(position, together)
    positions = (block * together * batch, min((block + 1) * together, per_epoch) * batch)
    rows: np.ndarray = _ordered(count, positions, *parts, "epoch", epoch)
    return rows[inside * batch : (inside + 1) * batch].copy()


@functools.lru_cache(maxsize=8)
def _ordered(count: int, positions: tuple[int, int], *parts: int | str) -> np.ndarray:
    """The rows from one position of an order to another."""
    return Permutation(count, *parts)(np.arange(*positions))
