"""Unpacking archives nobody vouches for: wanted members by base name, into a staging folder, or an error.

A member's stored folder is never used as a path. Whatever an honest archive would not hold (absolute
paths, `..`, links, devices, one name twice, members that overlap or unpack to far more than their share)
makes the whole archive refused, wanted or not.
"""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from lxmert.assets.catalogue import Member
from lxmert.assets.structure import BadContent

# JSON of the catalogue shrinks to a twentieth; deflate can reach a thousandth, which only bombs do.
MAX_RATIO = 200
_RATIO_GRACE_BYTES = 16 << 20
# Also the longest tar header: tarfile holds headers in memory, and no honest one is longer.
_CHUNK = 1 << 20
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,  # an encrypted member
)


@dataclass(frozen=True)
class Unpacked:
    """One member in the staging folder: of which wanted one, its path below that one's place, its bytes."""

    member: Member
    relative: str
    staged: Path
    bytes: int
    sha256: str


@dataclass
class _Entry:
    name: str
    size: int
    open: Callable[[], IO[bytes]]


@dataclass
class _Judge:
    """Decides about one name after the other."""

    wanted: list[Member]
    limit_bytes: int | None
    names: set[str] = field(default_factory=set)
    targets: set[tuple[str, str]] = field(default_factory=set)
    total: int = 0

    def member(self, name: str, size: int) -> tuple[Member, str] | None:
        """The wanted member a stored name stands for and its path below the place; None if unwanted."""
        refuse_path(name)
        if name in self.names:
            raise BadContent(f"holds {_short(name)} twice")
        self.names.add(name)
        path = PurePosixPath(name)
        if path.name.startswith(".") or "__MACOSX" in path.parts:
            return None
        for member in self.wanted:
            if member.name == path.name or (
                member.pattern and fnmatch.fnmatchcase(path.name, member.pattern)
            ):
                return self._take(member, path, size)
        return None

    def _take(self, member: Member, path: PurePosixPath, size: int) -> tuple[Member, str]:
        folders = path.parent.parts[-member.keep_folders :] if member.keep_folders else ()
        relative = "/".join((*folders, path.name))
        if (member.place, relative) in self.targets:
            raise BadContent(f"holds {relative} in two folders, and both are wanted as {member.place}")
        self.targets.add((member.place, relative))
        self.total += size
        if self.limit_bytes is not None and self.total > self.limit_bytes:
            raise BadContent(
                f"unpacks to more than {self.limit_bytes} bytes, more than this archive ever held"
            )
        return member, relative


def refuse_path(name: str) -> None:
    """Raises BadContent if a stored path leaves the folder it is unpacked to."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or (len(name) > 1 and name[1] == ":"):
        raise BadContent(f"holds the absolute path {_short(name)}")
    if ".." in parts:
        raise BadContent(f"holds the path {_short(name)}, which leaves its folder")
    if any(ord(letter) < 32 for letter in name):
        raise BadContent(f"holds the unprintable name {_short(name)}")


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:77]}...")


def unpack(
    path: Path,
    kind: str,
    wanted: Iterable[Member],
    staging: Path,
    limit_bytes: int | None = None,
    deep: bool = True,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Unpacked]:
    """Wanted members, each whole and with the archive's own checksum proved, in a staging folder.

    Args:
        path: the archive.
        kind: "zip" or "tar" (plain or gzip).
        wanted: members to unpack; all must be there.
        staging: an empty folder on the disk where the files will stay.
        limit_bytes: refuse to unpack more than this.
        deep: read unwanted members too, so that a broken archive is noticed as a whole.
        advance: called with the number of unpacked bytes.

    Raises:
        BadContent: the archive is broken, hostile, or lacks a wanted member.
        OSError: the staging folder cannot be written.
    """
    judge = _Judge(list(wanted), limit_bytes)
    entries = _zip_entries if kind == "zip" else _tar_entries
    unpacked: list[Unpacked] = []
    try:
        for entry in entries(path):
            found = judge.member(entry.name, entry.size)
            if found is None:
                if deep:
                    for _ in _read(entry):
                        pass
                continue
            unpacked.append(_stage(entry, *found, staging, len(unpacked), advance))
    except _StagingError as error:
        raise error.cause from error
    except _BROKEN as error:
        raise BadContent(f"is a broken {kind} archive ({' '.join(str(error).split())})") from error
    _refuse_missing(judge.wanted, unpacked)
    return unpacked


class _StagingError(Exception):
    """Writing failed, which says nothing about the archive."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _stage(
    entry: _Entry,
    member: Member,
    relative: str,
    staging: Path,
    number: int,
    advance: Callable[[int], None],
) -> Unpacked:
    # Numbered, so that no stored name ever meets the file system before all is checked.
    staged = staging / f"{number:07d}"
    digest, size = hashlib.sha256(), 0
    try:
        handle = open(staged, "wb")  # noqa: SIM115 (its errors must be told from the archive's)
    except OSError as error:
        raise _StagingError(error) from error
    with handle:
        for chunk in _read(entry):
            digest.update(chunk)
            size += len(chunk)
            advance(len(chunk))
            try:
                handle.write(chunk)
            except OSError as error:
                raise _StagingError(error) from error
    return Unpacked(member, relative, staged, size, digest.hexdigest())


def _read(entry: _Entry) -> Iterator[bytes]:
    left = entry.size
    with entry.open() as handle:
        while chunk := handle.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise BadContent(
                    f"unpacks {_short(entry.name)} to more than the {entry.size} bytes it declares"
                )
            yield chunk
    if left:
        raise BadContent(f"ends {left} bytes before the end of {_short(entry.name)}")


def _refuse_missing(wanted: list[Member], unpacked: list[Unpacked]) -> None:
    counts: dict[str, int] = {}
    for item in unpacked:
        counts[item.member.place] = counts.get(item.member.place, 0) + 1
    for member in wanted:
        found = counts.get(member.place, 0)
        if not found:
            raise BadContent(f"holds no {member.name or member.pattern}")
        refuse_count(member, found)


def refuse_count(member: Member, found: int) -> None:
    """Raises BadContent if a folder of files is far from the publisher's count."""
    if member.files and abs(found - member.files) > member.files // 100:
        raise BadContent(f"holds {found} files {member.pattern}, not {member.files}")


# Zip


def _zip_entries(path: Path) -> Iterator[_Entry]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _refuse_overlap(entries, archive.start_dir)
        names: set[str] = set()
        for entry in entries:
            _refuse_zip_entry(entry)
            if entry.filename in names:
                raise BadContent(f"holds {_short(entry.filename)} twice")
            names.add(entry.filename)
        for entry in entries:
            if not entry.is_dir():
                yield _Entry(entry.filename, entry.file_size, lambda entry=entry: archive.open(entry))  # type: ignore[misc]


def _refuse_zip_entry(entry: zipfile.ZipInfo) -> None:
    # The name as stored: ZipInfo cuts it at a zero byte.
    refuse_path(entry.orig_filename)
    mode = entry.external_attr >> 16
    if entry.create_system == 3 and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "the link" if stat.S_ISLNK(mode) else "the special file"
        raise BadContent(f"holds {what} {_short(entry.filename)}")
    if entry.flag_bits & 0x1:
        raise BadContent(f"holds {_short(entry.filename)} encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadContent(f"holds {_short(entry.filename)} in compression {entry.compress_type}, not deflate")
    _refuse_ratio(entry.file_size, entry.compress_size, entry.filename)


def _refuse_overlap(entries: list[zipfile.ZipInfo], end: int) -> None:
    """Members must lie one after the other: sharing bytes is how small archives get huge."""
    for entry in sorted(entries, key=lambda entry: entry.header_offset, reverse=True):
        if entry.header_offset + 30 + entry.compress_size > end:
            raise BadContent(f"holds members that overlap at {_short(entry.filename)}")
        end = entry.header_offset


def _refuse_ratio(unpacked: int, packed: int, name: str) -> None:
    if unpacked > _RATIO_GRACE_BYTES and unpacked > MAX_RATIO * max(packed, 1):
        raise BadContent(f"unpacks {_short(name)} from {packed} to {unpacked} bytes, as only bombs do")


# Tar


class _Guarded:
    """A decompressed tar as tarfile reads it: counts what comes out, and refuses endless headers."""

    def __init__(self, stream: IO[bytes], packed_bytes: int) -> None:
        self._stream, self._packed = stream, packed_bytes
        self._position = 0
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _CHUNK:
            raise BadContent(f"holds a header of {size} bytes, as no honest tar does")
        self.last = data = self._stream.read(size)
        self._position += len(data)
        _refuse_ratio(self._position, self._packed, "its members")
        return data

    def tell(self) -> int:
        return self._position

    def seek(self, target: int) -> int:
        if target < self._position:
            raise BadContent("is a tar archive that points backwards")
        while self._position < target:
            if not self.read(min(_CHUNK, target - self._position)):
                break
        return self._position


def _tar_entries(path: Path) -> Iterator[_Entry]:
    packed = path.stat().st_size
    with _decompressed(path) as stream:
        guarded = _Guarded(stream, packed)
        with tarfile.open(fileobj=guarded, mode="r:", errorlevel=2) as archive:  # type: ignore[call-overload]
            while (info := archive.next()) is not None:
                archive.members = []  # tarfile keeps every header otherwise
                _refuse_tar_entry(info)
                if info.isreg():
                    yield _Entry(info.name, info.size, lambda info=info: _opened(archive, info))  # type: ignore[misc]
        _refuse_open_end(guarded)


def _refuse_open_end(guarded: _Guarded) -> None:
    """Zeros end a tar; tarfile also stops, in silence, at a damaged header or where the file is cut."""
    zeros = bool(guarded.last) and not guarded.last.strip(b"\0")
    while rest := guarded.read(_CHUNK):  # to the end, where gzip's checksum stands
        zeros = zeros and not rest.strip(b"\0")
    if not zeros:
        raise BadContent("is a broken tar archive (damaged or cut between two members)")


def _opened(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Any:
    return archive.extractfile(info)


def _refuse_tar_entry(info: tarfile.TarInfo) -> None:
    refuse_path(info.name)
    if info.issym() or info.islnk():
        raise BadContent(f"holds the link {_short(info.name)}")
    if not (info.isreg() or info.isdir()) or info.issparse():
        raise BadContent(f"holds the special file {_short(info.name)}")


def _decompressed(path: Path) -> IO[bytes]:
    with open(path, "rb") as handle:
        head = handle.read(2)
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(path)  # type: ignore[return-value]
    return open(path, "rb")


# Split archives


def join_parts(parts: Iterable[Path], out: Path) -> None:
    """Pieces of GNU split (`x.zip.aa`, `x.zip.ab`, ...) as one file, in the order of their bytes.

    Raises:
        BadContent: a piece is missing or not one of the same file.
    """
    ordered = sorted(parts, key=lambda path: path.name.encode())
    refuse_gaps([path.name for path in ordered])
    with open(out, "wb") as target:
        for part in ordered:
            with open(part, "rb") as source:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)


def refuse_gaps(names: list[str]) -> None:
    """Raises BadContent unless sorted names are consecutive pieces of one file."""
    stems = {name.rpartition(".")[0] for name in names}
    if len(stems) != 1:
        raise BadContent(f"pieces are of different files: {', '.join(sorted(stems))}")
    suffixes = [name.rpartition(".")[2] for name in names]
    first = suffixes[0]
    numbers = [_number(suffix) for suffix in suffixes]
    # Numbered pieces may begin with 1, lettered ones begin with a.
    begin = 1 if first.isdigit() and numbers[0] == 1 else 0
    expected = list(range(begin, begin + len(numbers)))
    if len({len(suffix) for suffix in suffixes}) != 1 or numbers != expected:
        raise BadContent(f"pieces from .{first} to .{suffixes[-1]} have a gap: {len(suffixes)} are there")


def _number(suffix: str) -> int:
    """Place of a piece in its series: `aa`, `00` are 0."""
    if suffix.isdigit():
        return int(suffix)
    number = 0
    for letter in suffix.encode():
        number = number * 26 + letter - ord("a")
    return number
