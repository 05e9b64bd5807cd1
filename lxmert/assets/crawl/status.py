"""What became of each image of a crawl: one JSON line an image, added to as the answers come.

    {"image": "dev-1-0-img0.png", "address": "https://…", "state": "done", "bytes": 1, "sha256": "…"}
    {"image": "dev-1-0-img1.png", "address": "https://…", "state": "gone", "why": "HTTP 404"}

A killed crawl leaves at most half a last line, which is forgotten. Lines hold no dates, and a crawl that
ends writes them in the order of the names, so that equal answers leave equal files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lxmert.errors import DataError
from lxmert.files import atomic_write_text, explain_os_error, make_folder

DONE = "done"
# Why an image is not there. Only the last may become another answer by itself.
GONE, REFUSED, NO_PICTURE, WRONG_HASH = "gone", "refused", "no_picture", "wrong_hash"
TOO_LARGE, BAD_ADDRESS, NO_ANSWER = "too_large", "bad_address", "no_answer"
MISSING = (GONE, REFUSED, NO_PICTURE, WRONG_HASH, TOO_LARGE, BAD_ADDRESS, NO_ANSWER)
WORDS = {
    GONE: "gone",
    REFUSED: "refused",
    NO_PICTURE: "not a picture",
    WRONG_HASH: "another picture",
    TOO_LARGE: "too large",
    BAD_ADDRESS: "no usable address",
    NO_ANSWER: "no answer",
}


@dataclass(frozen=True)
class Status:
    """What became of one image.

    Attributes:
        image: its name.
        address: the one that was asked; another one in the records is asked anew.
        state: "done" or one of `MISSING`.
        why: in a few words, where it is missing.
        bytes: of the file, where it is there.
        sha256: likewise.
        distance: bits of the hash that differ, where it was compared.
    """

    image: str
    address: str
    state: str
    why: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    distance: int | None = None

    def line(self) -> str:
        """As it stands in the file."""
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None}) + "\n"


class StatusFile:
    """The file; one process at a time has it."""

    def __init__(self, path: Path) -> None:
        """Reads what is there, and writes it anew without what was overtaken or half written.

        Raises:
            DataError: it is something else, or cannot be written.
        """
        self.path = path
        self.entries = read_status(path)
        make_folder(path.parent)
        self.rewrite()
        try:
            self._handle = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by `close`)
        except OSError as error:
            raise explain_os_error(error, path) from error

    def add(self, status: Status) -> None:
        """Notes what became of an image; it survives the process at once."""
        self.entries[status.image] = status
        try:
            self._handle.write(status.line())
            self._handle.flush()
        except OSError as error:
            raise explain_os_error(error, self.path) from error

    def keep(self, images: Iterable[str]) -> None:
        """Forgets images that the records no longer name."""
        known = set(images)
        self.entries = {name: entry for name, entry in self.entries.items() if name in known}

    def rewrite(self) -> None:
        """Writes all of it in the order of the names."""
        atomic_write_text(self.path, "".join(entry.line() for _, entry in sorted(self.entries.items())))

    def close(self) -> None:
        """Ends writing."""
        self._handle.close()


def read_status(path: Path) -> dict[str, Status]:
    """What became of each image; nothing where there was no crawl.

    Raises:
        DataError: the file is something else.
    """
    if not path.exists():
        return {}
    found: dict[str, Status] = {}
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise explain_os_error(error, path) from error
    for number, line in enumerate(lines[:-1], 1):  # behind the last line's end is nothing, or half a line
        try:
            entry = _entry(json.loads(line))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{path}:{number}: is no line of a crawl ({error}). Move the file away; images that are"
                " there are looked at again, not fetched again."
            ) from error
        found[entry.image] = entry
    return found


def _entry(value: dict[str, Any]) -> Status:
    entry = Status(**value)
    if entry.state not in (DONE, *MISSING) or not isinstance(entry.image, str):
        raise ValueError(f"unknown state {entry.state!r}")
    return entry
