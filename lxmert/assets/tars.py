"""The members of a tar, plain or gzip, in the order of its bytes, none of them trusted."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lxmert.assets.answers import BadContent
from lxmert.assets.entries import CHUNK_BYTES, Entry, refuse_path, refuse_ratio, shortened

# CHUNK_BYTES is also the longest tar header: tarfile holds headers in memory, and no honest one is longer.


class _Guarded:
    """A decompressed tar as tarfile reads it: counts what comes out, and refuses endless headers."""

    def __init__(self, stream: IO[bytes], packed_bytes: int) -> None:
        self._stream, self._packed = stream, packed_bytes
        self._position = 0
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > CHUNK_BYTES:
            raise BadContent(f"holds a header of {size} bytes, as no honest tar does")
        self.last = data = self._stream.read(size)
        self._position += len(data)
        refuse_ratio(self._position, self._packed, "its members")
        return data

    def tell(self) -> int:
        return self._position

    def seek(self, target: int) -> int:
        if target < self._position:
            raise BadContent("is a tar archive that points backwards")
        while self._position < target:
            if not self.read(min(CHUNK_BYTES, target - self._position)):
                break
        return self._position


def tar_entries(path: Path) -> Iterator[Entry]:
    """The files of a tar.

    Raises:
        BadContent: a member, wanted or not, is what no honest tar holds, or the end is missing.
        tarfile.TarError: it is no tar.
    """
    packed = path.stat().st_size
    with _decompressed(path) as stream:
        guarded = _Guarded(stream, packed)
        with tarfile.open(fileobj=guarded, mode="r:", errorlevel=2) as archive:  # type: ignore[call-overload]
            while (info := archive.next()) is not None:
                archive.members = []  # tarfile keeps every header otherwise
                _refuse_tar_entry(info)
                if info.isreg():
                    yield Entry(info.name, info.size, lambda info=info: _opened(archive, info))  # type: ignore[misc]
        _refuse_open_end(guarded)


def _refuse_open_end(guarded: _Guarded) -> None:
    """Zeros end a tar; tarfile also stops, in silence, at a damaged header or where the file is cut."""
    zeros = bool(guarded.last) and not guarded.last.strip(b"\0")
    while rest := guarded.read(CHUNK_BYTES):  # to the end, where gzip's checksum stands
        zeros = zeros and not rest.strip(b"\0")
    if not zeros:
        raise BadContent("is a broken tar archive (damaged or cut between two members)")


def _opened(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Any:
    return archive.extractfile(info)


def _refuse_tar_entry(info: tarfile.TarInfo) -> None:
    refuse_path(info.name)
    if info.issym() or info.islnk():
        raise BadContent(f"holds the link {shortened(info.name)}")
    if not (info.isreg() or info.isdir()) or info.issparse():
        raise BadContent(f"holds the special file {shortened(info.name)}")


def _decompressed(path: Path) -> IO[bytes]:
    with open(path, "rb") as handle:
        head = handle.read(2)
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(path)  # type: ignore[return-value]
    return open(path, "rb")
