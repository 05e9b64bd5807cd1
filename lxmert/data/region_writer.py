"""Region stores, written so that any interruption is survived.

While an extraction runs, its records lie in a partial LMDB, one value per image, committed every few
seconds; whatever kills the process, what was committed is there to go on from. `finish` copies the records
in id order into blocks of a new file, which takes the final name only when it is whole. The bytes of that
file depend on schema, provenance and records alone: not on shards, interruptions or the order of arrival.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from lxmert.data.region_builder import (
    DROP_BYTES,
    HASH_BYTES,
    Database,
    build_store,
    sorted_provenance,
)
from lxmert.data.region_record import StoreSchema, difference, encode_id, encode_record
from lxmert.errors import DataError
from lxmert.files import atomic_path, explain_os_error, make_folder
from lxmert.types import Regions

_SCHEMA_KEY = b"\0schema"
_RECORD_PREFIX = b"r"
_COMMIT_BYTES = 32 << 20


class UnfitRegions(DataError):
    """Regions of one image that the store cannot hold; the store is as it was."""


class RegionWriter:
    """Writes a store that may be interrupted at any moment.

    `with RegionWriter(out, schema) as writer:` goes on from what an earlier process left in the partial
    file; `image_id in writer` and `writer.ids()` say what is there. Without `finish` the block keeps the
    partial file and makes no store.
    """

    def __init__(
        self,
        path: str | Path,
        schema: StoreSchema,
        partial: str | Path | None = None,
        commit_records: int = 256,
        commit_seconds: float = 20.0,
        map_bytes: int | None = None,
    ) -> None:
        """Opens or makes the partial file.

        Args:
            path: final name of the store.
            schema: what each record must fit.
            partial: where unfinished work lives; beside `path` unless given.
            commit_records: a crash loses fewer records than this,
            commit_seconds: and less time than this (when records keep coming).
            map_bytes: first size of the memory map.

        Raises:
            DataError: the partial file has another schema, is in use, or cannot be written.
        """
        self.path = Path(path)
        self.partial = (
            Path(partial) if partial is not None else self.path.with_name(self.path.name + ".partial")
        )
        self.schema = schema
        self._commit_records = commit_records
        self._commit_seconds = commit_seconds
        make_folder(self.partial.parent)
        self._lock = _lock_file(self.partial)
        try:
            self._database = Database(self.partial, self.partial, durable=True, map_bytes=map_bytes)
            self._check_schema()
            self._ids = {key[len(_RECORD_PREFIX) :] for key in self._keys()}
        except BaseException:
            os.close(self._lock)
            raise
        self._new = 0
        self._committed_at = time.monotonic()

    def _check_schema(self) -> None:
        with self._database.env.begin() as transaction:
            found = transaction.get(_SCHEMA_KEY)
        wanted = self.schema.to_json()
        if found is None:
            self._database.put(_SCHEMA_KEY, wanted.encode())
            self._database.commit()
        elif found.decode() != wanted:
            raise DataError(
                f"{self.partial}: holds unfinished work of {difference(found.decode(), wanted)}; "
                "remove it to start again."
            )

    def _keys(self) -> Iterator[bytes]:
        with self._database.env.begin() as transaction:
            cursor = transaction.cursor()
            if cursor.set_range(_RECORD_PREFIX):
                yield from (bytes(key) for key in cursor.iternext(keys=True, values=False))

    def __contains__(self, image_id: object) -> bool:
        return isinstance(image_id, str) and image_id.encode("utf-8", "surrogatepass") in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self) -> list[str]:
        """Sorted ids of the images that are there already, put but not yet committed ones included."""
        return [image_id.decode("utf-8", "surrogatepass") for image_id in sorted(self._ids)]

    def put(self, image_id: str, regions: Regions) -> None:
        """Adds one image; it is safe after the next commit.

        Raises:
            UnfitRegions: its id or regions do not fit.
            DataError: the image is there already, or the disk is full.
        """
        try:
            key = encode_id(image_id, str(self.path))
            record = encode_record(image_id, regions, self.schema, str(self.path))
        except DataError as error:
            raise UnfitRegions(str(error)) from error
        if key in self._ids:
            raise DataError(f"{self.path}: image {image_id} appears twice; remove one of the two.")
        self._database.put(_RECORD_PREFIX + key, b"".join((hashlib.sha256(record).digest(), record)))
        self._ids.add(key)
        self._new += 1
        if (
            self._new >= self._commit_records
            or self._database.pending_bytes >= _COMMIT_BYTES
            or time.monotonic() - self._committed_at >= self._commit_seconds
        ):
            self.commit()

    def commit(self) -> None:
        """Makes all records so far survive a crash."""
        self._database.commit()
        self._new = 0
        self._committed_at = time.monotonic()

    def finish(self, provenance: dict[str, Any]) -> str:
        """Writes the store under its final name, removes the partial file, and returns the digest.

        Args:
            provenance: any JSON object. What differs between shards of one extraction must not be in it,
                but for the list "quarantined", whose entries have an "id".

        Raises:
            DataError: a record is damaged, or the disk is full.
        """
        self.commit()
        with atomic_path(self.path) as temporary:
            digest = build_store(
                temporary, self.path, self.schema, self._records(), sorted_provenance(provenance)
            )
        self.close()
        self.partial.unlink(missing_ok=True)
        return digest

    def _records(self) -> Iterator[tuple[bytes, bytes | memoryview]]:
        """Committed ids and records in id order, checked against their hashes."""
        self._database.close()
        last: bytes | None = None
        while True:
            self._database = Database(self.partial, self.partial, durable=True)
            read_bytes = 0
            with self._database.env.begin(buffers=True) as transaction:
                cursor = transaction.cursor()
                more = cursor.set_range(_RECORD_PREFIX if last is None else _RECORD_PREFIX + last + b"\0")
                while more and read_bytes < DROP_BYTES:
                    last = bytes(cursor.key())[len(_RECORD_PREFIX) :]
                    value = cursor.value()
                    if hashlib.sha256(value[HASH_BYTES:]).digest() != value[:HASH_BYTES]:
                        raise DataError(
                            f"{self.partial}: image {last.decode()}: the record is damaged; "
                            "remove the file to start again."
                        )
                    read_bytes += len(value)
                    yield last, value[HASH_BYTES:]
                    more = cursor.next()
                del cursor
            if not more:
                return
            self._database.close()

    def close(self) -> None:
        """Commits and closes the partial file."""
        if self._lock < 0:
            return
        try:
            self._database.commit()
        finally:
            self._database.close()
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> RegionWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lock_file(path: Path) -> int:
    """A descriptor that holds the partial file for this process alone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise explain_os_error(error, path) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise DataError(f"{path}: another process is writing it; wait for it to end, or stop it.") from error
    except OSError:
        pass  # the file system has no locks; the workflow engine still starts a job once
    return descriptor
