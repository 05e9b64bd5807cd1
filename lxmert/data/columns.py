"""A table as one memory-mapped file of columns: opened in milliseconds, shared by all workers.

The file is a valid safetensors file, so any reader of that format opens it too: eight bytes of
header length, a JSON header, then the columns one after another, little-endian. Three kinds of
column exist: plain arrays (`image`), ragged ones (`input_ids.values` and `input_ids.offsets`) and
strings (`id.utf8` and `id.offsets`). Offsets are int64 [N + 1]; row i is offsets[i]:offsets[i + 1].
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from lxmert.errors import DataError, suggest
from lxmert.files import atomic_path, explain_os_error, make_folder

log = logging.getLogger(__name__)

_DTYPES = {
    "F64": "<f8", "I64": "<i8", "U64": "<u8", "F32": "<f4", "I32": "<i4", "U32": "<u4",
    "F16": "<f2", "I16": "<i2", "U16": "<u2", "I8": "|i1", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_KIND = re.compile(r"(?P<ragged>ragged )?(?P<dtype>[a-z]+\d*)(?:\[(?P<width>\d+)\])?$")
_MAX_HEADER_BYTES = 100_000_000
_COPY_BYTES = 1 << 23
_REMEDY = "Remove the file and build it again."


@dataclass(frozen=True)
class Ragged:
    """Rows of differing length over one flat array.

    Attributes:
        values: [total].
        offsets: int64 [N + 1].
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        row = range(len(self))[row]  # negative rows and IndexError as a list has them
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def lengths(self) -> np.ndarray:
        """int64 [N], the length of each row."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The values of some rows end to end, and how many each row has (int64 [len(rows)])."""
        rows = np.asarray(rows, dtype=np.int64)
        starts = np.asarray(self.offsets[rows])
        lengths = np.asarray(self.offsets[rows + 1]) - starts
        before = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(rows) else lengths
        positions = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
        return self.values[positions], lengths


@dataclass(frozen=True)
class Strings:
    """UTF-8 strings over one flat array of bytes.

    Attributes:
        utf8: uint8 [total].
        offsets: int64 [N + 1].
    """

    utf8: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> str:
        row = range(len(self))[row]
        return self.utf8[self.offsets[row] : self.offsets[row + 1]].tobytes().decode("utf-8")

    def __iter__(self) -> Iterator[str]:
        for begin in range(0, len(self), 65536):
            offsets = self.offsets[begin : begin + 65537].tolist()
            block = self.utf8[offsets[0] : offsets[-1]].tobytes()
            first = offsets[0]
            for start, end in zip(offsets, offsets[1:], strict=False):
                yield block[start - first : end - first].decode("utf-8")

    def to_list(self) -> list[str]:
        """Every string."""
        return list(self)


Column = np.ndarray | Ragged | Strings


class Columns:
    """A columns file; reads the header now and the pages of a column when they are touched.

    Pickling carries the path only, so worker processes share the page cache, not copies.

    Raises:
        DataError: the file is missing, truncated or not a columns file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._header, self._begin, self.meta = _read_header(self.path)
        self._bytes: np.ndarray | None = None
        self._columns: dict[str, Column] = {}

    @property
    def names(self) -> list[str]:
        """The names of the columns, sorted."""
        return sorted({name.rpartition(".")[0] or name for name in self._header})

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __len__(self) -> int:
        """The number of examples, as the file's metadata states it."""
        return int(self.meta["count"])

    def __getitem__(self, name: str) -> Column:
        if name not in self._columns:
            self._columns[name] = self._open(name)
        return self._columns[name]

    def array(self, name: str) -> np.ndarray:
        """A plain column."""
        column = self[name]
        if not isinstance(column, np.ndarray):
            raise self._wrong_kind(name, "plain")
        return column

    def ragged(self, name: str) -> Ragged:
        """A ragged column."""
        column = self[name]
        if not isinstance(column, Ragged):
            raise self._wrong_kind(name, "ragged")
        return column

    def strings(self, name: str) -> Strings:
        """A column of strings."""
        column = self[name]
        if not isinstance(column, Strings):
            raise self._wrong_kind(name, "string")
        return column

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def _wrong_kind(self, name: str, kind: str) -> DataError:
        return DataError(f"{self.path}: column {name} is not a {kind} column. {_REMEDY}")

    def _open(self, name: str) -> Column:
        if name in self._header:
            return self._view(name)
        for part, kind in ((".values", Ragged), (".utf8", Strings)):
            if name + part in self._header:
                offsets = self._view(name + ".offsets")
                values = self._view(name + part)
                if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(values):
                    raise DataError(f"{self.path}: the offsets of column {name} do not fit it. {_REMEDY}")
                return kind(values, offsets)
        raise DataError(f"{self.path}: no column {name}.{suggest(name, self.names)}")

    def _view(self, part: str) -> np.ndarray:
        if part not in self._header:
            raise DataError(f"{self.path}: {part} is missing. {_REMEDY}")
        entry = self._header[part]
        start, end = entry["data_offsets"]
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        if start == end:  # nothing can be mapped
            return np.empty(entry["shape"], dtype)
        if self._bytes is None:
            try:
                # As a plain array: each view of a memmap costs microseconds to dress up as one.
                self._bytes = np.asarray(np.memmap(self.path, mode="r", dtype=np.uint8))
            except OSError as error:
                raise explain_os_error(error, self.path) from error
        return self._bytes[self._begin + start : self._begin + end].view(dtype).reshape(entry["shape"])


def _read_header(path: Path) -> tuple[dict[str, Any], int, dict[str, Any]]:
    """Header, the position of the first column, and the metadata, all checked against the file's size."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if size < 8 or not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
                raise DataError(f"{path}: not a columns file, or cut short ({size} bytes). {_REMEDY}")
            text = handle.read(length)
    except OSError as error:
        raise explain_os_error(error, path) from error
    try:
        header = json.loads(text)
        meta = json.loads(header.pop("__metadata__")["meta"])
        spans = sorted(_checked_span(entry) for entry in header.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: its header is damaged ({type(error).__name__}: {error}). {_REMEDY}"
        ) from error
    end = 0
    for start, stop in spans:
        if start != end:
            raise DataError(f"{path}: its header is damaged (a gap at byte {end}). {_REMEDY}")
        end = stop
    if 8 + length + end != size:
        raise DataError(f"{path}: {size} bytes long where its header needs {8 + length + end}. {_REMEDY}")
    return header, 8 + length, meta


def _checked_span(entry: dict[str, Any]) -> tuple[int, int]:
    start, end = (int(value) for value in entry["data_offsets"])
    count = 1
    for extent in entry["shape"]:
        count *= int(extent)
    if start < 0 or end - start != count * np.dtype(_DTYPES[entry["dtype"]]).itemsize:
        raise ValueError(f"shape {entry['shape']} does not fill bytes {start} to {end}")
    return start, end


class _Part:
    """One array of the file while it grows, in its own spill file."""

    def __init__(self, path: Path, dtype: np.dtype, width: tuple[int, ...]) -> None:
        self.path, self.dtype, self.width = path, dtype, width
        self.rows = 0
        self._handle: BinaryIO = open(path, "w+b", buffering=1 << 18)  # noqa: SIM115 (closed by the writer)

    def append(self, values: np.ndarray) -> None:
        self._handle.write(np.ascontiguousarray(values, dtype=self.dtype).tobytes())
        self.rows += len(values)

    def append_bytes(self, values: bytes) -> None:
        self._handle.write(values)
        self.rows += len(values)

    @property
    def size(self) -> int:
        return self.rows * self.dtype.itemsize * int(np.prod(self.width, dtype=np.int64))

    def change(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        self._handle.flush()
        if self.rows:
            mapped = np.memmap(self.path, mode="r+", dtype=self.dtype)
            for begin in range(0, len(mapped), 1 << 20):
                mapped[begin : begin + (1 << 20)] = function(mapped[begin : begin + (1 << 20)])
            mapped.flush()

    def copy_to(self, out: BinaryIO) -> None:
        self._handle.flush()
        self._handle.seek(0)
        shutil.copyfileobj(self._handle, out, _COPY_BYTES)

    def close(self) -> None:
        self._handle.close()


class ColumnsWriter:
    """Writes a columns file chunk by chunk; memory does not grow with the number of rows.

    Use as a context manager: the file appears, whole, when the block ends well. Columns grow
    independently, so that a short one (the names of the images) may stand beside long ones.
    Equal chunks give equal bytes however they were cut.

    Args:
        path: the file to write.
        kinds: column name -> "int32", "int32[2]" (fixed width), "ragged float32" or "strings".
        meta: what is known at the start; `writer.meta` may be changed until the block ends.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """

    def __init__(
        self, path: str | Path, kinds: Mapping[str, str], meta: dict[str, Any] | None = None
    ) -> None:
        self.path = Path(path)
        self.kinds = dict(kinds)
        self.meta: dict[str, Any] = dict(meta or {})
        self._folder = self.path.with_name(f"{self.path.name}.spill-{os.getpid()}")
        self._parts: dict[str, _Part] = {}
        self._totals: dict[str, int] = {}

    def __enter__(self) -> ColumnsWriter:
        make_folder(self.path.parent)
        for leftover in self.path.parent.glob(f"{self.path.name}.spill-*"):  # of a killed attempt
            shutil.rmtree(leftover, ignore_errors=True)
        make_folder(self._folder)
        try:
            for name, kind in self.kinds.items():
                self._open(name, kind)
        except BaseException:
            self._clean()
            raise
        return self

    def _open(self, name: str, kind: str) -> None:
        assert "." not in name, name
        if kind == "strings":
            self._add(f"{name}.utf8", np.dtype(np.uint8))
        else:
            match = _KIND.match(kind)
            assert match, kind
            dtype, width = np.dtype(match["dtype"]), match["width"]
            if not match["ragged"]:
                self._add(name, dtype, (int(width),) if width else ())
                return
            assert width is None, kind
            self._add(f"{name}.values", dtype)
        self._add(f"{name}.offsets", np.dtype(np.int64))
        self._parts[f"{name}.offsets"].append(np.zeros(1, np.int64))
        self._totals[name] = 0

    def _add(self, part: str, dtype: np.dtype, width: tuple[int, ...] = ()) -> None:
        dtype = dtype.newbyteorder("<")
        assert dtype in _NAMES, dtype
        self._parts[part] = _Part(self._folder / f"{len(self._parts)}.bin", dtype, width)

    def append(self, **chunks: Any) -> None:
        """Adds rows to some columns.

        Args:
            chunks: column name -> array [n] or [n, width] (plain), sequence of sequences or the
                pair (values, lengths) (ragged), or sequence of str (strings).
        """
        try:
            for name, chunk in chunks.items():
                self._append(name, chunk)
        except OSError as error:
            raise explain_os_error(error, self._folder) from error

    def _append(self, name: str, chunk: Any) -> None:
        kind = self.kinds[name]
        if kind == "strings":
            encoded = [text.encode("utf-8") for text in chunk]
            self._parts[f"{name}.utf8"].append_bytes(b"".join(encoded))
            self._append_lengths(name, [len(text) for text in encoded])
        elif kind.startswith("ragged "):
            values = self._parts[f"{name}.values"]
            if isinstance(chunk, tuple):
                flat, lengths = chunk
            else:
                flat, lengths = _flatten(chunk, values.dtype), [len(row) for row in chunk]
            values.append(np.asarray(flat))
            self._append_lengths(name, lengths)
        else:
            part = self._parts[name]
            rows = np.asarray(chunk, dtype=part.dtype).reshape(-1, *part.width)
            part.append(rows)

    def _append_lengths(self, name: str, lengths: Sequence[int] | np.ndarray) -> None:
        if len(lengths) == 0:
            return
        ends = np.cumsum(np.asarray(lengths, dtype=np.int64)) + self._totals[name]
        self._parts[f"{name}.offsets"].append(ends)
        self._totals[name] = int(ends[-1])

    def change(self, name: str, function: Callable[[np.ndarray], np.ndarray]) -> None:
        """Replaces the values of a plain column by `function` of them, a piece at a time, flat."""
        self._parts[name].change(function)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._assemble()
        finally:
            self._clean()

    def _assemble(self) -> None:
        # Wide types first keeps every column aligned to its own width; the header is padded to 8.
        ordered = sorted(self._parts.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
        header: dict[str, Any] = {"__metadata__": {"meta": json.dumps(self.meta, sort_keys=True)}}
        position = 0
        for name, part in ordered:
            header[name] = {
                "dtype": _NAMES[part.dtype],
                "shape": [part.rows, *part.width],
                "data_offsets": [position, position + part.size],
            }
            position += part.size
        text = json.dumps(header, separators=(",", ":")).encode("utf-8")
        text += b" " * (-len(text) % 8)
        with atomic_path(self.path) as temporary, open(temporary, "wb") as out:
            out.write(len(text).to_bytes(8, "little"))
            out.write(text)
            for _, part in ordered:
                part.copy_to(out)

    def _clean(self) -> None:
        for part in self._parts.values():
            try:
                part.close()
            except OSError:
                log.debug("closing %s failed after an earlier error", part.path)
        shutil.rmtree(self._folder, ignore_errors=True)


def _flatten(rows: Iterable[Sequence[Any]], dtype: np.dtype) -> np.ndarray:
    return np.fromiter((value for row in rows for value in row), dtype=dtype)
