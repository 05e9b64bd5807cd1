"""Region stores, written: the file under construction, and the builder of a finished store."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from lxmert.data.region_handle import FORMAT, FORMAT_VERSION, block_key
from lxmert.data.region_record import StoreSchema, dump_json
from lxmert.errors import DataError
from lxmert.files import explain_os_error

BLOCK_BYTES = 1 << 20
HASH_BYTES = 32
# LMDB keeps a value of less than half a page among others; a block must have pages of its own, whatever
# the machine's page size, so that batches can be read from the mapped file.
_LEAST_BLOCK_BYTES = 1 << 16
# The map is only address space: it starts small so that growth is exercised, and doubles.
MAP_BYTES = 64 << 20
# A memory map counts as resident; letting go of it now and then keeps a merge of any size small.
DROP_BYTES = 128 << 20


class Database:
    """An LMDB file under construction: puts are gathered and committed together; the map grows on demand."""

    def __init__(self, path: Path, name: Path, durable: bool, map_bytes: int | None = None) -> None:
        """Opens or makes `path`; errors name `name`, the file a user knows."""
        self._name = name
        self._pending: list[tuple[bytes, bytes | memoryview]] = []
        self.pending_bytes = 0
        try:
            self.env = lmdb.open(
                str(path),
                subdir=False,
                lock=False,
                map_size=map_bytes or MAP_BYTES,
                sync=durable,
                metasync=durable,
            )
        except lmdb.Error as error:
            raise self._explain(error) from error

    def put(self, key: bytes, value: bytes | memoryview) -> None:
        """Keeps a value until the next commit."""
        self._pending.append((key, value))
        self.pending_bytes += len(value)

    def commit(self, append: bool = False) -> None:
        """Writes what is pending as one transaction.

        Raises:
            DataError: the disk is full or fails.
        """
        while self._pending:
            try:
                with self.env.begin(write=True) as transaction:
                    for key, value in self._pending:
                        transaction.put(key, value, append=append)
            except lmdb.MapFullError:
                # The failed transaction is undone; all of it is written again into a larger map.
                self.env.set_mapsize(2 * self.env.info()["map_size"])
                continue
            except lmdb.Error as error:
                raise self._explain(error) from error
            self._pending.clear()
            self.pending_bytes = 0

    def _explain(self, error: lmdb.Error) -> DataError:
        # LMDB reports a short write as EIO: the room left on the disk tells what it was.
        text = str(error)
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.ENOENT):
            if os.strerror(number) in text:
                return explain_os_error(OSError(number, os.strerror(number)), self._name)
        if os.strerror(errno.EIO) in text:
            return DataError(
                f"{self._name}: the file cannot grow ({text}); free some space or raise the file size limit, "
                "then run the same command again."
            )
        return DataError(f"{self._name}: cannot be written ({text}); check the path and the disk.")

    def close(self) -> None:
        """Closes the file; what is pending is lost."""
        self.env.close()


class StoreBuilder:
    """Writes a whole store file: records in any order, then `close` with the provenance.

    Equal sequences of records give equal bytes. Memory holds one block and about 150 bytes per image.
    """

    def __init__(self, path: Path, name: Path, schema: StoreSchema) -> None:
        """Begins a new file at `path`; errors name `name`."""
        self._name = name
        self._schema = schema
        self._database = Database(path, name, durable=False)
        self._block = bytearray(BLOCK_BYTES)
        self._used = 0
        self._blocks = 0
        self._ids: list[bytes] = []
        self._seen: set[bytes] = set()
        self._places: list[int] = []
        self._hashes = bytearray()
        self._payload_bytes = 0

    def __contains__(self, image_id: str) -> bool:
        return image_id.encode("utf-8", "surrogatepass") in self._seen

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, image_id: bytes, record: bytes | memoryview) -> bytes:
        """Adds an encoded record and returns its SHA-256.

        Raises:
            DataError: the image is there already, or the disk is full.
        """
        if image_id in self._seen:
            raise DataError(f"{self._name}: image {image_id.decode()} appears twice; remove one of the two.")
        if self._used and self._used + len(record) > BLOCK_BYTES:
            self._end_block()
        end = self._used + len(record)
        if end > len(self._block):
            self._block.extend(bytes(end - len(self._block)))
        self._seen.add(image_id)
        self._ids.append(image_id)
        self._places.append(self._blocks << 32 | self._used)
        self._block[self._used : end] = record
        self._used = end
        self._payload_bytes += len(record)
        digest = hashlib.sha256(record).digest()
        self._hashes += digest
        return digest

    def _end_block(self) -> None:
        # A transaction for each block, so that its memory can be used again.
        if self._used < _LEAST_BLOCK_BYTES:
            self._block[self._used : _LEAST_BLOCK_BYTES] = bytes(_LEAST_BLOCK_BYTES - self._used)
        with memoryview(self._block)[: max(self._used, _LEAST_BLOCK_BYTES)] as block:
            self._database.put(block_key(self._blocks), block)
            self._database.commit(append=True)
        self._blocks += 1
        self._used = 0

    def close(self, provenance: dict[str, Any], whole: dict[str, Any] | None = None) -> str:
        """Writes index, schema and provenance; returns the digest.

        Args:
            provenance: any JSON object.
            whole: digest and parts of a store of several files, of which this is the first.

        Raises:
            DataError: the disk is full, or the provenance is not JSON.
        """
        if self._used:
            self._end_block()
        width = max(map(len, self._ids), default=1)
        ids = np.array(self._ids, dtype=f"S{width}")
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        places = np.array(self._places, "<u8")[order]
        hashes = np.frombuffer(bytes(self._hashes), np.uint8).reshape(-1, HASH_BYTES)[order]
        schema = self._schema.to_json()
        digest = content_digest(schema, ids, hashes)
        provenance_text = dump_json(provenance).encode()
        contents = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "count": len(ids),
            "id_bytes": width,
            "blocks": self._blocks,
            "payload_bytes": self._payload_bytes,
            "digest": digest,
            "provenance_sha256": hashlib.sha256(provenance_text).hexdigest(),
            **({"whole": whole} if whole else {}),
        }
        put = self._database.put
        put(b"contents", dump_json(contents).encode())
        put(b"hashes", hashes.tobytes())
        put(b"ids", ids.tobytes())
        put(b"places", places.tobytes())
        put(b"provenance", provenance_text)
        put(b"schema", schema.encode())
        self._database.commit()
        self._database.close()
        return digest

    def abort(self) -> None:
        """Closes the file without finishing it."""
        self._database.close()


def content_digest(schema: str, ids: np.ndarray[Any, Any], hashes: np.ndarray[Any, Any]) -> str:
    """SHA-256 that names the content of a store: schema, sorted ids, and each record's SHA-256."""
    digest = hashlib.sha256(schema.encode())
    digest.update(f"\n{len(ids)} {ids.dtype.itemsize}\n".encode())
    digest.update(ids.tobytes())
    digest.update(hashes.tobytes())
    return digest.hexdigest()


def build_store(
    temporary: Path,
    name: Path,
    schema: StoreSchema,
    records: Iterable[tuple[bytes, bytes | memoryview]],
    provenance: dict[str, Any],
) -> str:
    """A whole store from records; returns its digest."""
    builder = StoreBuilder(temporary, name, schema)
    try:
        for image_id, record in records:
            builder.add(image_id, record)
            # Holding on to the record would keep the file open that it came from.
            del record
        return builder.close(provenance)
    except BaseException:
        builder.abort()
        raise


def sorted_provenance(provenance: dict[str, Any]) -> dict[str, Any]:
    """The same provenance with its quarantined images in id order."""
    quarantined = sorted(provenance.get("quarantined", []), key=lambda entry: str(entry["id"]))
    return {**provenance, "quarantined": quarantined}
