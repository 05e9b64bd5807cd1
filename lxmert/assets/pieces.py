"""Archives that were split: pieces of GNU split, joined in the order of their bytes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lxmert.assets.answers import BadContent

_CHUNK = 1 << 20


def join_parts(parts: Iterable[Path], out: Path) -> None:
    """Pieces of GNU split (`x.zip.aa`, `x.zip.ab`, ...) as one file, in the order of their bytes.

    Raises:
        BadContent: a piece is missing or not one of the same file.
    """
    ordered = sorted(parts, key=lambda path: path.name.encode())
    refuse_gaps([path.name for path in ordered])
    with open(out, "wb") as target:
        for part in ordered:
            with open(part, "rb") as source:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)


def refuse_gaps(names: list[str]) -> None:
    """Raises BadContent unless sorted names are consecutive pieces of one file."""
    stems = {name.rpartition(".")[0] for name in names}
    if len(stems) != 1:
        raise BadContent(f"pieces are of different files: {', '.join(sorted(stems))}")
    suffixes = [name.rpartition(".")[2] for name in names]
    first = suffixes[0]
    numbers = [_number(suffix) for suffix in suffixes]
    # Numbered pieces may begin with 1, lettered ones begin with a.
    begin = 1 if first.isdigit() and numbers[0] == 1 else 0
    expected = list(range(begin, begin + len(numbers)))
    if len({len(suffix) for suffix in suffixes}) != 1 or numbers != expected:
        raise BadContent(f"pieces from .{first} to .{suffixes[-1]} have a gap: {len(suffixes)} are there")


def _number(suffix: str) -> int:
    """Place of a piece in its series: `aa`, `00` are 0."""
    if suffix.isdigit():
        return int(suffix)
    number = 0
    for letter in suffix.encode():
        number = number * 26 + letter - ord("a")
    return number
