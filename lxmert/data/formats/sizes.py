"""Sizes of images, for forms that keep boxes as shares of them, or keep none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxmert.errors import DataError
from lxmert.files import read_json, read_json_lines

_FORMS = (
    "it must be a COCO annotation file (its list `images`), Visual Genome's image_data.json,"
    ' or JSON lines of {"image": "42", "width": 640, "height": 480}'
)


class ImageSizes:
    """Width and height in pixels by image id.

    Three forms are read: a COCO annotation file, Visual Genome's `image_data.json`, and JSON lines with
    `image`, `width` and `height`. An image's id is its file's name up to the first dot, or its number.

    Raises:
        DataError: the file is none of these.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._sizes: dict[str, tuple[int, int]] = {}
        for place, image, width, height in self._records():
            if not all(isinstance(side, int) and 0 < side < 2**31 for side in (width, height)):
                raise DataError(f"{place}: width and height must be whole numbers from 1; {_FORMS}.")
            if not isinstance(image, (str, int)) or isinstance(image, bool):
                raise DataError(f"{place}: names no image; {_FORMS}.")
            self._sizes[os.path.basename(str(image)).partition(".")[0]] = (width, height)
        if not self._sizes:
            raise DataError(f"{self.path}: names no image; {_FORMS}.")

    def _records(self) -> Iterator[tuple[str, Any, Any, Any]]:
        if self.path.suffix in (".jsonl", ".ndjson"):
            for line, record in read_json_lines(self.path):
                yield f"{self.path}:{line}", record.get("image"), record.get("width"), record.get("height")
            return
        document = read_json(self.path)
        images = document.get("images") if isinstance(document, dict) else document
        if not isinstance(images, list):
            raise DataError(f"{self.path}: holds no sizes; {_FORMS}.")
        for number, record in enumerate(images, 1):
            place = f"{self.path}: image {number}"
            if not isinstance(record, dict):
                raise DataError(f"{place}: is no object; {_FORMS}.")
            image = record.get("file_name", record.get("image_id", record.get("image")))
            yield place, image, record.get("width"), record.get("height")

    def __len__(self) -> int:
        return len(self._sizes)

    def of(self, image_id: str, where: str) -> tuple[int, int]:
        """Width and height of an image.

        Raises:
            DataError: the file does not have it.
        """
        try:
            return self._sizes[image_id]
        except KeyError:
            raise DataError(f"{where}: image {image_id} has no size in {self.path}; add it there.") from None
