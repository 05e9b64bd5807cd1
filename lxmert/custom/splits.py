"""Splits that share no image: those the file gives, and for the rest a hash of the image decides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from lxmert.custom.lines import Line
from lxmert.errors import DataError


def assign_splits(
    lines: Sequence[Line],
    images: Sequence[tuple[str, ...]],
    shares: Mapping[str, float],
    seed: int,
    path: Path,
) -> dict[str, str]:
    """The split of each image.

    Where no line names a split, images are drawn for `valid` and `test` by a hash of seed and image, so
    an image stays in its split when others are added; images that share a pair go together. Where lines
    name splits, those hold, and what they lack of `valid` and `test` is drawn from `train`.

    Args:
        lines: all of the file.
        images: image ids of each line.
        shares: of the images, for `valid` and `test`.
        seed: of the draw.
        path: the file, for messages.

    Returns:
        Image id -> "train", "valid" or "test".

    Raises:
        DataError: some lines name a split and others do not, or two splits share an image.
    """
    groups = _groups(images)
    given = _given(lines, images, path)
    found: dict[str, str] = {}
    absent = [name for name in ("test", "valid") if name not in given.values()]
    for image, group in groups.items():
        found[image] = given.get(image, "train")
        if found[image] == "train":
            found[image] = _draw(group, {name: shares[name] for name in absent}, seed)
    return found


def _draw(group: str, shares: Mapping[str, float], seed: int) -> str:
    digest = hashlib.sha256(f"{seed}/{group}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    for name, share in shares.items():
        if place < share:
            return name
        place -= share
    return "train"


def _given(lines: Sequence[Line], images: Sequence[tuple[str, ...]], path: Path) -> dict[str, str]:
    """The split that the file gives each image."""
    first: dict[str, Line] = {}
    for line, ids in zip(lines, images, strict=True):
        if (line.split is None) != (lines[0].split is None):
            named, other = (line, lines[0]) if line.split else (lines[0], line)
            raise DataError(
                f"{path}:{other.number}: names no split, and line {named.number} does."
                " Name one in every line, or in none."
            )
        for image, name in zip(ids, line.images, strict=True):
            other = first.setdefault(image, line)
            if other.split != line.split:
                raise DataError(
                    f"{path}:{line.number}: image {name} is in split {line.split}, and in line"
                    f" {other.number} in {other.split}. Splits may share no image; move one of the lines."
                )
    return {image: line.split for image, line in first.items() if line.split is not None}


def _groups(images: Sequence[tuple[str, ...]]) -> dict[str, str]:
    """Image id -> the first id of all that are joined to it by pairs."""
    parent: dict[str, str] = {}

    def root(image: str) -> str:
        while parent[image] != image:
            parent[image] = parent[parent[image]]
            image = parent[image]
        return image

    for ids in images:
        for image in ids:
            parent.setdefault(image, image)
        low, *others = sorted({root(image) for image in ids})
        for other in others:
            parent[other] = low
    return {image: root(image) for image in sorted(parent)}
