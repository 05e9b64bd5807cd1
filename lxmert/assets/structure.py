"""Whether bytes look like what they should be, before they get a final name."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from lxmert.assets.answers import HEAD_BYTES, BadContent, refuse_message, refuse_page
from lxmert.assets.weight_files import check_caffemodel, check_pickle, check_safetensors, check_torch
from lxmert.errors import DataError

_BY_SUFFIX = {
    ".zip": "zip",
    ".tar": "tar",
    ".tgz": "tar",
    ".json": "json",
    ".jsonl": "jsonl",
    ".txt": "text",
    ".yaml": "text",
    ".tsv": "table",
    ".pth": "torch",
    ".pt": "torch",
    ".bin": "torch",
    ".pkl": "pickle",
    ".caffemodel": "caffemodel",
    ".safetensors": "safetensors",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
}
_MAGIC = {
    "zip": (b"PK\x03\x04", b"PK\x05\x06"),
    "torch": (b"PK\x03\x04", b"\x80"),
    "pickle": (b"\x80",),
    "hdf5": (b"\x89HDF\r\n\x1a\n",),
}
# Formats that show that their end is missing, and formats that show foreign bytes in their middle.
SHOWS_TRUNCATION = ("zip", "tar", "json", "torch", "pickle", "safetensors")
SHOWS_FOREIGN_BYTES = ("zip",)
# One record is in memory at a time; the largest of the catalogue has some hundred kilobytes.
_MAX_RECORD_BYTES = 256 << 20
_MAX_LINE_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
_TEXTS = ("json", "jsonl", "text", "table")


def format_of(name: str) -> str:
    """The format that a file's name tells; `binary` if it tells none."""
    if name.endswith((".tar.gz", ".tar.bz2", ".tar.xz")):
        return "tar"
    return _BY_SUFFIX.get(PurePosixPath(name).suffix.lower(), "binary")


def check_structure(path: Path, kind: str) -> None:
    """Raises BadContent if a file cannot be what it should be.

    Archives are read through when they are unpacked, not here.

    Args:
        path: the file.
        kind: its format, as the catalogue names it.
    """
    with open(path, "rb") as handle:
        head = handle.read(HEAD_BYTES)
    if not head:
        raise BadContent("is empty")
    refuse_page(head)
    refuse_message(path, is_text=kind in _TEXTS)
    if kind in _MAGIC and not head.startswith(_MAGIC[kind]):
        raise BadContent(f"is no {kind} file: it begins with {head[:4].hex(' ')}")
    if kind in _CHECKS:
        _CHECKS[kind](path)


def _check_json(path: Path) -> None:
    from lxmert.data.raw_json import read_through

    try:
        values = read_through(path, _MAX_RECORD_BYTES)
    except DataError as error:
        # "FILE:LINE:COLUMN: not valid JSON: WHY. REMEDY", of which the file is known and the remedy another.
        where, _, why = str(error).removeprefix(f"{path}").lstrip(":").partition(" ")
        raise BadContent(f"is not valid JSON (line {where.partition(':')[0]}: {_reason(why)})") from error
    if not values:
        raise BadContent("holds no records, which is JSON and no data")


def _reason(text: str) -> str:
    return text.removeprefix("not valid JSON: ").partition(". ")[0]


def _check_json_lines(path: Path) -> None:
    try:
        with open(path, "rb") as handle:
            while line := handle.readline(_MAX_LINE_BYTES):
                if len(line) == _MAX_LINE_BYTES:
                    raise BadContent(f"has a line of more than {_MAX_LINE_BYTES} bytes")
                if line.strip() and not isinstance(json.loads(line), dict):
                    raise BadContent("has a line that is no JSON object")
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadContent(f"is not valid JSON ({error})") from error


def _check_text(path: Path) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open(path, "rb") as handle:
            while chunk := handle.read(_CHUNK_BYTES):
                if "\0" in decoder.decode(chunk):
                    raise BadContent("is no text: it holds zero bytes")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise BadContent(f"is not valid UTF-8 text ({error})") from error


_CHECKS: dict[str, Callable[[Path], None]] = {
    "json": _check_json,
    "jsonl": _check_json_lines,
    "text": _check_text,
    "torch": check_torch,
    "pickle": check_pickle,
    "caffemodel": check_caffemodel,
    "safetensors": check_safetensors,
}
