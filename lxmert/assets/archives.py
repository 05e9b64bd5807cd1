"""Unpacking archives nobody vouches for: wanted members by base name, into a staging folder, or an error.

A member's stored folder is never used as a path. Whatever an honest archive would not hold (absolute
paths, `..`, links, devices, one name twice, members that overlap or unpack to far more than their share)
makes the whole archive refused, wanted or not.
"""

from __future__ import annotations

import fnmatch
import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lxmert.assets.answers import BadContent
from lxmert.assets.asset import Member
from lxmert.assets.entries import CHUNK_BYTES, Entry, refuse_path, shortened
from lxmert.assets.tars import tar_entries
from lxmert.assets.zips import zip_entries

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
            raise BadContent(f"holds {shortened(name)} twice")
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
    entries = zip_entries if kind == "zip" else tar_entries
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
    entry: Entry,
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


def _read(entry: Entry) -> Iterator[bytes]:
    left = entry.size
    with entry.open() as handle:
        while chunk := handle.read(CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise BadContent(
                    f"unpacks {shortened(entry.name)} to more than the {entry.size} bytes it declares"
                )
            yield chunk
    if left:
        raise BadContent(f"ends {left} bytes before the end of {shortened(entry.name)}")


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
