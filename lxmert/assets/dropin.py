"""Files that a person brings: recognised, proved like a download, put in place and recorded."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from lxmert.assets import archives
from lxmert.assets.accepting import Accepted, accept, install, move, staging_folder
from lxmert.assets.answers import BadContent
from lxmert.assets.asset import Asset
from lxmert.assets.catalogue import Catalogue
from lxmert.assets.deriving import derive, write_derived
from lxmert.assets.fetch import announce, guard_file, refuse_gate
from lxmert.assets.inventory import Slot, slots
from lxmert.assets.lock import Lock, Record
from lxmert.assets.pieces import join_parts
from lxmert.assets.places import Places, Settings, alone
from lxmert.assets.structure import check_structure, format_of
from lxmert.errors import DownloadError
from lxmert.files import atomic_path, make_folder, sha256_file

log = logging.getLogger(__name__)

_ARCHIVE_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b")


def add(
    paths: Sequence[Path],
    catalogue: Catalogue,
    places: Places,
    settings: Settings,
    name: str | None = None,
    link: bool = False,
    also: Collection[str] = (),
    everything: bool = False,
) -> list[Path]:
    """Puts what a person brings in place, after the same proofs as a download.

    Args:
        paths: one file or folder, or all pieces of a split archive.
        catalogue: what is known.
        places: where it goes.
        settings: what the user accepted.
        name: the asset; recognised by the file's name if left out.
        link: link to a file or folder instead of copying it.
        also: places that an archive fills though they are left out by default.
        everything: an archive fills all of its places.

    Returns:
        Files and folders that are in place now.

    Raises:
        DownloadError: nothing fits, several do, the content is wrong, or terms were not accepted.
        SpecError: there is no asset of that name.
    """
    for path in paths:
        if not path.exists():
            raise DownloadError(f"{path}: no such file. Check the path.")
    asset = catalogue[name] if name else recognise(paths, catalogue, places)
    refuse_gate(asset, settings)
    announce(asset)
    with alone(guard_file(places, asset), asset.id):
        try:
            wanted = slots(asset, places, asset.everything if everything else also)
            added = _add(paths, asset, places, wanted, link)
        except BadContent as error:
            shown = ", ".join(map(str, paths))
            raise DownloadError(f"{shown}: not added as {asset.id}: {error}. Bring another copy.") from error
        finally:
            shutil.rmtree(staging_folder(places, asset), ignore_errors=True)
        derive(asset, places)
    return added


def recognise(paths: Sequence[Path], catalogue: Catalogue, places: Places) -> Asset:
    """The asset that files of these names belong to.

    Raises:
        DownloadError: none or several; the message names those there are.
    """
    path = paths[0].resolve()
    for asset in catalogue.assets.values():  # in its place already: no doubt about it
        if any(slot.path.resolve() == path for slot in slots(asset, places, asset.everything)):
            return asset
    stem = path.name if len(paths) == 1 else path.name.rpartition(".")[0]
    found = [asset for asset in catalogue.assets.values() if stem in _names(asset)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(asset.id for asset in found)
        raise DownloadError(f"{paths[0]}: may be any of {ids}. Say which one with --id.")
    raise DownloadError(
        f"{paths[0]}: no asset has a file of this name. Say which one it is with --id;"
        " python -m lxmert assets list shows them all."
    )


def _names(asset: Asset) -> set[str]:
    files = [asset.file, *asset.accepts, *asset.places()]
    members = {member.name for member in asset.members if member.name}
    return members | {PurePosixPath(file).name for file in files}


def _add(paths: Sequence[Path], asset: Asset, places: Places, wanted: list[Slot], link: bool) -> list[Path]:
    lock = Lock(places.lock_file)
    record = lock.record(asset.id) or {}
    if len(paths) > 1:
        joined = make_folder(places.downloads) / f".joined-{asset.id}"
        try:
            join_parts(list(paths), joined)
            return _add_download(joined, asset.file, asset, places, wanted, record, link=False)
        finally:
            joined.unlink(missing_ok=True)
    path = paths[0]
    if path.is_dir():
        return _add_folder(path, asset, places, record, link)
    for entry in asset.derived:
        if path.name == PurePosixPath(entry["place"]).name:
            target = places.path(entry["place"])
            write_derived(entry["by"], path, target)
            return [target]
    if asset.is_archive and not _is_archive(path):
        return _add_member(path, asset, places, record, link)
    name = next((other for other in asset.accepts if PurePosixPath(other).name == path.name), asset.file)
    return _add_download(path, name, asset, places, wanted, record, link)


def _is_archive(path: Path) -> bool:
    with open(path, "rb") as handle:
        head = handle.read(265)
    return head.startswith(_ARCHIVE_MAGIC) or head[257:262] == b"ustar"


def _add_download(
    path: Path, name: str, asset: Asset, places: Places, wanted: list[Slot], record: Record, link: bool
) -> list[Path]:
    accepted = accept(asset, path, record, wanted, places, name=name)
    if not asset.is_archive:
        _place_file(path, wanted[0].path, link)
    _record(asset, accepted, path, places)
    install(accepted, wanted, places)
    return [slot.path for slot in wanted]


def _add_member(path: Path, asset: Asset, places: Places, record: Record, link: bool) -> list[Path]:
    # Whoever brings a file that is left out by default wants it.
    files = [slot for slot in slots(asset, places, asset.everything) if not slot.is_folder]
    fitting = [slot for slot in files if slot.member and path.name in (slot.member.name, slot.path.name)]
    if len(files) == 1:
        fitting = files
    if len(fitting) != 1:
        known = ", ".join(str(slot.member.name) for slot in files if slot.member) or "a folder of files"
        raise BadContent(f"is no archive and none of its files by name ({known})")
    slot = fitting[0]
    check_structure(path, format_of(slot.path.name))
    entry = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    _refuse_other(asset, slot, entry, record, places)
    _place_file(path, slot.path, link)
    Lock(places.lock_file).add(asset.id, None, _origin(path), {slot.place: entry})
    return [slot.path]


def _add_folder(path: Path, asset: Asset, places: Places, record: Record, link: bool) -> list[Path]:
    folders = [slot for slot in slots(asset, places, asset.everything) if slot.is_folder]
    fitting = [slot for slot in folders if slot.path.name == path.name] or folders
    if len(fitting) != 1:
        raise BadContent("is a folder, and this asset does not fill exactly one")
    slot = fitting[0]
    assert slot.member is not None
    brought = Slot(slot.place, path, slot.member)
    archives.refuse_count(slot.member, brought.count())
    if not brought.is_there():
        raise BadContent(f"holds no file {slot.member.pattern}")
    entry = brought.measure()
    _refuse_other(asset, slot, entry, record, places)
    _place_folder(brought, slot, places.downloads / f".unpacking-{asset.id}", link)
    Lock(places.lock_file).add(asset.id, None, _origin(path), {slot.place: entry})
    return [slot.path]


def _refuse_other(asset: Asset, slot: Slot, entry: Record, record: Record, places: Places) -> None:
    old = record.get("places", {}).get(slot.place)
    Lock(places.lock_file).refuse_change(asset.id, slot.place, old, entry)


def _record(asset: Asset, accepted: Accepted, path: Path, places: Places) -> None:
    Lock(places.lock_file).add(asset.id, accepted.file, _origin(path), accepted.places)


def _origin(path: Path) -> str:
    return f"brought by hand ({path.name})"


def _place_file(source: Path, target: Path, link: bool) -> None:
    if target.exists() and source.resolve() == target.resolve():
        return
    make_folder(target.parent)
    if link:
        _link(source, target)
        return
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _place_folder(brought: Slot, slot: Slot, staging: Path, link: bool) -> None:
    if slot.path.exists() and brought.path.resolve() == slot.path.resolve():
        return
    if link:
        if slot.path.exists() and not slot.path.is_symlink():
            raise DownloadError(f"{slot.path}: is there already. Move it away, or add without --link.")
        make_folder(slot.path.parent)
        _link(brought.path, slot.path)
        return
    for source in brought.files():
        relative = source.relative_to(brought.path)
        copy = make_folder((staging / relative).parent) / source.name
        shutil.copyfile(source, copy)
        move(copy, slot.path / relative)


def _link(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.link-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(source.resolve())
    os.replace(temporary, target)
