"""Region store files, opened: one LMDB handle per file and process, shared, counted and safe across forks."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import struct
import threading
import weakref
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from lxmert.data.region_record import StoreSchema, rebuild
from lxmert.errors import DataError
from lxmert.files import explain_os_error

FORMAT = "lxmert-region-store"
FORMAT_VERSION = 1

# LMDB's page header on 64-bit machines: number, padding, flags, number of pages.
_PAGE_HEADER = struct.Struct("=QHHI")
_OVERFLOW_PAGE = 0x04

_LMDB_MAGIC = b"\xde\xc0\xef\xbe"
_LMDB_MAGIC_AT = 16
_NETWORK_FILE_SYSTEMS = {
    *("nfs", "nfs4", "lustre", "beegfs", "ceph", "gpfs", "cifs", "smb3", "smbfs", "9p", "afs", "glusterfs"),
    *("fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.juicefs", "panfs", "orangefs", "virtiofs"),
}


class Handle:
    """An open store of this process; closed when neither a store nor an array refers to it.

    LMDB finds values; their bytes are then read through a memory map of Python's. An array keeps such a map
    alive by itself, whatever happens to LMDB's, whose values would point nowhere once it is closed. One read
    transaction lasts as long as the handle: without a lock file it blocks nobody, and since a finished store
    never changes it always sees the whole file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._blocks: dict[int, NDArray[np.uint8]] = {}
        self.size = _check_file(path)
        readahead = _wants_readahead(path, self.size)
        try:
            self.environment = lmdb.open(
                str(path), subdir=False, readonly=True, lock=False, meminit=False, readahead=readahead
            )
            self._page_bytes = self.environment.stat()["psize"]
            needed = (self.environment.info()["last_pgno"] + 1) * self._page_bytes
            if needed > self.size:
                # Reading past the end of a mapped file would kill the process.
                raise DataError(f"{path}: truncated, holds {self.size} of {needed} bytes; {rebuild(path)}")
            self._map = _map_file(path, readahead)
            self._bytes: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
            # The same as numbers of four bytes, and where it lies in memory: for reading whole batches.
            self.words: NDArray[np.uint32] = self._bytes[: self.size // 4 * 4].view("<u4")
            self.address: int = self._bytes.ctypes.data
            self._txn = self.environment.begin(buffers=True)
            self._read_contents()
        except lmdb.Error as error:
            raise DataError(
                f"{path}: cannot be opened as a region store ({error}); {rebuild(path)}"
            ) from error

    def _read_contents(self) -> None:
        header = self._txn.get(b"contents")
        if header is None:
            raise DataError(f"{self.path}: an LMDB file, but no finished region store; {rebuild(self.path)}")
        self.contents = self._json(header, "contents")
        if self.contents.get("format") != FORMAT or self.contents.get("version") != FORMAT_VERSION:
            raise DataError(
                f"{self.path}: {self.contents.get('format')} version {self.contents.get('version')}, "
                f"this code reads {FORMAT} version {FORMAT_VERSION}; {rebuild(self.path)}"
            )
        self.schema = StoreSchema.from_json(self._text("schema"), str(self.path))
        self.count = int(self.contents["count"])
        # Where each block begins and ends in the file; -1 until it is asked for.
        self._block_spans = np.full((int(self.contents["blocks"]), 2), -1, np.int64)
        self.ids: NDArray[np.bytes_] = self._array("ids", f"S{int(self.contents['id_bytes'])}")
        self.places: NDArray[np.uint64] = self._array("places", "<u8")

    def _array(self, key: str, dtype: str) -> NDArray[Any]:
        value = self.value(key.encode())
        if len(value) != self.count * np.dtype(dtype).itemsize:
            raise self.broken(f"{key} lists {len(value)} bytes for {self.count} images")
        return value.view(dtype)

    def _text(self, key: str) -> str:
        return bytes(self.value(key.encode())).decode("utf-8", "replace")

    def _json(self, value: Any, key: str) -> dict[str, Any]:
        try:
            parsed = json.loads(bytes(value))
        except ValueError as error:
            raise self.broken(f"{key}: {error}") from error
        if not isinstance(parsed, dict):
            raise self.broken(f"{key} is not an object")
        return parsed

    def value(self, key: bytes) -> NDArray[np.uint8]:
        """Bytes of one value, read-only and mapped; short ones, which LMDB keeps among others, copied."""
        with self._lock:  # a transaction may not be used by two threads at once
            try:
                found = self._txn.get(key)
            except lmdb.Error as error:
                raise self.broken(str(error)) from error
            if found is None:
                raise self.broken(f"{key!r} is missing")
            array: NDArray[np.uint8] = np.frombuffer(found, np.uint8)
            if len(array) <= self._page_bytes // 2:
                array = array.copy()
                array.flags.writeable = False
                return array
            # A longer value has pages of its own, whose header, right before it, tells their number.
            header = ctypes.string_at(array.ctypes.data - _PAGE_HEADER.size, _PAGE_HEADER.size)
        page, _, flags, _ = _PAGE_HEADER.unpack(header)
        offset = page * self._page_bytes + _PAGE_HEADER.size
        if not flags & _OVERFLOW_PAGE or offset + len(array) > self.size:
            raise self.broken(f"the page of {key!r} has a wrong header")
        return self._bytes[offset : offset + len(array)]

    def provenance(self) -> dict[str, Any]:
        """The provenance record."""
        return self._json(self.value(b"provenance"), "provenance")

    def hashes(self) -> NDArray[np.uint8]:
        """uint8 [N, 32]: SHA-256 of each record."""
        return self._array("hashes", "V32").view(np.uint8).reshape(-1, 32)

    def record(self, position: int) -> tuple[NDArray[np.uint8], int]:
        """The block that holds a record, and the record's offset in it."""
        place = int(self.places[position])
        number = place >> 32
        block = self._blocks.get(number)
        if block is None:
            block = self._blocks[number] = self.value(block_key(number))
        return block, place & 0xFFFFFFFF

    def spans(self, positions: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where some records begin in the file, and where their blocks end: int64 [B] each."""
        places = self.places[positions]
        numbers = (places >> np.uint64(32)).astype(np.int64)
        offsets = (places & np.uint64(0xFFFFFFFF)).astype(np.int64)
        if numbers.max(initial=0) >= len(self._block_spans):
            raise self.broken(f"block {int(numbers.max())} of {len(self._block_spans)} is wanted")
        spans = self._block_spans[numbers]
        if spans.min(initial=0) < 0:
            for number in np.unique(numbers[spans[:, 0] < 0]).tolist():
                block = self.value(block_key(number))
                begin = block.ctypes.data - self.address
                if not 0 <= begin <= self.size - len(block) or begin % 4:
                    raise self.broken(f"block {number} is no value of its own")
                self._block_spans[number] = begin, begin + len(block)
            spans = self._block_spans[numbers]
        return spans[:, 0] + offsets, spans[:, 1]

    def find(self, image_id: str) -> int:
        """Position of an id, -1 if it is missing."""
        encoded = image_id.encode("utf-8", "surrogatepass")
        # NumPy would copy all ids to compare them with a longer one, and cuts trailing zeros.
        if not self.count or len(encoded) > self.ids.dtype.itemsize or encoded.endswith(b"\0"):
            return -1
        position = int(self.ids.searchsorted(np.array(encoded, self.ids.dtype)))
        return position if position < self.count and self.ids[position] == encoded else -1

    def image_id(self, position: int) -> str:
        """The id at a position of the sorted ids."""
        return bytes(self.ids[position]).decode("utf-8", "replace")

    def broken(self, what: str) -> DataError:
        """The error for a file that is not what was written."""
        return DataError(f"{self.path}: damaged ({what}); {rebuild(self.path)}")


def block_key(number: int) -> bytes:
    """LMDB key of a block; keys sort as numbers do."""
    return b"block" + number.to_bytes(8, "big")


def _check_file(path: Path) -> int:
    """Size of a file that begins like an LMDB file."""
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a folder; a region store is one file. Name the .lmdb file itself.")
        with open(path, "rb") as handle:
            start = handle.read(_LMDB_MAGIC_AT + 4)
            size = os.fstat(handle.fileno()).st_size
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such region store; make it with: snakemake {path}") from error
    except OSError as error:
        raise explain_os_error(error, path) from error
    if start[_LMDB_MAGIC_AT:] != _LMDB_MAGIC:
        raise DataError(f"{path}: not a region store ({size} bytes); {rebuild(path)}")
    return size


def _map_file(path: Path, readahead: bool) -> mmap.mmap:
    try:
        with open(path, "rb") as handle:
            mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be mapped into memory ({error}); check the file system.") from error
    if not readahead and hasattr(mmap, "MADV_RANDOM"):
        mapped.madvise(mmap.MADV_RANDOM)
    return mapped


def _wants_readahead(path: Path, size: int) -> bool:
    """Whether the kernel should read ahead of page faults.

    A network disk answers few large requests better than many small ones. On a local disk reading ahead
    pays while the file fits in memory; beyond that it evicts pages that will be read.
    """
    if _file_system(path) in _NETWORK_FILE_SYSTEMS:
        return True
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return False
    return size < memory // 2


def _file_system(path: Path) -> str:
    """Type of the file system a path lies on, "" where the system does not tell."""
    best, kind = "", ""
    real = os.path.realpath(path)
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                _, point, name = line.split(" ", 3)[:3]
                point = point.replace("\\040", " ")
                if (real + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
                    best, kind = point, name
    except (OSError, ValueError):
        return ""
    return kind


# Open handles of this process by (device, inode): LMDB opens a file once per process only.
_handles: weakref.WeakValueDictionary[tuple[int, int], Handle] = weakref.WeakValueDictionary()
_handles_lock = threading.Lock()


def acquire(path: Path) -> Handle:
    """This process's handle on a store, opened if it is not open yet."""
    with _handles_lock:
        try:
            status = os.stat(path)
        except OSError:
            return Handle(path)  # says what is wrong
        key = (status.st_dev, status.st_ino)
        handle = _handles.get(key)
        if handle is None:
            handle = Handle(path)
            _handles[key] = handle
        return handle


def _forget_inherited() -> None:
    """In a forked child: lets go of the parent's handles, which a child must not use.

    LMDB would refuse to open the file again while it thinks that it is open. Arrays that the parent handed
    down stay readable, since they do not refer to LMDB's map.
    """
    global _handles_lock
    _handles_lock = threading.Lock()
    for handle in list(_handles.values()):
        handle.environment.close()
    _handles.clear()


os.register_at_fork(after_in_child=_forget_inherited)
