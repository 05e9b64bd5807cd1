"""The proof that a file is what it should be, and the final names that only proved files get."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lxmert.assets import archives
from lxmert.assets.answers import BadContent
from lxmert.assets.asset import Asset
from lxmert.assets.inventory import Slot
from lxmert.assets.lock import Lock, Record, listing_record
from lxmert.assets.meter import Counter
from lxmert.assets.part import Expected
from lxmert.assets.places import Places
from lxmert.assets.structure import (
    SHOWS_FOREIGN_BYTES,
    SHOWS_TRUNCATION,
    check_structure,
    format_of,
)
from lxmert.errors import DataError
from lxmert.files import atomic_path, explain_os_error, make_folder, sha256_file
from lxmert.progress import Progress

# A file so many times larger or smaller than the publisher says is another one.
SIZE_FACTOR = 8
_SIZE_GRACE_BYTES = 64 << 20
_FLUSHED_ONE_BY_ONE = 64


@dataclass
class Accepted:
    """A download that is proved right: its own record, those of its places, and its unpacked members."""

    file: Record
    places: dict[str, Record]
    unpacked: list[archives.Unpacked] = field(default_factory=list)


def expectation(asset: Asset, record: Record | None) -> Expected:
    """What is known of a download, from the catalogue or from an earlier fetch."""
    known = (record or {}).get("file", {})
    if known.get("name") != asset.file:
        known = {}
    size = asset.bytes or known.get("bytes")
    about = None if size else asset.about_bytes
    return Expected(
        name=asset.file,
        bytes=size,
        sha256=asset.sha256 or known.get("sha256"),
        least_bytes=None if about is None else about // SIZE_FACTOR,
        limit_bytes=None if about is None else SIZE_FACTOR * about + _SIZE_GRACE_BYTES,
        shows_truncation=asset.format in SHOWS_TRUNCATION,
        shows_foreign_bytes=asset.format in SHOWS_FOREIGN_BYTES,
    )


def accept(
    asset: Asset,
    path: Path,
    record: Record,
    wanted: list[Slot],
    places: Places,
    stopped: Callable[[], bool] = lambda: False,
    name: str | None = None,
) -> Accepted:
    """The proof that a file is the asset's, with its members unpacked in the staging folder.

    Args:
        asset: what it should be.
        path: the file.
        record: what the lock file knows of the asset.
        wanted: places to fill.
        places: where things lie.
        stopped: polled while unpacking.
        name: what the file is recorded as; the asset's own file by default.

    Raises:
        BadContent: it is something else, or not what was recorded at first.
        DataError: the disk is full or cannot be written.
        Interrupted: `stopped` said so.
    """
    lock = Lock(places.lock_file)
    name = name or asset.file
    size, sha256 = path.stat().st_size, sha256_file(path)
    known = record.get("file", {}) if record.get("file", {}).get("name") == name else {}
    vouched = name == asset.file and sha256 in (asset.sha256, known.get("sha256"))
    if not vouched:
        check_structure(path, asset.format)
    if name == asset.file:
        expectation(asset, None).refuse_size(size)
        if asset.sha256 not in (None, sha256):
            raise BadContent(f"has sha256 {sha256[:16]}… instead of {asset.sha256[:16]}…")
    if known and known["sha256"] != sha256:
        raise BadContent(lock.change(asset.id, name, known, sha256))
    file = {"name": name, "bytes": size, "sha256": sha256}
    if not asset.is_archive:
        return Accepted(file, {str(asset.place): {"bytes": size, "sha256": sha256}})
    unpacked = _unpack(asset, path, wanted, places, not vouched, stopped)
    found = {slot.place: _place_record(slot, unpacked) for slot in wanted}
    for place, entry in found.items():
        old = record.get("places", {}).get(place)
        if old and old["sha256"] != entry["sha256"]:
            raise BadContent(lock.change(asset.id, place, old, entry["sha256"]))
    return Accepted(file, found, unpacked)


def _unpack(
    asset: Asset,
    path: Path,
    wanted: list[Slot],
    places: Places,
    deep: bool,
    stopped: Callable[[], bool],
) -> list[archives.Unpacked]:
    staging = staging_folder(places, asset)
    shutil.rmtree(staging, ignore_errors=True)
    make_folder(staging)
    members = [slot.member for slot in wanted if slot.member]
    about = asset.unpacked_bytes_of(members)
    limit = SIZE_FACTOR * about + _SIZE_GRACE_BYTES if about else None
    progress = Progress(None, "MB", f"unpack {asset.id}")
    meter = Counter(progress, stopped, asset.id)
    try:
        unpacked = archives.unpack(path, asset.format, members, staging, limit, deep, meter.advance)
        for item in unpacked:
            kind = format_of(item.relative)
            if kind != "binary":
                _check_member(item, kind)
        return unpacked
    except OSError as error:
        raise explain_os_error(error, staging) from error
    finally:
        progress.close()


def _check_member(item: archives.Unpacked, kind: str) -> None:
    try:
        check_structure(item.staged, kind)
    except BadContent as error:
        raise BadContent(f"holds {item.relative}, which {error}") from error


def _place_record(slot: Slot, unpacked: list[archives.Unpacked]) -> Record:
    mine = [item for item in unpacked if item.member.place == slot.place]
    if slot.is_folder:
        return listing_record((item.relative, item.bytes, item.sha256) for item in mine)
    return {"bytes": mine[0].bytes, "sha256": mine[0].sha256}


def install(accepted: Accepted, wanted: list[Slot], places: Places) -> None:
    """Gives unpacked members their final names; their record is written already.

    Raises:
        DataError: a folder holds further files that look like the asset's.
    """
    paths = {slot.place: slot.path for slot in wanted}
    folders = {slot.place for slot in wanted if slot.is_folder}
    _flush([item.staged for item in accepted.unpacked])
    for item in accepted.unpacked:
        target = paths[item.member.place]
        move(item.staged, target / item.relative if item.member.place in folders else target)
    for slot in wanted:
        if slot.is_folder and accepted.unpacked:
            _refuse_strangers(slot, {item.relative for item in accepted.unpacked}, places)


def _refuse_strangers(slot: Slot, known: set[str], places: Places) -> None:
    """Files that nobody fetched would be taken for the asset's, and make it look incomplete for ever."""
    strangers = [path for path in slot.files() if path.relative_to(slot.path).as_posix() not in known]
    if strangers:
        raise DataError(
            f"{places.shown(slot.path)}: holds {len(strangers)} files that the archive does not, first"
            f" {min(strangers).name}. Move them away, then run the same command again."
        )


def _flush(paths: list[Path]) -> None:
    """Brings files to the disk; one by one that takes minutes for a hundred thousand images."""
    if len(paths) > _FLUSHED_ONE_BY_ONE:
        os.sync()
        return
    for path in paths:
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())


def move(source: Path, target: Path) -> None:
    """Renames a file, whole or not at all, also across disks."""
    make_folder(target.parent)
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise explain_os_error(error, target) from error
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
        source.unlink()


def staging_folder(places: Places, asset: Asset) -> Path:
    """Where members lie until all of them are proved right."""
    return places.downloads / f".unpacking-{asset.id}"
