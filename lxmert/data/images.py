"""Listings: which images an image set holds, by id, without opening one of them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lxmert.errors import DataError
from lxmert.files import atomic_write_json, explain_os_error, read_json

_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp"}
_PAIR_MEMBER = re.compile(r"-img[01]$")


def list_images(folder: Path) -> dict[str, str]:
    """Image id -> path relative to `folder`, sorted by id, sub-folders included.

    The id is the text before the first dot of the file name, as all published features have it.

    Raises:
        DataError: the folder is missing or holds no image, or two files have one id.
    """
    found: dict[str, str] = {}
    for path in walk_images(folder):
        image_id = path.name.partition(".")[0]
        relative = path.relative_to(folder).as_posix()
        if image_id in found:
            raise DataError(
                f"{folder}: image id {image_id} occurs twice: {found[image_id]} and {relative}."
                " Remove one of them."
            )
        found[image_id] = relative
    if not found:
        raise DataError(f"{folder}: holds no image ({', '.join(sorted(_SUFFIXES))}). Put the images there.")
    return dict(sorted(found.items()))


def choose_subset(ids: Iterable[str], number: int | None) -> set[str]:
    """At most `number` ids, the same ones on every machine; the two images of a pair stay together.

    Ids are taken in the order of a hash, so that a subset of val2014 holds minival and other
    images alike, wherever they stand in a folder.
    """
    ids = list(ids)
    if number is None or number >= len(ids):
        return set(ids)
    groups: dict[str, list[str]] = {}
    for image_id in ids:
        groups.setdefault(_PAIR_MEMBER.sub("", image_id), []).append(image_id)
    chosen: set[str] = set()
    for group in sorted(groups, key=lambda name: hashlib.sha1(name.encode()).digest()):
        if len(chosen) + len(groups[group]) > number:
            continue
        chosen.update(groups[group])
        if len(chosen) == number:
            break
    return chosen


def gqa_image_ids(questions: Path) -> set[str]:
    """The images that a GQA question file asks about."""
    records = read_json(questions)
    if not isinstance(records, dict):
        raise DataError(f"{questions}: a GQA question file holds one object keyed by question id.")
    try:
        return {record["imageId"] for record in records.values()}
    except (KeyError, TypeError) as error:
        raise DataError(f"{questions}: a question has no imageId.") from error


def write_listing(
    image_set: str,
    folder: Path,
    only: set[str] | None,
    subset: int | None,
    out: Path,
    all_of_only: bool = True,
) -> int:
    """Writes a listing and returns how many images it holds.

    Args:
        image_set: its name.
        folder: where its images lie.
        only: keep these ids.
        subset: keep at most so many.
        out: JSON file to write.
        all_of_only: whether each of `only` must be there.

    Raises:
        DataError: an id of `only` has no image.
    """
    images = list_images(folder)
    if only is not None:
        absent = sorted(only - images.keys())
        if absent and all_of_only:
            raise DataError(
                f"{folder}: {len(absent)} images of {image_set} are missing, first: {absent[:5]}."
            )
        images = {image_id: file for image_id, file in images.items() if image_id in only}
    chosen = choose_subset(images, subset)
    listing = {
        "image_set": image_set,
        "folder": str(folder),
        "subset": subset,
        "images": [{"id": image_id, "file": file} for image_id, file in images.items() if image_id in chosen],
    }
    atomic_write_json(out, listing)
    return len(chosen)


def read_listing(path: Path) -> dict[str, Any]:
    """A listing as `write_listing` made it.

    Raises:
        DataError: it is not one.
    """
    listing = read_json(path)
    if not isinstance(listing, dict) or not {"image_set", "folder", "images", "subset"} <= listing.keys():
        raise DataError(f"{path}: not a listing of images; make it with `lxmert list-images`.")
    return listing


def walk_images(folder: Path) -> Iterator[Path]:
    """Every image below a folder, links followed.

    Raises:
        DataError: the folder is missing or cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images. Put the images there, or correct the path.")

    def fail(error: OSError) -> None:
        raise explain_os_error(error, error.filename or folder) from error

    for root, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        folders.sort()
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in _SUFFIXES and not name.startswith("."):
                yield Path(root, name)
