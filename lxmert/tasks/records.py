"""Fields of raw records, checked; every fault names the file, the record and its id."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.errors import DataError

_KINDS = {int: "a whole number", str: "text", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands, for messages."""

    path: Path
    record: int
    id: object = None

    def __str__(self) -> str:
        return f"{self.path}: record {self.record}" + ("" if self.id is None else f" (id {self.id})")


def field(record: Any, name: str, kind: type, place: Place) -> Any:
    """A required field of a record.

    Raises:
        DataError: the record is no object, or the field is absent or of another type.
    """
    if not isinstance(record, dict):
        raise DataError(f"{place}: must be an object, is {type(record).__name__}. Fetch the file again.")
    if name not in record:
        raise DataError(f'{place}: has no "{name}". Is it another file or version? Fetch the file again.')
    value = record[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f'{place}: "{name}" must be {_KINDS[kind]}, is {value!r:.60}. Fetch the file again.')
    return value


def join_by_id(
    left: Iterator[tuple[Place, Any]], right: Iterator[tuple[Place, Any]], key: Callable[[Any, Place], object]
) -> Iterator[tuple[Place, Any, Any]]:
    """Each record of `left` with the record of `right` of the same id, in the order of `left`.

    Publishers write both files in one order, so little is held; any order works.

    Raises:
        DataError: a record of either side has no partner, or an id of `right` occurs twice.
    """
    waiting: dict[object, tuple[Place, Any]] = {}
    for place, record in left:
        wanted = key(record, place)
        while wanted not in waiting:
            step = next(right, None)
            if step is None:
                raise DataError(
                    f"{place}: id {wanted} has no partner in the annotations."
                    " The files do not belong together."
                )
            other = key(step[1], step[0])
            if other in waiting:
                raise DataError(f"{step[0]}: id {other} occurs twice. Fetch the file again.")
            waiting[other] = step
        yield place, record, waiting.pop(wanted)[1]
    for place, record in (*waiting.values(), *right):
        raise DataError(
            f"{place}: id {key(record, place)} belongs to no question. The files do not belong together."
        )


def numbered(records: Iterator[Any], path: Path) -> Iterator[tuple[Place, Any]]:
    """Records with their places."""
    for number, record in enumerate(records):
        yield Place(path, number), record


def raw_files(raw: Path, names: str | list[str]) -> list[Path]:
    """The raw files a document names, relative to `raw`; of a name with `*`, its shards by their numbers.

    Raises:
        DataError: there is no shard.
    """
    found = []
    for name in [names] if isinstance(names, str) else names:
        path = raw / name
        if "*" not in path.name:
            found.append(path)
            continue
        shards = sorted(path.parent.glob(path.name), key=_shard_order)
        if not shards:
            raise DataError(f"{path}: no such file. Fetch them, or put them there.")
        found += shards
    return found


def _shard_order(path: Path) -> tuple[int, str]:
    number = re.search(r"(\d+)\D*$", path.name)
    return int(number[1]) if number else -1, path.name


def is_whole(value: Mapping[str, Any] | object) -> bool:
    """True for a whole number that is no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def equal_hashes(hashes: array[int]) -> list[int]:
    """Positions whose hash occurs more than once, ascending.

    Sets of four million ids would need half a gigabyte; their hashes need 32 MB, and as much to sort them.
    """
    values = np.frombuffer(hashes, dtype=np.int64) if len(hashes) else np.empty(0, np.int64)
    ordered = np.sort(values)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    positions: list[int] = np.flatnonzero(np.isin(values, repeated)).tolist() if len(repeated) else []
    return positions
