"""A download that is not whole yet: its bytes, and a note on where they come from."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxmert.assets.answers import BadContent
from lxmert.assets.stated import KINDS
from lxmert.files import atomic_write_json, make_folder


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it comes.

    Attributes:
        name: as messages show it.
        bytes: exact size, if known.
        sha256: of the whole file, if known.
        least_bytes: a smaller file cannot be the right one, whatever it says.
        limit_bytes: neither can a larger one.
        shows_truncation: a missing end is noticed later without knowing the size.
        shows_foreign_bytes: so are bytes of another version of the file.
    """

    name: str
    bytes: int | None = None
    sha256: str | None = None
    least_bytes: int | None = None
    limit_bytes: int | None = None
    shows_truncation: bool = False
    shows_foreign_bytes: bool = False

    def refuse_size(self, size: int | None) -> None:
        """Raises BadContent if a file of that size cannot be this one; None is a size nobody told."""
        if size is None:
            return
        if self.bytes is not None and size != self.bytes:
            raise BadContent(f"has {size} bytes instead of {self.bytes}")
        if size == 0:
            raise BadContent("is empty")
        if self.least_bytes is not None and size < self.least_bytes:
            raise BadContent(f"has {size} bytes, fewer than the {self.least_bytes} this file must have")
        if self.limit_bytes is not None and size > self.limit_bytes:
            raise BadContent(f"has {size} bytes, more than the {self.limit_bytes} this file can have")


class Part:
    """An unfinished file `<name>.part`, and beside it a note on where its bytes come from."""

    def __init__(self, final: Path) -> None:
        """Takes the path the finished file will have."""
        self.path = final.with_name(f"{final.name}.part")
        self._note_path = final.with_name(f"{final.name}.part.json")
        self.note = self._read_note()
        self._cut_back()

    @property
    def size(self) -> int:
        """Bytes there are."""
        return self.path.stat().st_size if self.path.exists() else 0

    def clear(self) -> None:
        """Removes bytes and note."""
        self.path.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)
        self.note = {}

    @property
    def stated(self) -> dict[str, str]:
        """Checksums that the server stated of the whole file."""
        return dict(self.note.get("stated", {}))

    def begin(
        self, url: str, validator: str | None, total: int | None, stated: Mapping[str, str] | None = None
    ) -> None:
        """Starts from nothing with the bytes of an address, and what its server says of them."""
        make_folder(self.path.parent)
        with open(self.path, "wb"):
            pass
        self.note = {"url": url, "validator": validator, "total": total, "stated": dict(stated or {})}
        self.synced(0)

    def go_on(self, stated: Mapping[str, str]) -> None:
        """Notes what the server that goes on with the file states of it, if it states anything."""
        if stated and dict(stated) != self.stated:
            self.note = {**self.note, "stated": dict(stated)}
            atomic_write_json(self._note_path, self.note)

    def synced(self, size: int) -> None:
        """Notes that so many bytes have reached the disk."""
        self.note = {**self.note, "synced": size, "boot": _boot()}
        atomic_write_json(self._note_path, self.note)

    def drop_note(self) -> None:
        """Removes the note once the bytes have their final name."""
        self._note_path.unlink(missing_ok=True)

    def offset(self, url: str, expected: Expected) -> int:
        """From which byte an address may go on; 0 where mixed versions would not be noticed."""
        if expected.sha256 or expected.shows_foreign_bytes:
            return self.size
        return self.size if self.note.get("url") == url and self.note.get("validator") else 0

    def is_whole(self, expected: Expected) -> bool:
        """Whether all bytes are there, as after a kill just before the renaming."""
        total = expected.bytes or self.note.get("total")
        return bool(total) and self.size == total

    def _read_note(self) -> dict[str, Any]:
        try:
            value = json.loads(self._note_path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}  # without its note a part cannot be trusted, and is begun again
        return value if _is_note(value) else {}

    def _cut_back(self) -> None:
        """Forgets bytes that a crashed machine may not have written."""
        if not self.note:
            self.path.unlink(missing_ok=True)
        elif self.note["boot"] != _boot() and self.size > self.note["synced"]:
            os.truncate(self.path, self.note["synced"])


def _is_note(value: Any) -> bool:
    """Whether a note holds what `Part` writes; a damaged one is as good as none."""
    if not isinstance(value, dict):
        return False
    texts = [value.get("url"), value.get("boot"), value.get("validator") or ""]
    counts = [value.get("synced"), 0 if value.get("total") is None else value["total"]]
    stated = value.get("stated", {})
    return (
        all(isinstance(text, str) for text in texts)
        and all(type(count) is int and count >= 0 for count in counts)
        and isinstance(stated, dict)
        and all(kind in KINDS and isinstance(digest, str) for kind, digest in stated.items())
    )


def _boot() -> str:
    """Names this start of this machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(round(time.time() - time.monotonic(), -1))
