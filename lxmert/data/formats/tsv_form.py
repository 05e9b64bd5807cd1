"""TSV files as a form among others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from lxmert.data.formats.tsv import TsvReader, write_row
from lxmert.files import atomic_path
from lxmert.types import Regions

_MEGABYTE = 1_000_000


class Rows:
    """Rows of a TSV file."""

    unit = "MB"
    class_scores = 0

    def __init__(self, path: Path, columns: str) -> None:
        self.path, self._columns = path, columns
        self._reader = TsvReader(path, columns)
        self.total = self._reader.size() // _MEGABYTE
        self._rows = 0

    @property
    def done(self) -> int:
        """Megabytes read."""
        return self._reader.bytes_read // _MEGABYTE

    def __iter__(self) -> Iterator[tuple[str, str, Regions]]:
        """Place, image id and regions of each row."""
        for line, image_id, regions in self._reader:
            self._rows += 1
            yield f"{self.path}:{line}", image_id, regions

    def describe(self) -> dict[str, Any]:
        """Name, size, checksum and columns."""
        return {
            "file": self.path.name,
            "bytes": self._reader.bytes_read,
            "sha256": self._reader.sha256,
            "columns": self._columns,
            "rows": self._rows,
        }


class TsvWriter:
    """Writes rows in the order they come."""

    ranked = False

    def __init__(self, path: Path, columns: str, line_end: bytes) -> None:
        self._path, self._columns, self._line_end = path, columns, line_end
        self._stack = ExitStack()

    def order(self, ids: list[str]) -> list[int] | None:
        """Any."""
        return None

    def put(self, image_id: str, regions: Regions) -> None:
        """Writes a row."""
        write_row(self._handle, image_id, regions, self._columns, self._line_end)

    def __enter__(self) -> TsvWriter:
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._handle = self._stack.enter_context(open(temporary, "wb", buffering=1 << 20))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
