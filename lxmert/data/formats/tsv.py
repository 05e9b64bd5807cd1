"""Region features as TSV: the files LXMERT and bottom-up-attention published, read and written as streams.

A row is one image: tab-separated, no header, no quoting, arrays as base64 of little-endian buffers. Rows end
in CRLF where Python's csv module wrote them and in LF in other copies. Both directions hold one row at a
time, whatever the size of the file.

Source: airsplay/lxmert and peteanderson80/bottom-up-attention, whose columns these are.
"""

from __future__ import annotations

import binascii
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lxmert.data.halves import copy_features
from lxmert.data.region_record import UNKNOWN_ID
from lxmert.errors import DataError
from lxmert.files import explain_os_error
from lxmert.types import Regions

try:  # 50 times as fast as the standard library, which spends most of a row's time on base64
    import pybase64
except ImportError:
    pybase64 = None  # type: ignore[assignment]

# LXMERT has the height first, bottom-up-attention the width.
COLUMNS: dict[str, tuple[str, ...]] = {
    "lxmert": (
        *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
        *("num_boxes", "boxes", "features"),
    ),
    "butd": ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features"),
}
_ARRAYS: dict[str, np.dtype[Any]] = {
    "objects_id": np.dtype("<i8"),
    "objects_conf": np.dtype("<f4"),
    "attrs_id": np.dtype("<i8"),
    "attrs_conf": np.dtype("<f4"),
    "boxes": np.dtype("<f4"),
    "features": np.dtype("<f4"),
}
_CHUNK_BYTES = 4 << 20
_LONGEST_ROW_BYTES = 256 << 20


class TsvReader:
    """Rows of a TSV file, one at a time.

    `for line, image_id, regions in TsvReader(path)`; afterwards `sha256` is that of the whole file, computed
    on the way. `bytes_read` tells how far it is.
    """

    def __init__(self, path: str | Path, columns: str = "lxmert") -> None:
        """Prepares to read; the file is opened by iterating.

        Args:
            path: the TSV file.
            columns: "lxmert" or "butd".
        """
        self.path = Path(path)
        self._form = columns
        self._names = COLUMNS[columns]
        self._digest = hashlib.sha256()
        self.bytes_read = 0

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of what has been read."""
        return self._digest.hexdigest()

    def size(self) -> int:
        """Size of the file in bytes.

        Raises:
            DataError: there is no such file.
        """
        try:
            return os.stat(self.path).st_size
        except OSError as error:
            raise explain_os_error(error, self.path) from error

    def __iter__(self) -> Iterator[tuple[int, str, Regions]]:
        """Line number from 1, image id and regions of each row; selection scores are NaN.

        Raises:
            DataError: a row is malformed; file, line and fault are named.
        """
        for number, data, start, end, whole in self._lines():
            try:
                image_id, regions = self._row(data, start, end)
            except ValueError as error:
                cut = "" if whole else "the last line is cut short: "
                raise DataError(
                    f"{self.path}:{number}: {cut}{error}. Fetch or write the file again, or remove the line."
                ) from error
            yield number, image_id, regions

    def _lines(self) -> Iterator[tuple[int, bytes, int, int, bool]]:
        """Number, buffer, start and end of each line without its end, and whether it had one.

        Lines are places in the chunk they were read in, so that nothing long is copied. The checksum is
        computed by a thread of its own: hashing leaves Python's lock to the decoder.
        """
        number, carry = 0, b""
        try:
            with open(self.path, "rb", buffering=0) as handle, ThreadPoolExecutor(1) as pool:
                hashing: Future[None] | None = None
                while chunk := handle.read(_CHUNK_BYTES):
                    if hashing is not None:
                        hashing.result()
                    hashing = pool.submit(self._digest.update, chunk)
                    self.bytes_read += len(chunk)
                    start = 0
                    while (end := chunk.find(b"\n", start)) >= 0:
                        number += 1
                        if carry:
                            line = carry + chunk[start:end]
                            carry = b""
                            yield number, line, 0, _without_return(line, len(line)), True
                        else:
                            yield number, chunk, start, _without_return(chunk, end), True
                        start = end + 1
                    carry += chunk[start:]
                    if len(carry) > _LONGEST_ROW_BYTES:
                        raise DataError(
                            f"{self.path}:{number + 1}: no line end in {len(carry)} bytes; "
                            "this is no TSV file. Name the unpacked .tsv file."
                        )
        except OSError as error:
            raise explain_os_error(error, self.path) from error
        if carry:
            yield number + 1, carry, 0, _without_return(carry, len(carry)), False

    def _row(self, data: bytes, start: int, end: int) -> tuple[str, Regions]:
        """Image id and regions of a line; ValueError says what is wrong with it."""
        fields = self._split(data, start, end)
        first, second = (_whole_number(fields, name) for name in self._names[1:3])
        height, width = (first, second) if self._form == "lxmert" else (second, first)
        boxes = _whole_number(fields, "num_boxes")
        if boxes < 1:
            raise ValueError("num_boxes is 0, a row needs at least one box")
        try:
            image_id = bytes(fields[self._names[0]]).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self._names[0]}: not UTF-8 text") from error
        if not image_id:
            raise ValueError(f"{self._names[0]}: empty")
        arrays = {name: _array(fields[name], name, boxes) for name in self._names if name in _ARRAYS}
        if self._form == "butd":
            unknown, nothing = np.full(boxes, UNKNOWN_ID), np.full(boxes, np.nan, np.float32)
            arrays |= dict.fromkeys(("objects_id", "attrs_id"), unknown)
            arrays |= dict.fromkeys(("objects_conf", "attrs_conf"), nothing)
        return image_id, Regions(
            boxes_px=arrays["boxes"].reshape(boxes, 4),
            features=arrays["features"].reshape(boxes, -1),
            object_ids=arrays["objects_id"],
            object_scores=arrays["objects_conf"],
            attribute_ids=arrays["attrs_id"],
            attribute_scores=arrays["attrs_conf"],
            selection_scores=np.full(boxes, np.nan, np.float32),
            width=width,
            height=height,
        )

    def _split(self, data: bytes, start: int, end: int) -> dict[str, memoryview]:
        """The fields of a line as views, by column name."""
        view = memoryview(data)
        ends: list[int] = []
        at = start
        while (tab := data.find(b"\t", at, end)) >= 0 and len(ends) <= len(self._names):
            ends.append(tab)
            at = tab + 1
        if len(ends) + 1 != len(self._names):
            found = str(len(ends) + 1) if len(ends) <= len(self._names) else f"over {len(self._names)}"
            other = next((form for form, names in COLUMNS.items() if len(names) == len(ends) + 1), None)
            hint = f" (--form {other}-tsv has so many)" if other else ""
            raise ValueError(f"{found} fields instead of {len(self._names)}{hint}")
        starts = [start, *(tab + 1 for tab in ends)]
        return {
            name: view[first:last]
            for name, first, last in zip(self._names, starts, [*ends, end], strict=True)
        }


def _without_return(data: bytes, end: int) -> int:
    """Where a line ends once a carriage return is taken off."""
    return end - 1 if end and data[end - 1] == 13 else end


def _whole_number(fields: dict[str, memoryview], name: str) -> int:
    text = bytes(fields[name][:20])
    if not text.isdigit() or len(fields[name]) > 9:
        raise ValueError(f"{name}: {text.decode('ascii', 'replace')!r} is not a whole number")
    return int(text)


def _array(field: memoryview, name: str, boxes: int) -> NDArray[Any]:
    """The decoded buffer of a field, whose length must fit the number of boxes."""
    try:
        if pybase64 is not None:
            buffer = pybase64.b64decode(field, validate=True)
        else:
            buffer = binascii.a2b_base64(field, strict_mode=True)
    except binascii.Error as error:
        if bytes(field[:2]) in (b"b'", b'b"'):
            raise ValueError(f"{name}: holds Python's b'...' instead of base64") from error
        raise ValueError(f"{name}: not base64 ({error})") from error
    dtype = _ARRAYS[name]
    if name == "features":
        if not buffer or len(buffer) % (boxes * dtype.itemsize):
            raise ValueError(f"features: {len(buffer)} bytes do not divide by {boxes} boxes of float32")
    else:
        wanted = boxes * dtype.itemsize * (4 if name == "boxes" else 1)
        if len(buffer) != wanted:
            raise ValueError(f"{name}: {len(buffer)} bytes, {boxes} boxes need {wanted}")
    return np.frombuffer(buffer, dtype)


def write_row(
    handle: BinaryIO, image_id: str, regions: Regions, columns: str, line_end: bytes = b"\r\n"
) -> None:
    """Writes one image as a row.

    Args:
        handle: open for writing bytes.
        image_id: its id.
        regions: float16 features are widened to float32.
        columns: "lxmert" or "butd".
        line_end: CRLF as the published files have it, or LF.

    Raises:
        DataError: LXMERT's columns are asked for and the regions have no object ids.
    """
    if columns == "lxmert" and (regions.object_ids < 0).any():
        raise DataError(
            f"image {image_id}: has no object ids, which LXMERT's columns need; export with --form butd-tsv."
        )
    values: dict[str, Any] = {
        "img_id": image_id,
        "image_id": image_id,
        "img_h": regions.height,
        "image_h": regions.height,
        "img_w": regions.width,
        "image_w": regions.width,
        "objects_id": regions.object_ids,
        "objects_conf": regions.object_scores,
        "attrs_id": regions.attribute_ids,
        "attrs_conf": regions.attribute_scores,
        "num_boxes": len(regions),
        "boxes": regions.boxes_px,
        "features": regions.features,
    }
    fields = [
        _encode(values[name], _ARRAYS[name]) if name in _ARRAYS else str(values[name]).encode()
        for name in COLUMNS[columns]
    ]
    handle.write(b"\t".join(fields) + line_end)


def _encode(array: NDArray[Any], dtype: np.dtype[Any]) -> bytes:
    if array.dtype == np.float16:
        wide = np.empty(array.shape, np.float32)
        copy_features(wide, array)
        array = wide
    data = np.ascontiguousarray(array, dtype).data
    return pybase64.b64encode(data) if pybase64 is not None else binascii.b2a_base64(data, newline=False)
