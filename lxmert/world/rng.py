"""Random numbers that are the same on every machine and independent between purposes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def digest_number(*parts: object) -> int:
    """A 64-bit number that depends on the parts only, e.g. (seed, "vg", 17)."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


class Stream:
    """A stream of random choices named by its parts.

    Only ``random.Random.random`` is used underneath: Python promises that this one method keeps its
    sequence between versions, which it does not for ``choice``, ``shuffle`` or ``sample``.
    """

    def __init__(self, *parts: object) -> None:
        self._draw = random.Random(digest_number(*parts)).random

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._draw() < probability

    def below(self, limit: int) -> int:
        """A whole number in 0 … limit − 1."""
        return int(self._draw() * limit)

    def between(self, low: float, high: float) -> float:
        """A real number in [low, high)."""
        return low + (high - low) * self._draw()

    def choice(self, items: Sequence[T]) -> T:
        """One of the items, each with the same chance."""
        return items[int(self._draw() * len(items))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """One of the keys, by its weight."""
        point = self._draw() * sum(weights.values())
        for item, weight in weights.items():
            point -= weight
            if point < 0:
                return item
        return next(reversed(list(weights)))

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in a new order."""
        out = list(items)
        for last in range(len(out) - 1, 0, -1):
            other = self.below(last + 1)
            out[last], out[other] = out[other], out[last]
        return out

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """``count`` different items, or all when there are fewer."""
        return self.shuffled(items)[:count]
