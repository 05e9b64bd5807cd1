"""UNITER's image databases: an LMDB folder of one record an image, named by its file, cut as its name says.

    coco_val2014/feat_th0.2_max100_min10/data.mdb     regions with conf above 0.2, 10 to 100, cut as written
    coco_val2014/nbb_th0.2_max100_min10.json          how many each image has
    coco_val2014/feat_numbb100/data.mdb               the first 100, or fewer
    coco_val2014/all/data.mdb                         all

With `_compressed` after the name records are .npz archives, otherwise MessagePack maps. `__keys__` lists the
names as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from lxmert.data.formats.arrays import pack_arrays, read_npz, unpack_arrays, write_npz
from lxmert.data.formats.forms import Options
from lxmert.data.formats.npz import uniter_class_scores, uniter_image
from lxmert.data.formats.uniter import file_name, to_arrays
from lxmert.data.region_builder import DROP_BYTES, Database
from lxmert.data.region_record import StoreSchema
from lxmert.errors import DataError
from lxmert.files import atomic_folder, atomic_write_text, read_json
from lxmert.types import Regions

_KEYS = b"__keys__"
_NAME = re.compile(
    r"(?:feat_(?:th(?P<threshold>[0-9.]+)_max(?P<most>\d+)_min(?P<least>\d+)|numbb(?P<fixed>\d+))|all)"
    r"(?P<compressed>_compressed)?"
)
_COMMIT_BYTES = 64 << 20


class DatabaseName:
    """What the name of a database says.

    Raises:
        DataError: it is no such name.
    """

    def __init__(self, name: str) -> None:
        match = _NAME.fullmatch(name)
        try:
            if match is None:
                raise ValueError
            threshold = match["threshold"]
            self.threshold = float(threshold) if threshold is not None else None
            self.most, self.least = (int(match[key]) if match[key] else None for key in ("most", "least"))
            self.fixed = int(match["fixed"]) if match["fixed"] else None
        except ValueError:
            raise DataError(
                f"--database {name}: must be like feat_th0.2_max100_min10, feat_numbb100 or all, with"
                " _compressed after it for records of .npz."
            ) from None
        self.name, self.compressed = name, bool(match["compressed"])
        self.counts_name = (
            "nbb_" + name.removeprefix("feat_").removesuffix("_compressed") + ".json"
            if threshold is not None
            else None
        )

    def count(self, conf: NDArray[np.float16]) -> int:
        """Regions that are kept of an image whose scores, best first, are `conf`."""
        if self.fixed is not None:
            return min(self.fixed, len(conf))
        if self.threshold is None or self.most is None or self.least is None:
            return len(conf)
        # NumPy compares a float16 array with a number in float16, in UNITER as here.
        above = int((conf > np.float16(self.threshold)).sum())
        return min(self.most, max(self.least, above), len(conf))


class ImgDb:
    """Reads a database; the folder that holds `data.mdb`, or the one above it if there is no choice."""

    unit = "images"

    def __init__(self, path: Path, options: Options) -> None:
        self.path, self._options = _database_folder(path), options
        self.done = 0
        self._counts: dict[str, Any] = {}
        match = _NAME.fullmatch(self.path.name)
        if match and match["threshold"]:
            counts = self.path.parent / str(DatabaseName(self.path.name).counts_name)
            if counts.exists():
                found = read_json(counts)
                if not isinstance(found, dict):
                    raise DataError(f"{counts}: must be an object of counts by name; write the file again.")
                self._counts = found
        environment = self._open()
        try:
            with environment.begin(buffers=True) as transaction:
                self.total = environment.stat()["entries"] - (transaction.get(_KEYS) is not None)
                cursor = transaction.cursor()
                if not self.total or not _first(cursor):
                    raise DataError(f"{self.path}: holds no images; fetch it again.")
                key = bytes(cursor.key()).decode("utf-8", "replace")
                self.class_scores = uniter_class_scores(self._arrays(key, cursor.value()))
                del cursor
        finally:
            environment.close()

    def _open(self) -> lmdb.Environment:
        data = self.path / "data.mdb"
        try:
            environment = lmdb.open(
                str(data), subdir=False, readonly=True, lock=False, create=False, readahead=True
            )
        except lmdb.Error as error:
            raise DataError(f"{data}: not an LMDB file, or damaged ({error}); fetch it again.") from error
        needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        size = data.stat().st_size
        if needed > size:
            # Reading past the end of a mapped file would kill the process.
            environment.close()
            raise DataError(f"{data}: truncated, holds {size} of {needed} bytes; fetch it again.")
        return environment

    def _where(self, name: str) -> str:
        return f"{self.path}: {name}"

    def _arrays(self, name: str, value: memoryview) -> dict[str, NDArray[Any]]:
        try:
            return read_npz(value) if bytes(value[:2]) == b"PK" else unpack_arrays(value)
        except ValueError as error:
            raise DataError(f"{self._where(name)}: {error}; fetch the database again.") from error

    def __iter__(self) -> Iterator[tuple[str, str, Regions]]:
        """Place, image id and regions of each image, in the order of their names."""
        last, more = b"", True
        while more:
            environment = self._open()
            try:
                read_bytes = 0
                with environment.begin(buffers=True) as transaction:
                    cursor = transaction.cursor()
                    more = cursor.set_range(last + b"\0") if last else cursor.first()
                    while more and read_bytes < DROP_BYTES:
                        last = bytes(cursor.key())
                        if last != _KEYS:
                            value = bytes(cursor.value())
                            read_bytes += len(value)
                            yield self._image(last, value)
                        more = cursor.next()
                    del cursor
            except lmdb.Error as error:
                raise DataError(f"{self.path}: damaged ({error}); fetch it again.") from error
            finally:
                environment.close()

    def _image(self, key: bytes, value: bytes) -> tuple[str, str, Regions]:
        name = key.decode("utf-8", "replace")
        where = self._where(name)
        try:
            arrays = self._arrays(name, memoryview(value))
            image_id, regions = uniter_image(name, arrays, self._options, where)
        except ValueError as error:
            raise DataError(f"{where}: {error}; fetch the database again.") from error
        count = self._counts.get(name, len(regions))
        if not isinstance(count, int) or count < 1:
            raise DataError(f"{where}: its count is {count!r}; write the file of counts again.")
        self.done += 1
        return where, image_id, regions.take(np.arange(min(count, len(regions))))

    def describe(self) -> dict[str, Any]:
        """Names of the folders and number of images."""
        return {"database": f"{self.path.parent.name}/{self.path.name}", "images": self.done}


def _first(cursor: Any) -> bool:
    """Moves to the first image."""
    found = bool(cursor.first())
    return bool(cursor.next()) if found and bytes(cursor.key()) == _KEYS else found


def _database_folder(path: Path) -> Path:
    if (path / "data.mdb").exists():
        return path
    inside = sorted(entry.parent for entry in path.glob("*/data.mdb")) if path.is_dir() else []
    if len(inside) == 1:
        return inside[0]
    found = f"it holds {', '.join(entry.name for entry in inside)}; name one" if inside else "name the folder"
    raise DataError(f"{path}: holds no data.mdb; {found} of an image database.")


class ImgDbWriter:
    """Writes a database and its file of counts below a folder."""

    ranked = True

    def __init__(self, path: Path, options: Options, schema: StoreSchema) -> None:
        self._name = DatabaseName(options.database)
        self.path, self._prefix = path, options.prefix
        self._stack = ExitStack()

    def order(self, ids: list[str]) -> list[int]:
        """That of the names, as LMDB keeps them: values then follow each other without a gap."""
        names = [file_name(image_id, self._prefix).encode() for image_id in ids]
        order = sorted(range(len(ids)), key=names.__getitem__)
        for one, other in zip(order, order[1:], strict=False):
            if names[one] == names[other]:
                raise DataError(
                    f"{self.path}: images {ids[one]} and {ids[other]} would both be called"
                    f" {names[one].decode()}; rename one of them."
                )
        self._waiting = json.dumps(sorted(name.decode() for name in names)).encode()
        return order

    def put(self, image_id: str, regions: Regions) -> None:
        """Writes one record."""
        name = file_name(image_id, self._prefix)
        arrays = to_arrays(image_id, regions)
        count = self._name.count(arrays["conf"][:, 0])
        arrays = {key: array[:count] for key, array in arrays.items()}
        self._counts[name] = count
        if self._waiting and name.encode() > _KEYS:
            self._put(_KEYS, self._waiting)
            self._waiting = b""
        self._put(name.encode(), write_npz(arrays, True) if self._name.compressed else pack_arrays(arrays))

    def _put(self, key: bytes, value: bytes) -> None:
        if len(key) > 511:
            raise DataError(f"image {key.decode()}: LMDB's keys have 511 bytes at most; rename the image.")
        self._database.put(key, value)
        if self._database.pending_bytes >= _COMMIT_BYTES:
            self._database.commit(append=True)

    def __enter__(self) -> ImgDbWriter:
        folder = self.path / self._name.name
        temporary = self._stack.enter_context(atomic_folder(folder))
        self._counts: dict[str, int] = {}
        self._database = Database(temporary / "data.mdb", folder, durable=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._waiting:
                    self._put(_KEYS, self._waiting)
                self._database.commit(append=True)
                self._database.env.sync(True)
        except BaseException as failed:
            self._database.close()
            self._stack.__exit__(type(failed), failed, failed.__traceback__)
            raise
        self._database.close()
        if kind is None and self._name.counts_name:
            # Before the database appears: without it UNITER looks for another database.
            atomic_write_text(self.path / self._name.counts_name, json.dumps(self._counts))
        self._stack.__exit__(kind, error, trace)
