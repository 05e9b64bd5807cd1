"""Whether bytes look like what they should be, before they get a final name."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

_HEAD_BYTES = 1024
_PARSED_JSON_BYTES = 16 << 20
_PAGE = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<!doctype\s+html|<html|<head|<body|<\?xml|<script|<!--)", re.IGNORECASE
)
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_MAGIC = {
    "zip": (b"PK\x03\x04", b"PK\x05\x06"),
    "torch": (b"PK\x03\x04", b"\x80"),
    "pickle": (b"\x80",),
}
# Formats that show that their end is missing, and formats that show foreign bytes in their middle.
SHOWS_TRUNCATION = ("zip", "tar", "json")
SHOWS_FOREIGN_BYTES = ("zip",)


class BadContent(Exception):
    """The bytes are not the file; the message says why."""


def refuse_page(head: bytes) -> None:
    """Raises BadContent if the first bytes are those of a web page."""
    if _PAGE.match(head):
        found = _TITLE.search(head)
        title = " ".join(found[1].decode("utf-8", "replace").split())[:80] if found else ""
        raise BadContent(f"gives a web page instead of data{f' (titled {title!r})' if title else ''}")


def check_structure(path: Path, kind: str) -> None:
    """Raises BadContent if a file cannot be what it should be.

    Archives are read through when they are unpacked, not here.

    Args:
        path: the file.
        kind: its format, as the catalogue names it.
    """
    with open(path, "rb") as handle:
        head = handle.read(_HEAD_BYTES)
    if not head:
        raise BadContent("is empty")
    refuse_page(head)
    if kind in _MAGIC and not head.startswith(_MAGIC[kind]):
        raise BadContent(f"is no {kind} file: it begins with {head[:4].hex(' ')}")
    if kind == "torch" and head.startswith(b"PK"):
        _check_torch_zip(path)
    elif kind in ("json", "jsonl", "text"):
        _check_text(path, kind)


def _check_torch_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [
                entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED
            ]
            broken = None if packed else archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError) as error:
        raise BadContent(f"is a broken weights file ({error})") from error
    if packed:
        raise BadContent(f"is no weights file: {packed[0]} is compressed in it, which PyTorch never does")
    if broken:
        raise BadContent(f"is a broken weights file (bad checksum of {broken})")


def _check_text(path: Path, kind: str) -> None:
    size = path.stat().st_size
    try:
        if kind == "json" and size <= _PARSED_JSON_BYTES:
            json.loads(path.read_bytes())
        elif kind == "json":
            _check_ends(path, size)
        elif kind == "jsonl":
            with open(path, "rb") as handle:
                for line in handle:
                    if line.strip() and not isinstance(json.loads(line), dict):
                        raise BadContent("has a line that is no JSON object")
        else:
            with open(path, encoding="utf-8") as text:
                if any("\0" in line for line in text):
                    raise BadContent("is no text: it holds zero bytes")
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadContent(f"is not valid {'JSON' if kind != 'text' else 'UTF-8 text'} ({error})") from error


def _check_ends(path: Path, size: int) -> None:
    """Both ends of a JSON file too large to parse for this; its reader parses all of it."""
    with open(path, "rb") as handle:
        first = handle.read(64).lstrip()[:1]
        handle.seek(max(0, size - 64))
        last = handle.read().rstrip()[-1:]
    if (first, last) not in ((b"[", b"]"), (b"{", b"}")):
        raise BadContent("is not whole JSON: its brackets do not close")
