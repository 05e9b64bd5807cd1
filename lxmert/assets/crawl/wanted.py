"""Which images the records of a split need, each once, with its address and the hash its publisher saw."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lxmert.errors import DataError
from lxmert.files import read_json, read_json_lines

_IDENTIFIER = re.compile(r"(?P<pair>[a-z0-9]+-\d+-\d+)-\d+")
_SIDES = (("left_url", "img0"), ("right_url", "img1"))
_HASH = re.compile(r"[0-9a-f]{16}")
_FOLDERS = 100


@dataclass(frozen=True)
class Wanted:
    """One image.

    Attributes:
        name: its file, below the folder of its split: `57/train-10171-0-img0.png`, or without a folder.
        address: where its publisher saw it.
        hash: its average hash, if that was published.
    """

    name: str
    address: str
    hash: int | None


@dataclass
class Records:
    """The images of a split, and how many sentences speak of each pair.

    Attributes:
        images: by name, in order of the names.
        sentences: pair of names, left first -> how many sentences.
    """

    images: dict[str, Wanted] = field(default_factory=dict)
    sentences: dict[tuple[str, str], int] = field(default_factory=dict)


def read_nlvr2(records: Path, hashes: Path | None) -> Records:
    """The images that NLVR2's lines speak of.

    An image bears the identifier less its last field, and its side: `dev-3001-2-img0.png` is the left one.
    Those of train lie in the numbered folder that the line names.

    Args:
        records: the split's JSON lines.
        hashes: the publisher's `{file name: 16 hex digits}`; None where there is none.

    Raises:
        DataError: a file is faulty, two lines differ about an image, or an image has no hash.
    """
    known = _read_hashes(hashes) if hashes else None
    found = Records()
    for number, record in read_json_lines(records):
        place = f"{records}:{number}"
        match = _IDENTIFIER.fullmatch(_text(record, "identifier", place))
        if match is None:
            raise DataError(f"{place}: an identifier is split-set-pair-sentence. Is it another file?")
        names = []
        for key, side in _SIDES:
            file = f"{match['pair']}-{side}.png"
            name = f"{_folder(record, place)}{file}"
            if known is not None and file not in known:
                raise DataError(f"{hashes}: has no hash of {file}. Is it that of another split?")
            image = Wanted(name, _text(record, key, place), known[file] if known is not None else None)
            if found.images.setdefault(name, image) != image:
                raise DataError(f"{place}: gives {file} another address than a line before. Fetch it again.")
            names.append(name)
        pair = (names[0], names[1])
        found.sentences[pair] = found.sentences.get(pair, 0) + 1
    if not found.images:
        raise DataError(f"{records}: holds no line. Fetch it again.")
    found.images = dict(sorted(found.images.items()))
    return found


def _text(record: Mapping[str, Any], key: str, place: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise DataError(f'{place}: "{key}" must be text, is {value!r:.60}. Fetch the file again.')
    return value.strip()


def _folder(record: Mapping[str, Any], place: str) -> str:
    if "directory" not in record:
        return ""
    text = str(record["directory"])
    if not text.isdecimal() or int(text) >= _FOLDERS:
        raise DataError(f'{place}: "directory" must be 0 to {_FOLDERS - 1}, is {text!r:.20}.')
    return f"{int(text)}/"


def _read_hashes(path: Path) -> dict[str, int]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise DataError(f"{path}: must hold one object of file names and hashes. Fetch it again.")
    for name, value in values.items():
        if not isinstance(value, str) or not _HASH.fullmatch(value):
            raise DataError(f"{path}: the hash of {name} must be 16 hex digits, is {value!r:.40}.")
    return {name: int(value, 16) for name, value in values.items()}
