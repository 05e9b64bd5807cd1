"""The members of a zip, in the order of its directory, none of them trusted."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

from lxmert.assets.answers import BadContent
from lxmert.assets.entries import Entry, refuse_path, refuse_ratio, shortened


def zip_entries(path: Path) -> Iterator[Entry]:
    """The files of a zip.

    Raises:
        BadContent: a member, wanted or not, is what no honest zip holds.
        zipfile.BadZipFile: it is no whole zip.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _refuse_overlap(entries, archive.start_dir)
        names: set[str] = set()
        for entry in entries:
            _refuse_zip_entry(entry)
            if entry.filename in names:
                raise BadContent(f"holds {shortened(entry.filename)} twice")
            names.add(entry.filename)
        for entry in entries:
            if not entry.is_dir():
                yield Entry(entry.filename, entry.file_size, lambda entry=entry: archive.open(entry))  # type: ignore[misc]


def _refuse_zip_entry(entry: zipfile.ZipInfo) -> None:
    # The name as stored: ZipInfo cuts it at a zero byte.
    refuse_path(entry.orig_filename)
    mode = entry.external_attr >> 16
    if entry.create_system == 3 and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "the link" if stat.S_ISLNK(mode) else "the special file"
        raise BadContent(f"holds {what} {shortened(entry.filename)}")
    if entry.flag_bits & 0x1:
        raise BadContent(f"holds {shortened(entry.filename)} encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadContent(
            f"holds {shortened(entry.filename)} in compression {entry.compress_type}, not deflate"
        )
    refuse_ratio(entry.file_size, entry.compress_size, entry.filename)


def _refuse_overlap(entries: list[zipfile.ZipInfo], end: int) -> None:
    """Members must lie one after the other: sharing bytes is how small archives get huge."""
    for entry in sorted(entries, key=lambda entry: entry.header_offset, reverse=True):
        if entry.header_offset + 30 + entry.compress_size > end:
            raise BadContent(f"holds members that overlap at {shortened(entry.filename)}")
        end = entry.header_offset
