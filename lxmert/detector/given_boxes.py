"""Boxes a user gives instead of the network's proposals: read, checked, and checked against their images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.detector.preprocess import image_size
from lxmert.errors import DataError, suggest
from lxmert.files import read_json, read_json_lines, sha256_file

_EXAMPLE = '{"image": "42", "boxes_px": [[x1, y1, x2, y2], ...]}'


class GivenBoxes:
    """Boxes of each image of a file.

    Three forms are read: a JSON list of objects such as {"image": "42", "boxes_px": [[x1, y1, x2, y2], ...]},
    JSON lines (.jsonl) of such objects, and one JSON object {"42": [[x1, y1, x2, y2], ...], ...}. An image is
    named by its id or by its file, whose name up to the first dot is the id. Corners are pixels of the
    original image.

    Raises:
        DataError: the file is malformed; file, line or record, and image are named.
    """

    def __init__(self, path: str | Path, meaning: str) -> None:
        self.path, self.meaning = Path(path), meaning
        self._boxes: dict[str, np.ndarray] = {}
        self._places: dict[str, str] = {}
        for place, image, boxes in _records(self.path):
            image_id = os.path.basename(image).partition(".")[0]
            if image_id in self._boxes:
                raise DataError(
                    f"{place}: image {image_id} has boxes already ({self._places[image_id]});"
                    " keep one of the two."
                )
            self._boxes[image_id] = check_boxes(boxes, f"{place}: image {image_id}")
            self._places[image_id] = place
        if not self._boxes:
            raise DataError(f"{self.path}: names no image; each entry must be like {_EXAMPLE}.")

    def __len__(self) -> int:
        return len(self._boxes)

    @property
    def most(self) -> int:
        """The most boxes an image has."""
        return max(map(len, self._boxes.values()))

    def ids(self) -> list[str]:
        """Images that have boxes."""
        return list(self._boxes)

    def of(self, image_id: str) -> np.ndarray:
        """Boxes of an image: float32 [R, 4] in pixels of the original image."""
        return self._boxes[image_id]

    def where(self, image_id: str) -> str:
        """Names the boxes of an image in messages."""
        return f"{self._places[image_id]}: image {image_id}"

    def describe(self) -> dict[str, str]:
        """What a store's provenance says of them."""
        return {"as": self.meaning, "file": self.path.name, "sha256": sha256_file(self.path)}

    def check_listing(self, ids: Iterable[str], listing: Path) -> None:
        """Checks that exactly the images of a listing have boxes.

        Raises:
            DataError: an image is unknown, or has none.
        """
        known = set(ids)
        unknown = next((image_id for image_id in self._boxes if image_id not in known), None)
        if unknown is not None:
            raise DataError(
                f"{self._places[unknown]}: image {unknown} is not in {listing}.{suggest(unknown, known)}"
            )
        lacking = sorted(known - self._boxes.keys())
        if lacking:
            raise DataError(
                f"{self.path}: {len(lacking)} of {len(known)} images of {listing} have no boxes, first:"
                f" {lacking[0]}; add them, or list only the images that have."
            )

    def check_images(self, images: Iterable[tuple[str, Path]], exif: str, workers: int) -> None:
        """Checks that no box leaves its image, whose size its file's first bytes tell.

        It happens before the first image is extracted: nobody wants to hear of it hours later. Images that
        cannot be read are not this check's business.

        Raises:
            DataError: a box leaves its image.
        """

        def check(item: tuple[str, Path]) -> None:
            image_id, path = item
            size = image_size(path, exif)
            if size is not None:
                check_inside(self._boxes[image_id], *size, self.where(image_id))

        with ThreadPoolExecutor(max(workers, 1)) as pool:
            for _ in pool.map(check, images):
                pass


def _records(path: Path) -> Iterator[tuple[str, str, Any]]:
    """Place for messages, image and boxes of each entry."""
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        for line, record in read_json_lines(path):
            yield (f"{path}:{line}", *_entry(record, f"{path}:{line}"))
        return
    document = read_json(path)
    if isinstance(document, dict):
        for image, boxes in document.items():
            yield f"{path}", image, boxes
        return
    if not isinstance(document, list):
        raise DataError(f"{path}: must be a list of {_EXAMPLE}, or an object of boxes by image.")
    for number, record in enumerate(document, 1):
        place = f"{path}: record {number}"
        if not isinstance(record, dict):
            raise DataError(f"{place}: must be an object like {_EXAMPLE}.")
        yield (place, *_entry(record, place))


def _entry(record: Mapping[str, Any], place: str) -> tuple[str, Any]:
    for name in record:
        if name not in ("image", "boxes_px"):
            raise DataError(f"{place}: unknown key {name!r}.{suggest(str(name), ('image', 'boxes_px'))}")
    for name in ("image", "boxes_px"):
        if name not in record:
            raise DataError(f"{place}: {name} is missing; an entry is like {_EXAMPLE}.")
    if not isinstance(record["image"], (str, int)) or isinstance(record["image"], bool):
        raise DataError(f"{place}: image must be an id or a file name, is {record['image']!r}.")
    return str(record["image"]), record["boxes_px"]


def check_boxes(boxes: Any, where: str) -> np.ndarray:
    """Boxes as float32 [R, 4], R at least 1, finite and with their corners in order.

    Raises:
        DataError: they are not.
    """
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
        if not isinstance(boxes, list) or boxes:
            raise DataError(f"{where}: boxes_px must be rows of four numbers x1, y1, x2, y2.") from None
    if array.size == 0:
        raise DataError(f"{where}: has no boxes; give at least one, or leave the image out of the listing.")
    if array.ndim != 2 or array.shape[1] != 4:
        raise DataError(f"{where}: boxes_px must be rows of four numbers x1, y1, x2, y2.")
    if not np.isfinite(array).all():
        raise DataError(f"{where}: box {_first(~np.isfinite(array).all(1))} is not of finite numbers.")
    turned = (array[:, 2:] < array[:, :2]).any(1)
    if turned.any():
        row = _first(turned)
        raise DataError(
            f"{where}: box {row} {_text(array[row - 1])} ends before it begins; corners are x1, y1, x2, y2"
            " (not width and height)."
        )
    return array.astype(np.float32)


def check_inside(boxes: np.ndarray, width: int, height: int, where: str) -> None:
    """Checks that boxes lie in their image; a corner on its far edge does.

    Raises:
        DataError: one leaves it.
    """
    outside = (boxes < 0).any(1) | (boxes[:, 2] > width) | (boxes[:, 3] > height)
    if outside.any():
        row = _first(outside)
        raise DataError(
            f"{where}: box {row} {_text(boxes[row - 1])} leaves its image of {width} x {height} px; boxes are"
            " pixels of the original image, after turning it by its EXIF tag."
        )


def _first(flags: np.ndarray) -> int:
    """Number of the first box that is flagged, from 1."""
    return int(np.argmax(flags)) + 1


def _text(box: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:g}" for value in box) + "]"
