"""Visual Genome's boxes as training rows: cleaning, vocabularies, splits.

Objects are those of `scene_graphs.json` and attributes those of `attributes.json`, both release 1.2, as
bottom-up attention's authors had them. `objects.json` was issued again as 1.4, with objects merged, and is
not read: its ids are not all those of the attributes.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.data.images import read_listing
from lxmert.data.raw_json import list_records
from lxmert.errors import DataError
from lxmert.files import explain_os_error, read_json

log = logging.getLogger(__name__)

ATTRIBUTE_SLOTS = 16
_COLOUR_WORDS = frozenset(
    "white black blue green red brown yellow small large silver wooden orange gray grey metal pink tall long"
    " dark".split()
)


def clean_string(text: str) -> str:
    """Lower case, no outer blanks, no full stop at the end."""
    text = text.lower().strip()
    return text[:-1].strip() if text.endswith(".") else text


def clean_object(name: str) -> tuple[str, list[str]]:
    """Object name and the adjectives before it: "small red ball" gives ("ball", ["small", "red"]).

    Only when every word before the last is a known adjective; else the name stays whole.
    """
    name = clean_string(name)
    words = name.split()
    if len(words) > 1 and all(word in _COLOUR_WORDS for word in words[:-1]):
        return words[-1], words[:-1]
    return name, []


def clean_attribute(text: str) -> list[str]:
    """The attributes of one string: "red and round" gives two; "black and white" stays whole."""
    text = clean_string(text)
    return [text] if text == "black and white" else [part.strip() for part in text.split(" and ")]


@dataclass(frozen=True)
class Vocabulary:
    """Class names, one a line, first of their synonyms; ids count from 0.

    Attributes:
        names: first name of each line.
        ids: id of every name and synonym.
        sha256: of the file.
    """

    names: tuple[str, ...]
    ids: dict[str, int]
    sha256: str

    def __len__(self) -> int:
        return len(self.names)


def read_vocabulary(path: str | Path) -> Vocabulary:
    """A vocabulary file: a class a line, synonyms between commas; of a name in two lines the later wins.

    Raises:
        DataError: the file is missing, empty or has an empty line.
    """
    try:
        data = Path(path).read_bytes()
        lines = data.decode("utf-8").rstrip("\n").split("\n")
    except OSError as error:
        raise explain_os_error(error, path) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text at byte {error.start}; fetch the file again.") from error
    names: list[str] = []
    ids: dict[str, int] = {}
    for number, line in enumerate(lines):
        entries = [entry.lower().strip() for entry in line.split(",")]
        if not entries[0]:
            raise DataError(f"{path}:{number + 1}: empty line; a vocabulary has one class a line.")
        names.append(entries[0])
        ids.update({entry: number for entry in entries if entry})
    return Vocabulary(tuple(names), ids, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class BoxRows:
    """Annotated images; the boxes of image i are rows `offsets[i]:offsets[i + 1]`.

    Attributes:
        ids: image ids.
        files: image paths.
        offsets: int64 [N + 1].
        boxes: float64 [M, 4], x1 y1 x2 y2 as annotated: clip with `clipped` once the size is known.
        classes: int32 [M], object ids from 1.
        attributes: int16 [M, 16], attribute ids from 1, then zeros.
        wide: bool [N], whether an image is wider than high; only groups images into batches.
    """

    ids: tuple[str, ...]
    files: tuple[str, ...]
    offsets: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    attributes: np.ndarray
    wide: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def clipped(self, index: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes float32 [n, 4] within the image, classes int64 [n] and attributes int64 [n, 16].

        Coordinates are cut to whole pixels as the reference's arrays of integers do; a box that is
        inside out afterwards becomes the whole image.
        """
        part = slice(self.offsets[index], self.offsets[index + 1])
        boxes = self.boxes[part].copy()
        boxes[:, :2] = np.maximum(boxes[:, :2], 0)
        boxes[:, 2] = np.minimum(boxes[:, 2], width - 1)
        boxes[:, 3] = np.minimum(boxes[:, 3], height - 1)
        wrong = (boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])
        boxes[wrong] = [0, 0, width - 1, height - 1]
        return (
            np.trunc(boxes).astype(np.float32),
            self.classes[part].astype(np.int64),
            self.attributes[part].astype(np.int64),
        )


def read_split(path: str | Path) -> list[str]:
    """Image ids of a split file, whose lines begin with `<folder>/<id>.jpg`."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise explain_os_error(error, path) from error
    ids = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name = line.split()[0].rsplit("/", 1)[-1]
        if "." not in name:
            raise DataError(
                f"{path}:{number}: must begin with an image path such as VG_100K/1.jpg, is {line[:60]!r}."
            )
        ids.append(name.split(".", 1)[0])
    return ids


def load_rows(
    raw: str | Path, split: str, listing: str | Path, objects: Vocabulary, attributes: Vocabulary
) -> BoxRows:
    """Training rows of one split, images sorted by id.

    Images without an object of the vocabulary, or absent from the listing (a subset), are left out.

    Args:
        raw: the raw folder; Visual Genome's files are below its `vg`.
        split: "train", "val" or "test".
        listing: the image listing of the Visual Genome image set.
        objects: object vocabulary.
        attributes: attribute vocabulary.

    Raises:
        DataError: a file is missing or malformed, or no image is left.
    """
    folder = Path(raw) / "vg"
    wanted = set(read_split(folder / "splits" / f"{split}.txt"))
    files = _listed_files(listing)
    kept = sorted(wanted & files.keys())
    if not kept:
        raise DataError(
            f"{listing}: holds none of the {len(wanted)} images of split {split}; list the images again."
        )
    if len(kept) < len(wanted):
        log.info("%s: %d of %d images are listed", split, len(kept), len(wanted))
    per_image = _attributes_by_object(folder / "attributes.json", set(kept))
    rows: dict[str, list[tuple[list[float], int, list[int]]]] = {}
    for record in _records(folder / "scene_graphs.json", "objects"):
        image = str(record["image_id"])
        if image in wanted and image in files:
            rows[image] = _object_rows(record, per_image.get(image, {}), objects, attributes)
    kept = [image for image in kept if rows.get(image)]
    if not kept:
        raise DataError(
            f"{folder / 'scene_graphs.json'}: no object of split {split} is in the vocabulary; check both."
        )
    flat = [row for image in kept for row in rows[image]]
    offsets = np.zeros(len(kept) + 1, np.int64)
    offsets[1:] = np.cumsum([len(rows[image]) for image in kept])
    slots = np.zeros((len(flat), ATTRIBUTE_SLOTS), np.int16)
    for slot, row in zip(slots, flat, strict=True):
        slot[: len(row[2])] = row[2]
    return BoxRows(
        tuple(kept),
        tuple(files[image] for image in kept),
        offsets,
        np.array([row[0] for row in flat], np.float64).reshape(-1, 4),
        np.array([row[1] for row in flat], np.int32),
        slots,
        _wide(folder / "image_data.json", kept),
    )


def _listed_files(listing: str | Path) -> dict[str, str]:
    document = read_listing(Path(listing))
    return {str(image["id"]): str(Path(document["folder"]) / image["file"]) for image in document["images"]}


def _records(path: Path, field: str) -> Iterator[dict[str, Any]]:
    """One record an image, of which only one is in memory: the files have half a gigabyte and more."""
    for number, record in enumerate(list_records(path)):
        if (
            not isinstance(record, dict)
            or "image_id" not in record
            or not isinstance(record.get(field), list)
        ):
            raise DataError(
                f"{path}: record {number} has no image_id or no list of {field}; fetch the file again."
            )
        yield record


def _wide(path: Path, ids: list[str]) -> np.ndarray:
    sizes = {str(item["image_id"]): item.get("width", 1) > item.get("height", 0) for item in read_json(path)}
    return np.array([sizes.get(image, True) for image in ids], bool)


def _attributes_by_object(path: Path, wanted: set[str]) -> dict[str, dict[int, list[str]]]:
    """Cleaned attribute strings of each object id of each image."""
    found: dict[str, dict[int, list[str]]] = {}
    for record in _records(path, "attributes"):
        image = str(record["image_id"])
        if image not in wanted:
            continue
        for item in record["attributes"]:
            item = item.get("attribute", item)  # version 1.0 has one level more
            if "object_id" not in item:
                raise DataError(
                    f"{path}: image {image} has an attribute record without object_id; fetch it again."
                )
            texts = [part for text in item.get("attributes") or [] for part in clean_attribute(text)]
            found.setdefault(image, {}).setdefault(item["object_id"], []).extend(texts)
    return found


def _object_rows(
    record: dict[str, Any], texts: dict[int, list[str]], objects: Vocabulary, attributes: Vocabulary
) -> list[tuple[list[float], int, list[int]]]:
    rows = []
    for item in record["objects"]:
        try:
            name, adjectives = clean_object(item["names"][0] if item.get("names") else "")
            x, y = float(item["x"]), float(item["y"])
            box = [x, y, x + float(item["w"]), y + float(item["h"])]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"scene_graphs.json: image {record['image_id']} has an object without box or name ({error});"
                " fetch it again."
            ) from error
        if name not in objects.ids:
            continue
        said = texts.get(item.get("object_id"), []) + adjectives
        ids = list(dict.fromkeys(attributes.ids[text] + 1 for text in said if text in attributes.ids))
        rows.append((box, objects.ids[name] + 1, ids[:ATTRIBUTE_SLOTS]))
    return rows
