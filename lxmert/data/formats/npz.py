"""Folders of one .npz an image: UNITER's four arrays, or everything a region store holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lxmert.data.formats.arrays import read_npz, write_npz
from lxmert.data.formats.forms import Options
from lxmert.data.formats.uniter import file_name, from_arrays, image_id_of, to_arrays
from lxmert.data.region_record import StoreSchema
from lxmert.errors import DataError
from lxmert.files import atomic_folder, atomic_write_bytes, explain_os_error
from lxmert.types import Regions

_NUMBERS = ("object_ids", "object_scores", "attribute_ids", "attribute_scores", "selection_scores")
_MOST_FILE_BYTES = 1 << 30


class _Folder(ABC):
    """Reads the .npz files of a folder in the order of their names."""

    unit = "images"

    def __init__(self, path: Path, options: Options) -> None:
        self.path, self._options = path, options
        try:
            names = [entry.name for entry in path.iterdir() if entry.suffix == ".npz"]
        except OSError as error:
            raise explain_os_error(error, path) from error
        if not names:
            raise DataError(f"{path}: holds no .npz file; name the folder that does.")
        self._names = sorted(names)
        self.total, self.done = len(names), 0
        self.class_scores = self._class_scores(self._arrays(self._names[0]))

    @staticmethod
    @abstractmethod
    def _class_scores(arrays: dict[str, NDArray[Any]]) -> int:
        """Numbers of a box's class distribution."""

    @abstractmethod
    def _image(self, name: str, arrays: dict[str, NDArray[Any]]) -> tuple[str, Regions]:
        """Id and regions of an image; ValueError says what is wrong with its arrays."""

    def _arrays(self, name: str) -> dict[str, NDArray[Any]]:
        where = self.path / name
        try:
            if where.stat().st_size > _MOST_FILE_BYTES:
                raise DataError(f"{where}: is larger than any image's regions; remove it.")
            return read_npz(where.read_bytes())
        except OSError as error:
            raise explain_os_error(error, where) from error
        except ValueError as error:
            raise DataError(f"{where}: {error}; write the file again.") from error

    def __iter__(self) -> Iterator[tuple[str, str, Regions]]:
        """Place, image id and regions of each image."""
        for name in self._names:
            where = str(self.path / name)
            try:
                image_id, regions = self._image(name, self._arrays(name))
            except ValueError as error:
                raise DataError(f"{where}: {error}; write the file again.") from error
            self.done += 1
            yield where, image_id, regions

    def describe(self) -> dict[str, Any]:
        """Name of the folder and number of its files."""
        return {"folder": self.path.name, "images": self.done}


class UniterFolder(_Folder):
    """UNITER's extraction: file names are its names of images."""

    @staticmethod
    def _class_scores(arrays: dict[str, NDArray[Any]]) -> int:
        return uniter_class_scores(arrays)

    def _image(self, name: str, arrays: dict[str, NDArray[Any]]) -> tuple[str, Regions]:
        return uniter_image(name, arrays, self._options, str(self.path / name))


def uniter_class_scores(arrays: dict[str, NDArray[Any]]) -> int:
    """Numbers of a box's class distribution, 0 where there are no soft labels."""
    labels = arrays.get("soft_labels")
    return int(labels.shape[1]) if labels is not None and labels.ndim == 2 else 0


def uniter_image(
    name: str, arrays: dict[str, NDArray[Any]], options: Options, where: str
) -> tuple[str, Regions]:
    """Id and regions of an image from UNITER's arrays; ValueError says what is wrong with them."""
    assert options.sizes is not None
    image_id = image_id_of(name, options.prefix)
    return image_id, from_arrays(arrays, *options.sizes.of(image_id, where))


class PlainFolder(_Folder):
    """Everything a store holds: file names are image ids."""

    @staticmethod
    def _class_scores(arrays: dict[str, NDArray[Any]]) -> int:
        scores = arrays.get("class_scores")
        return int(scores.shape[1]) if scores is not None and scores.ndim == 2 else 0

    def _image(self, name: str, arrays: dict[str, NDArray[Any]]) -> tuple[str, Regions]:
        return name.removesuffix(".npz"), plain_regions(arrays)


def plain_arrays(regions: Regions) -> dict[str, NDArray[Any]]:
    """Regions as arrays by their names in `Regions`; `size` is width and height."""
    arrays = {name: getattr(regions, name) for name in ("boxes_px", "features", *_NUMBERS)}
    arrays["size"] = np.array([regions.width, regions.height])
    if regions.class_scores is not None:
        arrays["class_scores"] = regions.class_scores
    return arrays


def plain_regions(arrays: dict[str, NDArray[Any]]) -> Regions:
    """What `plain_arrays` was given.

    Raises:
        ValueError: an array is missing or has a wrong type.
    """
    for name in ("boxes_px", "features", *_NUMBERS, "size"):
        if name not in arrays:
            raise ValueError(f"{name} is missing")
        kind = "i" if name.endswith("ids") or name == "size" else "f"
        if arrays[name].dtype.kind != kind:
            raise ValueError(f"{name} is of type {arrays[name].dtype}")
    if arrays["size"].shape != (2,):
        raise ValueError(f"size is of shape {arrays['size'].shape}")
    width, height = arrays["size"].tolist()
    values = {name: arrays[name] for name in ("boxes_px", "features", *_NUMBERS)}
    return Regions(**values, width=width, height=height, class_scores=arrays.get("class_scores"))


class _FolderWriter(ABC):
    """Writes one .npz an image into a folder that appears when it is whole."""

    ranked = False

    def __init__(self, path: Path, options: Options, schema: StoreSchema) -> None:
        self.path, self._options = path, options
        self._stack = ExitStack()

    def order(self, ids: list[str]) -> list[int] | None:
        """Any."""
        return None

    @abstractmethod
    def _file(self, image_id: str, regions: Regions) -> tuple[str, bytes]:
        """Name and bytes of an image's file."""

    def put(self, image_id: str, regions: Regions) -> None:
        """Writes one file."""
        name, data = self._file(image_id, regions)
        try:
            with open(self._folder / name, "xb") as handle:
                handle.write(data)
        except FileExistsError as error:
            raise DataError(
                f"{self.path}: two images would be called {name}, the second is {image_id}; rename one."
            ) from error
        except OSError as error:
            raise explain_os_error(error, self.path / name) from error

    def __enter__(self) -> _FolderWriter:
        self._folder = self._stack.enter_context(atomic_folder(self.path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


class UniterFolderWriter(_FolderWriter):
    """UNITER's four arrays under UNITER's names."""

    ranked = True

    def _file(self, image_id: str, regions: Regions) -> tuple[str, bytes]:
        return file_name(image_id, self._options.prefix), write_npz(to_arrays(image_id, regions), True)


class PlainFolderWriter(_FolderWriter):
    """Everything, under image ids."""

    def _file(self, image_id: str, regions: Regions) -> tuple[str, bytes]:
        return plain_name(image_id), write_npz(plain_arrays(regions))


def plain_name(image_id: str) -> str:
    """File name of an image.

    Raises:
        DataError: its id cannot be one.
    """
    if "/" in image_id:
        raise DataError(f"image {image_id}: its id cannot be a file name; rename the image.")
    return f"{image_id}.npz"


def write_image(path: Path, regions: Regions) -> None:
    """Writes one image's regions as `PlainFolder` reads them."""
    atomic_write_bytes(path, write_npz(plain_arrays(regions)))
