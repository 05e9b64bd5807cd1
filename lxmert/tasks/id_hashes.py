"""Millions of ids compared by their hashes, which need eight bytes each and not a hundred.

Python's hashes of texts have 64 bits and another key in each process: that one of four million wrong ids has
the hash of just one that is missing happens once in a million files, and cannot be arranged.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np

from lxmert.errors import DataError
from lxmert.metrics.checks import SHOWN, extra_ids, missing_ids
from lxmert.tasks.records import equal_hashes

_CHUNK = 1 << 18

Reader = Callable[[], Iterator[str]]


def hashes_of(ids: Iterable[str]) -> array[int]:
    """The hash of each id, in their order."""
    return array("q", map(hash, ids))


def check_same_ids(given: Reader, asked: Reader) -> int:
    """Checks that two readers give the same ids, each once, in any order.

    Args:
        given: reads the ids that were answered, again from the start each time it is called.
        asked: reads those of the questions likewise.

    Returns:
        How many there are.

    Raises:
        DataError: an id is answered twice, missing or too much; names the first ones.
    """
    answered, questions = hashes_of(given()), hashes_of(asked())
    for hashes, read, text in (
        (answered, given, "id {} is answered twice. Keep one of them."),
        (questions, asked, "question {} is asked twice. Fetch the question file again."),
    ):
        seen: set[str] = set()
        for number in _at(read, equal_hashes(hashes)):
            if number in seen:
                raise DataError(text.format(number))
            seen.add(number)
    if absent := _without(questions, answered):
        raise missing_ids(len(absent), len(questions), list(_at(asked, absent[:SHOWN])))
    if extra := _without(answered, questions):
        raise extra_ids(len(extra), list(_at(given, extra[:SHOWN])))
    return len(questions)


def _at(read: Reader, positions: list[int]) -> Iterator[str]:
    """The ids at ascending positions; reads nothing where there are none."""
    ids, at = read() if positions else iter(()), 0
    for position in positions:
        yield next(islice(ids, position - at, None))
        at = position + 1


def _without(hashes: array[int], others: array[int]) -> list[int]:
    """Positions of the hashes that are not among the others, ascending."""
    if not others:
        return list(range(len(hashes)))
    ordered, found = np.sort(np.frombuffer(others, np.int64)), []
    for start in range(0, len(hashes), _CHUNK):
        part = np.frombuffer(hashes, np.int64)[start : start + _CHUNK]
        places = np.minimum(np.searchsorted(ordered, part), len(ordered) - 1)
        found += (np.flatnonzero(ordered[places] != part) + start).tolist()
    return found
