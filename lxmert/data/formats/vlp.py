"""HDF5 files in VLP's layout: one data set an image, called like the image's file without its ending.

    <prefix>_bbox.h5            float32 [R, 6]: x1, y1, x2, y2, object counted from 1, its probability
    <prefix>_feat<NNN>.h5       [R, F], NNN the last three characters of the name
    <prefix>_cls<NNN>.h5        [R, K + 1], probabilities, background first; where the store has class scores

VLP reads them as `region_bbox_file` and `region_det_file_prefix`. Its own checkpoints were trained on another
detector's features (100 boxes of Detectron's ResNeXt); the layout is the same, the features are not. Neither
sizes of images, attributes nor selection scores are among these files.

Source: LuoweiZhou/VLP, whose names these are.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lxmert.data.formats.forms import Options
from lxmert.data.region_record import UNKNOWN_ID, StoreSchema
from lxmert.errors import DataError
from lxmert.files import atomic_folder, explain_os_error
from lxmert.types import Regions

_ENDING = 3
# What h5py raises on damaged files.
_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError)
_MOST_NUMBERS = 1 << 28


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError:
        raise DataError(
            "--form vlp-hdf5: needs the package h5py. In the checkout, run: pip install -e '.[hdf5]'"
        ) from None


def _shard(image_id: str) -> str:
    return image_id[-_ENDING:]


class Hdf5Folder:
    """Reads a folder of such files; `prefix` chooses where there are several."""

    unit = "images"

    def __init__(self, path: Path, options: Options) -> None:
        self._h5py = _h5py()
        if not path.is_dir():
            raise DataError(f"{path}: no such folder; name the one that holds the .h5 files.")
        self.path, self._sizes = path, options.sizes
        found = sorted(entry.name.removesuffix("_bbox.h5") for entry in path.glob("*_bbox.h5"))
        if options.prefix is None and len(found) != 1:
            what = f"several ({', '.join(found)}); choose by --prefix" if found else "no *_bbox.h5"
            raise DataError(f"{path}: holds {what}.")
        self._prefix = options.prefix if options.prefix is not None else found[0]
        with self._open("bbox") as boxes:
            # Shard after shard, so that one file of features is open at a time.
            self._ids = sorted(boxes, key=lambda name: (_shard(name), name))
        if not self._ids:
            raise DataError(f"{self._file('bbox')}: holds no images; fetch it again.")
        self.total, self.done = len(self._ids), 0
        self.class_scores = 0
        if self._file(f"cls{_shard(self._ids[0])}").exists():
            with self._open(f"cls{_shard(self._ids[0])}") as classes:
                self.class_scores = int(self._array(classes, self._ids[0], None).shape[1])

    def _file(self, part: str) -> Path:
        return self.path / f"{self._prefix}_{part}.h5"

    def _open(self, part: str) -> Any:
        path = self._file(part)
        try:
            path.stat()
        except OSError as error:
            raise explain_os_error(error, path) from error
        try:
            return self._h5py.File(path, "r")
        except _ERRORS as error:
            raise DataError(f"{path}: not an HDF5 file, or damaged ({error}); fetch it again.") from error

    def _array(self, handle: Any, name: str, columns: int | None) -> NDArray[Any]:
        """A data set of real numbers of two dimensions, whose bytes lie in this very file."""
        where = f"{handle.filename}: {name}"
        try:
            link = handle.get(name, getlink=True)
            if not isinstance(link, self._h5py.HardLink):
                raise ValueError("it is missing, or leads to another file")
            found = handle[name]
            if not isinstance(found, self._h5py.Dataset) or found.is_virtual or found.external:
                raise ValueError("it is no plain data set")
            if found.ndim != 2 or found.dtype.kind != "f" or not 0 < found.size <= _MOST_NUMBERS:
                raise ValueError(f"it is of shape {found.shape} and type {found.dtype}")
            if columns is not None and found.shape[1] != columns:
                raise ValueError(f"it has {found.shape[1]} columns, not {columns}")
            return np.asarray(found[()])
        except _ERRORS as error:
            raise DataError(f"{where}: {' '.join(str(error).split())}; write the file again.") from error

    def __iter__(self) -> Iterator[tuple[str, str, Regions]]:
        """Place, image id and regions of each image, shard after shard."""
        with ExitStack() as whole:
            boxes = whole.enter_context(self._open("bbox"))
            shard, parts = "", ExitStack()
            whole.push(parts)
            features = classes = None
            for image_id in self._ids:
                if features is None or _shard(image_id) != shard:
                    parts.close()
                    shard = _shard(image_id)
                    features = parts.enter_context(self._open(f"feat{shard}"))
                    classes = parts.enter_context(self._open(f"cls{shard}")) if self.class_scores else None
                self.done += 1
                where = f"{boxes.filename}: {image_id}"
                yield where, image_id, self._regions(where, image_id, boxes, features, classes)

    def _regions(self, where: str, image_id: str, boxes: Any, features: Any, classes: Any) -> Regions:
        rows = self._array(boxes, image_id, 6).astype(np.float32)
        found = self._array(features, image_id, None)
        objects = rows[:, 4]
        if not np.isfinite(rows).all() or (objects != np.rint(objects)).any() or objects.min() < 1:
            raise DataError(f"{where}: column 5 must hold whole numbers from 1; write the file again.")
        if len(found) != len(rows):
            raise DataError(f"{where}: {len(rows)} boxes, but {len(found)} features; write the file again.")
        scores = None
        if classes is not None:
            scores = self._array(classes, image_id, self.class_scores).astype(np.float16)
        assert self._sizes is not None
        width, height = self._sizes.of(image_id, where)
        nothing = np.full(len(rows), np.nan, np.float32)
        return Regions(
            boxes_px=rows[:, :4],
            features=found.astype("<f2" if found.dtype.itemsize == 2 else "<f4"),
            object_ids=objects.astype(np.int64) - 1,
            object_scores=rows[:, 5],
            attribute_ids=np.full(len(rows), UNKNOWN_ID),
            attribute_scores=nothing,
            selection_scores=nothing,
            width=width,
            height=height,
            class_scores=scores,
        )

    def describe(self) -> dict[str, Any]:
        """Name of the folder, prefix of its files and number of images."""
        return {"folder": self.path.name, "prefix": self._prefix, "images": self.done}


class Hdf5Writer:
    """Writes such files, shard after shard, into a folder that appears when all are whole.

    The HDF5 library takes its process with it when the disk is full: it can then neither write nor close its
    files. So a process of its own writes them.
    """

    ranked = False

    def __init__(self, path: Path, options: Options, schema: StoreSchema) -> None:
        _h5py()
        self.path, self._prefix = path, options.prefix if options.prefix is not None else "regions"
        if not self._prefix or "/" in self._prefix:
            raise DataError(f"--prefix {self._prefix!r}: must be the beginning of a file's name.")
        self._with_classes = schema.class_scores > 0
        self._stack = ExitStack()

    def order(self, ids: list[str]) -> list[int]:
        """Shard after shard, so that one file of features is open at a time."""
        for image_id in ids:
            if "/" in image_id or image_id == ".":
                raise DataError(f"image {image_id}: HDF5 has no such name for a data set; rename the image.")
        return sorted(range(len(ids)), key=lambda place: (_shard(ids[place]), ids[place]))

    def put(self, image_id: str, regions: Regions) -> None:
        """Writes one image's data sets."""
        if (regions.object_ids < 0).any():
            raise DataError(f"image {image_id}: has no object ids, which VLP's boxes carry; extract it.")
        rows = np.concatenate(
            [regions.boxes_px, regions.object_ids[:, None] + 1, regions.object_scores[:, None]], axis=1
        )
        arrays = {"bbox": rows.astype(np.float32), f"feat{_shard(image_id)}": np.array(regions.features)}
        if self._with_classes:
            arrays[f"cls{_shard(image_id)}"] = np.array(regions.class_scores)
        self._send((image_id, arrays))

    def _send(self, item: tuple[str, dict[str, NDArray[Any]]] | None) -> None:
        try:
            self._pipe.send(item)
        except OSError:  # nobody reads any more
            self._await_end()

    def __enter__(self) -> Hdf5Writer:
        folder = self._stack.enter_context(atomic_folder(self.path))
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._stack.callback(self._pipe.close)
        self._process = context.Process(target=_write, args=(other, folder, self._prefix), daemon=True)
        self._process.start()
        other.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._send(None)
                self._await_end()
        except DataError as failed:
            self._stack.__exit__(DataError, failed, failed.__traceback__)
            raise
        finally:
            self._process.kill()
            self._process.join()
        self._stack.__exit__(kind, error, trace)

    def _await_end(self) -> None:
        """Waits for the writing process's last word.

        Raises:
            DataError: it could not write.
        """
        try:
            told = self._pipe.recv()
        except (EOFError, OSError):
            told = None
        if told != "":
            self._process.join()
            told = told or f"the HDF5 library ended with {self._process.exitcode}"
            raise DataError(
                f"{self.path}: cannot be written ({told}); free some space, or raise the file size limit, and"
                " run the same command again."
            )


def _write(pipe: Connection, folder: Path, prefix: str) -> None:
    """Writes what comes through the pipe, arrays by the part of the file's name; answers "" or an error."""
    # What the library says of its troubles is many lines; one goes back through the pipe.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    h5py = _h5py()
    parts: dict[str, Any] = {}
    try:
        while (item := pipe.recv()) is not None:
            image_id, arrays = item
            for part in [name for name in parts if name not in arrays]:
                _close(parts.pop(part))
            for part, array in arrays.items():
                if part not in parts:
                    # Data sets without times of day: equal images give equal files.
                    parts[part] = h5py.File(folder / f"{prefix}_{part}.h5", "w")
                parts[part].create_dataset(image_id, data=array)
        for handle in parts.values():
            _close(handle)
    except _ERRORS as error:
        told = re.search(r"error message = '([^']*)'", str(error))
        pipe.send(told[1] if told else " ".join(str(error).split())[:200])
        os._exit(1)  # the library would fail to close what it failed to write
    pipe.send("")


def _close(handle: Any) -> None:
    handle.flush()
    handle.close()
