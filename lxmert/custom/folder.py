"""The images that a file of examples names, found in their folder and given ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lxmert.custom.lines import Line
from lxmert.data.images import walk_images
from lxmert.errors import DataError, suggest
from lxmert.files import explain_os_error

# Of an id: letters and digits of any script, "_" and "-". Dots and slashes would end it early elsewhere.
_OTHERS = re.compile(r"[^\w-]")


class ImageFolder:
    """The images of a folder, by their path in it.

    Args:
        folder: sub-folders included.

    Raises:
        DataError: the folder is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        paths = [path.relative_to(folder) for path in walk_images(folder)]
        self._files = {path.as_posix() for path in paths}
        self._without_suffix: dict[str, list[str]] = {}
        for path in paths:
            self._without_suffix.setdefault(path.with_suffix("").as_posix(), []).append(path.as_posix())
        self._named: dict[str, str] = {}  # id -> file

    def find(self, name: str, place: str) -> str:
        """The id of a named image.

        Args:
            name: its path in the folder; the suffix may be left out.
            place: where it is named, for messages.

        Raises:
            DataError: there is no such image, or two of one name.
        """
        file = self._file(name, place)
        image_id = _OTHERS.sub("_", Path(file).with_suffix("").as_posix())
        other = self._named.setdefault(image_id, file)
        if other != file:
            raise DataError(
                f"{place}: images {other} and {file} would both be called {image_id}. Rename one of them."
            )
        return image_id

    def _file(self, name: str, place: str) -> str:
        plain = Path(name).as_posix()
        if plain in self._files:
            return plain
        found = self._without_suffix.get(plain, [])
        if len(found) > 1:
            raise DataError(
                f"{place}: image {name} may be {found[0]} or {found[1]}. Write it with its suffix."
            )
        if not found:
            near = suggest(name, self._files).split(" Known:")[0]
            raise DataError(
                f"{place}: there is no image {name} in {self.folder} ({len(self._files)} images).{near}"
            )
        return found[0]

    def path(self, image_id: str) -> Path:
        """The file of an image that was found."""
        return self.folder / self._named[image_id]

    def linked_name(self, image_id: str) -> str:
        """The name of the link to an image."""
        return f"{image_id}{Path(self._named[image_id]).suffix}"

    @property
    def unused(self) -> int:
        """Images that nothing names."""
        return len(self._files) - len(self._named)


def find_images(folder: ImageFolder, lines: Sequence[Line], path: Path) -> list[tuple[str, ...]]:
    """Image ids of each line.

    Raises:
        DataError: an image is missing.
    """
    return [tuple(folder.find(name, f"{path}:{line.number}") for name in line.images) for line in lines]


def link_images(folder: ImageFolder, ids: Sequence[str], out: Path) -> None:
    """Links to images, each named by its id, in a new folder.

    Raises:
        DataError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for old in out.iterdir():
            old.unlink()
        for image_id in ids:
            (out / folder.linked_name(image_id)).symlink_to(folder.path(image_id).resolve())
    except OSError as error:
        raise explain_os_error(error, out) from error
