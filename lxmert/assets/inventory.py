"""What of an asset is on disk, and whether it is what was recorded."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lxmert.assets.asset import Asset, Member
from lxmert.assets.lock import Record, listing_record, names_digest
from lxmert.assets.places import Places
from lxmert.files import sha256_file


@dataclass(frozen=True)
class Slot:
    """One place an asset fills: a file, or a folder of files that fit a pattern."""

    place: str
    path: Path
    member: Member | None = None

    @property
    def is_folder(self) -> bool:
        """Whether many files go there."""
        return bool(self.member and self.member.pattern)

    def is_there(self) -> bool:
        """Whether anything is."""
        return next(self.files(), None) is not None if self.is_folder else self.path.is_file()

    def has_size_of(self, record: Record) -> bool:
        """Whether names and sizes fit the record; quick, bytes are not read."""
        if not self.is_folder:
            return self.path.is_file() and self.path.stat().st_size == record["bytes"]
        entries = ((path.relative_to(self.path).as_posix(), path.stat().st_size) for path in self.files())
        return names_digest(entries) == record.get("names")

    def measure(self) -> Record:
        """The record of what is there; reads every byte."""
        if not self.is_folder:
            return {"bytes": self.path.stat().st_size, "sha256": sha256_file(self.path)}
        return listing_record(
            (path.relative_to(self.path).as_posix(), path.stat().st_size, sha256_file(path))
            for path in self.files()
        )

    def count(self) -> int:
        """How many files a folder holds."""
        return sum(1 for _ in self.files())

    def files(self) -> Iterator[Path]:
        """Files of a folder that fit the pattern, sub-folders included."""
        assert self.member and self.member.pattern
        for folder, _, names in os.walk(self.path, followlinks=True):
            for name in names:
                if fnmatch.fnmatchcase(name, self.member.pattern) and not name.startswith("."):
                    yield Path(folder) / name


def slots(asset: Asset, places: Places, also: Collection[str] = ()) -> list[Slot]:
    """Places an asset fills; of what is left out by default only what is asked for."""
    own = [Slot(asset.place, places.path(asset.place))] if asset.place else []
    members = asset.wanted_members(also)
    return [*own, *(Slot(member.place, places.path(member.place), member) for member in members)]


def state(asset: Asset, places: Places, record: Record | None, also: Collection[str] = ()) -> str:
    """`ready`, `missing`, `partial` (some of it is gone or has another size) or `unrecorded`."""
    return state_of(slots(asset, places, also), record)


def state_of(found: Sequence[Slot], record: Record | None) -> str:
    """The same of some places of an asset."""
    recorded = (record or {}).get("places", {})
    if not unfilled(found, record):
        return "ready"
    if not any(slot.is_there() for slot in found):
        return "missing"
    return "partial" if any(slot.place in recorded for slot in found) else "unrecorded"


def unfilled(found: Iterable[Slot], record: Record | None) -> list[Slot]:
    """Places that do not hold what was recorded of them; quick, bytes are not read."""
    recorded = (record or {}).get("places", {})
    return [slot for slot in found if not (slot.place in recorded and slot.has_size_of(recorded[slot.place]))]


def own_slots(found: Iterable[Slot], record: Record | None) -> list[Slot]:
    """Places that a person filled: something is there, and nobody recorded it."""
    recorded = (record or {}).get("places", {})
    return [slot for slot in found if slot.place not in recorded and slot.is_there()]


@dataclass(frozen=True)
class Finding:
    """What verifying found at one place: `ok`, `missing`, `changed` or `unrecorded`."""

    asset: str
    place: str
    path: Path
    verdict: str


def verify(asset: Asset, places: Places, record: Record | None) -> Iterator[Finding]:
    """Reads what is on disk of an asset, byte by byte, against catalogue and record."""
    recorded = (record or {}).get("places", {})
    for slot in slots(asset, places, asset.everything):
        known = recorded.get(slot.place)
        if asset.sha256 and slot.place == asset.place:
            known = {"bytes": asset.bytes, "sha256": asset.sha256}
        yield Finding(asset.id, slot.place, slot.path, _verdict(slot, known))


def _verdict(slot: Slot, known: Record | None) -> str:
    if not slot.is_there():
        return "missing"
    if known is None:
        return "unrecorded"
    return "ok" if slot.measure()["sha256"] == known["sha256"] else "changed"
