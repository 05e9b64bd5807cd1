"""Region stores, read: one LMDB file per image set, opened once per process, read without copying.

The file holds blocks of about one megabyte, each the records of several images back to back: LMDB rounds
every value up to whole pages, which would nearly double a store of small records. Beside the blocks stand
`schema` and `provenance` (JSON), `contents` (JSON: count, digest, sizes), and three arrays in id order:
`ids`, `places` (block number << 32 | offset) and `hashes` (SHA-256 of each record).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lxmert.data.region_batch import Records
from lxmert.data.region_handle import Handle, acquire
from lxmert.data.region_record import StoreSchema, decode_record, rebuild
from lxmert.errors import DataError
from lxmert.types import Regions


class ImageIds(Sequence[str]):
    """The sorted image ids of a store, decoded as they are asked for; costs no memory of its own."""

    def __init__(self, array: NDArray[np.bytes_]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, position: Any) -> Any:
        if isinstance(position, slice):
            return ImageIds(self.array[position])
        return bytes(self.array[position]).decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        for encoded in self.array:
            yield bytes(encoded).decode("utf-8", "surrogatepass")

    def __contains__(self, image_id: object) -> bool:
        return isinstance(image_id, str) and find_ids(self.array, [image_id])[0] >= 0


def find_ids(ids: NDArray[np.bytes_], wanted: Sequence[str]) -> NDArray[np.int64]:
    """Position of each wanted id in sorted `ids`, -1 where it is missing.

    Returns:
        int64 [len(wanted)].
    """
    encoded = [image_id.encode("utf-8", "surrogatepass") for image_id in wanted]
    if not len(ids):
        return np.full(len(encoded), -1, np.int64)
    # NumPy would copy all of `ids` to compare it with longer strings, and cuts trailing zeros.
    limit = ids.dtype.itemsize
    fits = np.array([len(value) <= limit and not value.endswith(b"\0") for value in encoded], bool)
    needles = np.array(encoded, dtype=ids.dtype)
    positions = np.minimum(np.searchsorted(ids, needles), len(ids) - 1)
    found = (ids[positions] == needles) & fits
    return np.where(found, positions, -1)


class RegionStore:
    """Regions by image id, from one LMDB file.

    A store may be made before worker processes start, by any start method, and pickled: each process opens
    the file when it first reads. Several stores on one file share one handle. Arrays from `regions` are
    read-only views of the memory map; each keeps the map for as long as it lives, after `close` and in forked
    children too.
    """

    def __new__(cls, path: str | Path = "") -> RegionStore:
        """The store at `path`; one of several files, X.lmdb, X.lmdb.1 ..., is read as one."""
        if cls is RegionStore and os.path.exists(f"{os.fspath(path)}.1"):
            from lxmert.data.region_parts import PartedStore

            return object.__new__(PartedStore)
        return object.__new__(cls)

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._handle: Handle | None = None

    def _open(self) -> Handle:
        handle = self._handle
        if handle is None or handle.pid != os.getpid():
            handle = self._handle = acquire(self.path)
            self._check_whole(handle.contents)
        return handle

    def _check_whole(self, contents: dict[str, Any]) -> None:
        """Refuses the first of several files whose others are gone."""
        if "whole" in contents:
            self._handle = None
            count = len(contents["whole"]["parts"])
            raise DataError(
                f"{self.path}: is the first of {count} files, and {self.path.name}.1 is missing;"
                f" put all files of the store side by side, or {rebuild(self.path)}"
            )

    def close(self) -> None:
        """Lets go of the file; the next read opens it again."""
        self._handle = None

    def __enter__(self) -> RegionStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_handle": None}

    def __repr__(self) -> str:
        return f"RegionStore({str(self.path)!r})"

    @property
    def schema(self) -> StoreSchema:
        """What all records have in common."""
        return self._open().schema

    @property
    def provenance(self) -> dict[str, Any]:
        """How the store was made: weights, versions, quarantined images."""
        return self._open().provenance()

    @property
    def contents(self) -> dict[str, Any]:
        """What the file says of itself: format, version, count, digest, sizes."""
        return dict(self._open().contents)

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of schema, ids and records; says nothing of order of writing or layout."""
        return str(self._open().contents["digest"])

    @property
    def payload_bytes(self) -> int:
        """Bytes of all records, without index and page ends."""
        return int(self._open().contents["payload_bytes"])

    @property
    def ids(self) -> ImageIds:
        """All image ids, sorted by their UTF-8 bytes."""
        return ImageIds(self._open().ids)

    @property
    def hashes(self) -> NDArray[np.uint8]:
        """uint8 [N, 32]: SHA-256 of each record, in the order of `ids`."""
        return self._open().hashes()

    def fingerprint(self) -> dict[str, Any]:
        """{"size", "sha256"} for the keys of unfinished work; reads one page of the file."""
        handle = self._open()
        return {"size": handle.size, "sha256": str(handle.contents["digest"])}

    def __len__(self) -> int:
        return self._open().count

    def __contains__(self, image_id: object) -> bool:
        return isinstance(image_id, str) and self._open().find(image_id) >= 0

    def positions(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        """Position of each id in `ids`; `read_batch` takes positions as well.

        Raises:
            DataError: an id is not in the store.
        """
        found = find_ids(self._open().ids, image_ids)
        if (found < 0).any():
            raise self._missing(image_ids[int(np.argmin(found))])
        return found

    def _missing(self, image_id: str) -> DataError:
        return DataError(
            f"{self.path}: no regions for image {image_id}. The store holds {len(self)} images; "
            f"{rebuild(self.path)}"
        )

    def record(self, position: int) -> tuple[NDArray[np.uint8], int]:
        """The block that holds a record, and the record's offset in it."""
        return self._open().record(position)

    def stored_order(self) -> NDArray[np.int64]:
        """int64 [N]: positions in the order the records lie in the file."""
        return np.argsort(self._open().places, kind="stable")

    def regions(self, image_id: str) -> Regions:
        """Regions of one image as read-only views, without a copy (ids are widened to int64).

        Raises:
            DataError: the image is not in the store, or its record is damaged.
        """
        handle = self._open()
        position = handle.find(image_id)
        if position < 0:
            raise self._missing(image_id)
        return decode_record(*handle.record(position), image_id, str(self.path))

    def regions_at(self, position: int) -> Regions:
        """Regions of the image at a position of `ids`."""
        block, offset = self.record(position)
        return decode_record(block, offset, self.ids[position], str(self.path))

    def read_batch(
        self,
        images: Sequence[str] | NDArray[np.integer[Any]],
        features_out: NDArray[np.floating[Any]],
        boxes_norm_out: NDArray[np.float32],
        mask_out: NDArray[np.integer[Any]] | None = None,
        object_ids_out: NDArray[np.int64] | None = None,
        object_scores_out: NDArray[np.float32] | None = None,
        attribute_ids_out: NDArray[np.int64] | None = None,
        attribute_scores_out: NDArray[np.float32] | None = None,
        rows: Sequence[int] | None = None,
    ) -> NDArray[np.int64]:
        """Fills arrays with the first R regions of each image, zeros after the last.

        Args:
            images: B image ids, or B positions from `positions`.
            features_out: float32 [B, R, F], or the type of the store, which saves the conversion.
            boxes_norm_out: float32 [B, R, 4], x by width and y by height, without -1.
            mask_out: integers [B, R], 1 where a region is real.
            object_ids_out: int64 [B, R]; scores float32; attributes likewise. None: not wanted.
            object_scores_out: see `object_ids_out`.
            attribute_ids_out: see `object_ids_out`.
            attribute_scores_out: see `object_ids_out`.
            rows: the row of the arrays each image fills, when a batch is read from several stores; other
                rows stay as they are. None: row i for image i.

        Returns:
            int64 [number of images], regions of each, at most R.

        Raises:
            DataError: an image is not in the store, or a record is damaged.
        """
        records = self._records(images)
        room = features_out.shape[1]
        in_order = range(len(records.at))
        rows = list(in_order if rows is None else rows)
        records.copy_features(features_out, rows)
        # A batch from one store fills row after row; a slice is faster than a list of rows.
        where: Any = slice(len(rows)) if rows == list(in_order) else rows
        boxes_norm_out[where] = records.boxes_norm(room)
        for array, line in ((object_ids_out, 4), (attribute_ids_out, 5)):
            if array is not None:
                array[where] = records.ids(line, room)
        for scores, line in ((object_scores_out, 6), (attribute_scores_out, 7)):
            if scores is not None:
                scores[where] = records.scores(line, room)
        counts = np.minimum(records.counts, room)
        if mask_out is not None:
            mask_out[where] = np.arange(room) < counts[:, None]
        return counts

    def one_feature(
        self, images: Sequence[str] | NDArray[np.integer[Any]], lots: NDArray[np.floating[Any]], room: int
    ) -> NDArray[np.float32]:
        """One region's features of each image: float32 [B, F].

        Args:
            images: B image ids or positions.
            lots: float [B] in [0, 1), which of the first `room` regions to take.
            room: how many regions of an image count.

        Raises:
            DataError: an image is not in the store, or a record is damaged.
        """
        return self._records(images).one_feature(lots, room)

    def _records(self, images: Sequence[str] | NDArray[np.integer[Any]]) -> Records:
        positions = images if isinstance(images, np.ndarray) else self.positions(images)
        return Records.find(self._open(), positions)


def fingerprint(path: str | Path) -> dict[str, Any]:
    """{"size", "sha256"} of a store, from the digest it carries.

    Raises:
        DataError: the file is not a region store.
    """
    with RegionStore(path) as store:
        return store.fingerprint()
