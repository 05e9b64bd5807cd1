"""One member of an archive, and what no honest archive's member looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from lxmert.assets.answers import BadContent

# JSON of the catalogue shrinks to a twentieth; deflate can reach a thousandth, which only bombs do.
MAX_RATIO = 200
_RATIO_GRACE_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20


@dataclass
class Entry:
    """A member as stored: its path, its declared size, and how its bytes are read."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def refuse_path(name: str) -> None:
    """Raises BadContent if a stored path leaves the folder it is unpacked to."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or (len(name) > 1 and name[1] == ":"):
        raise BadContent(f"holds the absolute path {shortened(name)}")
    if ".." in parts:
        raise BadContent(f"holds the path {shortened(name)}, which leaves its folder")
    if any(ord(letter) < 32 for letter in name):
        raise BadContent(f"holds the unprintable name {shortened(name)}")


def shortened(name: str) -> str:
    """A stored path as messages show it."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...")


def refuse_ratio(unpacked: int, packed: int, name: str) -> None:
    """Raises BadContent if a member unpacks to far more than its share."""
    if unpacked > _RATIO_GRACE_BYTES and unpacked > MAX_RATIO * max(packed, 1):
        raise BadContent(f"unpacks {shortened(name)} from {packed} to {unpacked} bytes, as only bombs do")
