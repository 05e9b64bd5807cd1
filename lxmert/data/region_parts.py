"""Stores of several files, X.lmdb, X.lmdb.1, X.lmdb.2 ..., where one would be too large.

Each file is a region store of its own, of a range of ids; the first, the head, also lists the others with
their digests, and bears the provenance and the digest of the whole. The digest is that of the content: it
does not depend on the number of files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lxmert.data.region_builder import BLOCK_BYTES, StoreBuilder, content_digest
from lxmert.data.region_record import StoreSchema, decode_record, rebuild
from lxmert.data.region_store import ImageIds, RegionStore, find_ids
from lxmert.errors import DataError
from lxmert.files import atomic_path
from lxmert.types import Regions

PART_BYTES = 8_000_000_000
# Schema, contents and LMDB's own pages; and the least that leaves room for records beside them.
_FIXED_BYTES = 1 << 17
LEAST_PART_BYTES = 1 << 18


def part_path(path: Path, number: int) -> Path:
    """File of a part; the head, number 0, has the store's own name."""
    return path if number == 0 else path.with_name(f"{path.name}.{number}")


def build_parts(
    out: Path,
    schema: StoreSchema,
    records: Iterable[tuple[bytes, bytes | memoryview]],
    provenance: dict[str, Any],
    part_bytes: int = PART_BYTES,
) -> tuple[str, int]:
    """Writes a store, in as many files as its size asks for; returns its digest and their number.

    A store that fits in one file is the same file as ever. None of the files appears before all are whole.

    Args:
        out: the store's name.
        schema: what the records fit.
        records: ids and records in id order.
        provenance: goes into the head.
        part_bytes: no file is larger, as long as a single record fits.

    Raises:
        DataError: the limit is too small, or the disk is full.
    """
    if part_bytes < LEAST_PART_BYTES:
        raise DataError(
            f"{out}: parts of {part_bytes} bytes are too small; allow {LEAST_PART_BYTES} or more."
        )
    with ExitStack() as stack:
        writer = _PartWriter(stack, out, schema, part_bytes)
        for image_id, record in records:
            writer.add(image_id, record)
            # Holding on to the record would keep the file open that it came from.
            del record
        digest = writer.finish(provenance)
    for number in range(writer.count, _count_parts(out)):
        part_path(out, number).unlink(missing_ok=True)  # of an earlier store of this name, which had more
    return digest, writer.count


class _PartWriter:
    def __init__(self, stack: ExitStack, out: Path, schema: StoreSchema, part_bytes: int) -> None:
        self._stack, self._out, self._schema, self._limit = stack, out, schema, part_bytes
        self._ids: list[NDArray[np.bytes_]] = []
        self._hashes: list[NDArray[np.uint8]] = []
        self._ended: list[dict[str, Any]] = []
        self._payload = 0
        self.count = 0
        self._head = self._current = self._begin()

    def _begin(self) -> StoreBuilder:
        name = part_path(self._out, self.count)
        builder = StoreBuilder(self._stack.enter_context(atomic_path(name)), name, self._schema)
        self._stack.callback(builder.abort)
        self.count += 1
        self._part_ids: list[bytes] = []
        self._part_hashes = bytearray()
        self._bytes, self._id_bytes = 0, 1
        return builder

    def add(self, image_id: bytes, record: bytes | memoryview) -> None:
        self._id_bytes = max(self._id_bytes, len(image_id))
        # Blocks are rounded up to pages, and the index takes an id, a place and a checksum of each image.
        blocks = (self._bytes + len(record)) // (BLOCK_BYTES // 2) + 2
        index = (len(self._part_ids) + 1) * (self._id_bytes + 40)
        size = self._bytes + len(record) + blocks * 8192 + index + _FIXED_BYTES
        if self._part_ids and size > self._limit:
            self._end_part()
            self._current = self._begin()
        self._part_hashes += self._current.add(image_id, record)
        self._part_ids.append(image_id)
        self._bytes += len(record)
        self._payload += len(record)

    def _end_part(self) -> None:
        self._ids.append(np.array(self._part_ids, f"S{self._id_bytes}"))
        self._hashes.append(np.frombuffer(bytes(self._part_hashes), np.uint8).reshape(-1, 32))
        count = len(self._part_ids)
        if self._current is not self._head:
            digest = self._current.close({"part": self.count - 1, "quarantined": []})
            self._ended.append({"count": count, "digest": digest})
        else:
            self._ended.append({"count": count})

    def finish(self, provenance: dict[str, Any]) -> str:
        if self._current is self._head:
            return self._head.close(provenance)
        self._end_part()
        digest = content_digest(
            self._schema.to_json(), np.concatenate(self._ids), np.concatenate(self._hashes)
        )
        whole = {"digest": digest, "payload_bytes": self._payload, "parts": self._ended}
        self._head.close(provenance, whole)
        return digest


def _count_parts(path: Path) -> int:
    """How many files of this name there are, one after the other."""
    number = 1
    while part_path(path, number).exists():
        number += 1
    return number


class PartedStore(RegionStore):
    """A region store of several files, read as one."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._parts: list[RegionStore] = []
        self._starts: NDArray[np.int64] = np.zeros(0, np.int64)
        self._ids: NDArray[np.bytes_] = np.zeros(0, "S1")
        self._pid = -1

    def _every(self) -> list[RegionStore]:
        """The parts in order, opened and checked once in a process."""
        if self._parts and self._pid == os.getpid():
            return self._parts
        head = _Part(self.path)
        listed = head.contents.get("whole", {"parts": [{"count": len(head)}]})["parts"]
        parts: list[RegionStore] = [head]
        for number, entry in enumerate(listed[1:], 1):
            part = _Part(part_path(self.path, number))
            if part.digest != entry["digest"]:
                raise DataError(f"{part.path}: is no part of {self.path} as it is now; {rebuild(self.path)}")
            parts.append(part)
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
        self._ids = np.concatenate([np.asarray(part.ids.array) for part in parts])
        self._parts, self._pid = parts, os.getpid()
        return parts

    def close(self) -> None:
        """Lets go of the files; the next read opens them again."""
        for part in self._parts:
            part.close()

    def __getstate__(self) -> dict[str, Any]:
        return PartedStore(self.path).__dict__.copy()

    @property
    def _whole(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._every()[0].contents.get("whole")
        return found

    @property
    def files(self) -> list[Path]:
        """The files of the store."""
        return [part.path for part in self._every()]

    @property
    def schema(self) -> StoreSchema:
        """What all records have in common."""
        return self._every()[0].schema

    @property
    def provenance(self) -> dict[str, Any]:
        """How the store was made."""
        return self._every()[0].provenance

    @property
    def contents(self) -> dict[str, Any]:
        """What the head says, with the counts of the whole."""
        return {**self._every()[0].contents, "count": len(self), "digest": self.digest}

    @property
    def digest(self) -> str:
        """SHA-256 of the whole content, the same in however many files."""
        return str(self._whole["digest"]) if self._whole else self._every()[0].digest

    @property
    def payload_bytes(self) -> int:
        """Bytes of all records."""
        return sum(part.payload_bytes for part in self._every())

    @property
    def ids(self) -> ImageIds:
        """All image ids, sorted."""
        self._every()
        return ImageIds(self._ids)

    @property
    def hashes(self) -> NDArray[np.uint8]:
        """uint8 [N, 32]: SHA-256 of each record."""
        return np.concatenate([part.hashes for part in self._every()])

    def fingerprint(self) -> dict[str, Any]:
        """Size of all files, and the digest."""
        return {"size": sum(part.fingerprint()["size"] for part in self._every()), "sha256": self.digest}

    def __len__(self) -> int:
        self._every()
        return len(self._ids)

    def __contains__(self, image_id: object) -> bool:
        return isinstance(image_id, str) and image_id in self.ids

    def positions(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        """Position of each id in `ids`.

        Raises:
            DataError: an id is not in the store.
        """
        self._every()
        found = find_ids(self._ids, image_ids)
        if (found < 0).any():
            raise self._missing(image_ids[int(np.argmin(found))])
        return found

    def _place(self, position: int) -> tuple[RegionStore, int]:
        number = int(np.searchsorted(self._starts, position, side="right")) - 1
        return self._every()[number], position - int(self._starts[number])

    def record(self, position: int) -> tuple[NDArray[np.uint8], int]:
        """The block that holds a record, and the record's offset in it."""
        self._every()
        part, inside = self._place(position)
        return part.record(inside)

    def stored_order(self) -> NDArray[np.int64]:
        """Positions in the order the records lie in the files."""
        parts = self._every()
        return np.concatenate(
            [part.stored_order() + start for part, start in zip(parts, self._starts[:-1], strict=True)]
        )

    def regions(self, image_id: str) -> Regions:
        """Regions of one image.

        Raises:
            DataError: the image is not in the store, or its record is damaged.
        """
        return self.regions_at(int(self.positions([image_id])[0]))

    def regions_at(self, position: int) -> Regions:
        """Regions of the image at a position of `ids`."""
        block, offset = self.record(position)
        return decode_record(block, offset, self.ids[position], str(self.path))

    def read_batch(
        self,
        images: Sequence[str] | NDArray[np.integer[Any]],
        features_out: NDArray[np.floating[Any]],
        *more: Any,
        **arrays: Any,
    ) -> NDArray[np.int64]:
        """As `RegionStore.read_batch`."""
        rows: Sequence[int] | None = arrays.pop("rows", None)
        positions = images if isinstance(images, np.ndarray) else self.positions(images)
        targets = np.arange(len(positions)) if rows is None else np.asarray(rows)
        counts = np.empty(len(positions), np.int64)
        for part, here, inside in self._shares(positions):
            arrays["rows"] = targets[here].tolist()
            counts[here] = part.read_batch(inside, features_out, *more, **arrays)
        return counts

    def one_feature(
        self, images: Sequence[str] | NDArray[np.integer[Any]], lots: NDArray[np.floating[Any]], room: int
    ) -> NDArray[np.float32]:
        """As `RegionStore.one_feature`."""
        positions = images if isinstance(images, np.ndarray) else self.positions(images)
        out = np.empty((len(positions), self.schema.feature_width), np.float32)
        for part, here, inside in self._shares(positions):
            out[here] = part.one_feature(inside, lots[here], room)
        return out

    def _shares(
        self, positions: NDArray[np.integer[Any]]
    ) -> Iterator[tuple[RegionStore, NDArray[np.int64], NDArray[np.int64]]]:
        """Each part that is needed, which of the positions are in it, and where in it."""
        parts = self._every()
        numbers = np.searchsorted(self._starts, positions, side="right") - 1
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            yield parts[number], here, positions[here] - self._starts[number]


class _Part(RegionStore):
    """One file of a store, without regard to the others."""

    def _check_whole(self, contents: dict[str, Any]) -> None:
        pass
