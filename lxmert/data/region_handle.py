"""Region store files, opened: one LMDB handle per file and process, shared, counted and safe across forks."""

from __future__ import annotations

import json
import os
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

_LMDB_MAGIC = b"\xde\xc0\xef\xbe"
_LMDB_MAGIC_AT = 16
_NETWORK_FILE_SYSTEMS = {
    *("nfs", "nfs4", "lustre", "beegfs", "ceph", "gpfs", "cifs", "smb3", "smbfs", "9p", "afs", "glusterfs"),
    *("fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.juicefs", "panfs", "orangefs", "virtiofs"),
}


class _Pinned(np.ndarray[Any, Any]):
    """A view of the memory map that keeps its handle, and so the map, alive."""

    handle: Handle


class Handle:
    """An open store of this process; closed when neither a store nor an array refers to it.

    One read transaction lasts as long as the handle. Without a lock file it blocks nobody, and since a
    finished store never changes it always sees the whole file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._blocks: dict[int, NDArray[np.uint8]] = {}
        self.size = _check_file(path)
        try:
            self._env = lmdb.open(
                str(path),
                subdir=False,
                readonly=True,
                lock=False,
                meminit=False,
                readahead=_wants_readahead(path, self.size),
            )
            needed = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
            if needed > self.size:
                # Reading past the end of a mapped file would kill the process.
                raise DataError(f"{path}: truncated, holds {self.size} of {needed} bytes; {rebuild(path)}")
            self._txn = self._env.begin(buffers=True)
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
        # Not pinned: a handle that refers to itself would never be closed.
        self.ids: NDArray[np.bytes_] = self._array("ids", f"S{int(self.contents['id_bytes'])}")
        self.places: NDArray[np.uint64] = self._array("places", "<u8")

    def _array(self, key: str, dtype: str) -> NDArray[Any]:
        array = np.frombuffer(self.value(key.encode()), dtype)
        if len(array) != self.count:
            raise self.broken(f"{key} lists {len(array)} of {self.count} images")
        return array

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

    def value(self, key: bytes) -> Any:
        """Memory of one value, valid while the handle is open."""
        with self._lock:  # a transaction may not be used by two threads at once
            try:
                found = self._txn.get(key)
            except lmdb.Error as error:
                raise self.broken(str(error)) from error
        if found is None:
            raise self.broken(f"{key!r} is missing")
        return found

    def provenance(self) -> dict[str, Any]:
        """The provenance record."""
        return self._json(self.value(b"provenance"), "provenance")

    def hashes(self) -> NDArray[np.uint8]:
        """uint8 [N, 32]: SHA-256 of each record, valid while the handle is open."""
        return self._array("hashes", "V32").view(np.uint8).reshape(-1, 32)

    def pinned(self, array: NDArray[Any]) -> _Pinned:
        """The same memory, which now keeps this handle open."""
        view = array.view(_Pinned)
        view.handle = self
        return view

    def block(self, number: int) -> NDArray[np.uint8]:
        """Bytes of one block, valid while the handle is open; looked up once."""
        block = self._blocks.get(number)
        if block is None:
            block = self._blocks[number] = np.frombuffer(self.value(block_key(number)), np.uint8)
        return block

    def record(self, position: int) -> tuple[NDArray[np.uint8], int]:
        """The block that holds a record, valid while the handle is open, and the record's offset in it."""
        place = int(self.places[position])
        return self.block(place >> 32), place & 0xFFFFFFFF

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

    LMDB would refuse to open the file again while it thinks that it is open. Closing in a child leaves
    the mapping in place, so arrays that the parent handed down stay readable.
    """
    global _handles_lock
    _handles_lock = threading.Lock()
    for handle in list(_handles.values()):
        handle._env.close()
    _handles.clear()


os.register_at_fork(after_in_child=_forget_inherited)
