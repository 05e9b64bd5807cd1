"""Fetching an asset: mirror after mirror, until one gives bytes that are proved right.

Nothing gets its final name before its size, checksum and structure are proved and recorded:

    mirror -> <name>.part -> checks -> archives: staging folder -> data/assets.lock.json -> final names

Whatever moment the process dies, running again goes on from what is there.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import urlsplit

from lxmert.assets.accepting import Accepted, accept, expectation, install, move, staging_folder
from lxmert.assets.answers import BadContent
from lxmert.assets.asset import Asset
from lxmert.assets.deriving import derive
from lxmert.assets.inventory import Slot, own_slots, slots, state_of, unfilled
from lxmert.assets.lock import Lock, Record
from lxmert.assets.meter import Meter, gigabytes
from lxmert.assets.mirrors import Source, hint, sources
from lxmert.assets.part import Expected, Part
from lxmert.assets.pieces import join_parts, refuse_gaps
from lxmert.assets.places import Places, Settings, alone
from lxmert.assets.transfer import MirrorFailure, Patience, Transfer
from lxmert.errors import DataError, DownloadError, Interrupted
from lxmert.files import make_folder, sha256_file

log = logging.getLogger(__name__)


def fetch(
    asset: Asset,
    places: Places,
    settings: Settings,
    patience: Patience | None = None,
    stopped: Callable[[], bool] = lambda: False,
    also: Collection[str] = (),
    sleep: Callable[[float], None] | None = None,
    keep_own: bool = False,
) -> list[Path]:
    """Brings an asset to its places; asks nobody if it is there and recorded.

    Args:
        asset: what to fetch.
        places: where it goes.
        settings: what the user decided.
        patience: how long mirrors are borne with.
        stopped: polled between bytes; True stops, keeping what came.
        also: places that are left out by default and wanted all the same.
        sleep: waits between attempts, if not the clock.
        keep_own: take what a person put in a place as it is, and fetch what else is missing.

    Returns:
        The files and folders of the asset.

    Raises:
        DownloadError: no mirror gave it, its terms were not accepted, or it differs from its record.
        DataError: the disk is full or cannot be written.
        Interrupted: `stopped` said so.
    """
    with alone(guard_file(places, asset), asset.id):
        job = _Fetch(asset, places, settings, patience or Patience(), stopped, also, sleep)
        if keep_own:
            job.leave_own()
        job.run()
    return [slot.path for slot in slots(asset, places, also)]


class _Fetch:
    """One asset on its way; only made while nobody else is at the same one."""

    def __init__(
        self,
        asset: Asset,
        places: Places,
        settings: Settings,
        patience: Patience,
        stopped: Callable[[], bool],
        also: Collection[str],
        sleep: Callable[[float], None] | None,
    ) -> None:
        self.asset, self.places, self.settings, self.patience = asset, places, settings, patience
        self.stopped, self.sleep = stopped, sleep or self._doze
        self.slots = slots(asset, places, also)
        self.final = places.download(asset)
        self.lock = Lock(places.lock_file)
        self.part = Part(self.final)
        self.failures: list[str] = []

    def leave_own(self) -> None:
        """Takes what a person put in a place as it is: it is neither fetched nor overwritten."""
        record = self.lock.record(self.asset.id)
        self._refuse_replaced(record or {})
        own = own_slots(self.slots, record)
        for slot in own:
            log.info("%s: %s is yours and is used as it is", self.asset.id, self.places.shown(slot.path))
            if self._differs(slot):
                log.warning(
                    "%s: %s is not the published file: its checksum differs",
                    self.asset.id,
                    self.places.shown(slot.path),
                )
        self.slots = [slot for slot in self.slots if slot not in own]

    def _refuse_replaced(self, record: Record) -> None:
        for slot in self.slots:
            known = record.get("places", {}).get(slot.place)
            # A folder may be half filled because an earlier run was killed.
            if known and not slot.is_folder and slot.is_there() and not slot.has_size_of(known):
                shown = self.places.shown(slot.path)
                raise DownloadError(
                    f"{shown}: is not what {self.lock.path} recorded of {self.asset.id}"
                    f" ({known['bytes']} bytes)."
                    f" Remove it to have it fetched again; if it is yours and right, remove"
                    f' "{self.asset.id}" from {self.lock.path}.'
                )

    def _differs(self, slot: Slot) -> bool:
        """Whether a place holds something else than the file whose checksum was published."""
        published = self.asset.sha256 if slot.place == self.asset.place else None
        return published is not None and sha256_file(slot.path) != published

    def run(self) -> None:
        record = self.lock.record(self.asset.id)
        now = state_of(self.slots, record)
        if now == "unrecorded" and self._adopt():
            now = "ready"
        if now != "ready":
            refuse_gate(self.asset, self.settings)
            announce(self.asset)
            self.slots = unfilled(self.slots, record)
            self._refuse_full_disk()
            self._obtain(record)
        self._tidy()
        derive(self.asset, self.places)

    def _adopt(self) -> bool:
        """Records a file that somebody put in its place, if its published checksum vouches for it."""
        here = [slot for slot in self.slots if slot.is_there()]
        path = here[0].path
        if self.asset.is_archive or not self.asset.sha256 or sha256_file(path) != self.asset.sha256:
            shown = self.places.shown(path)
            raise DownloadError(
                f"{shown}: is there, but nothing records that it is whole. If it is, run:"
                f" python -m lxmert assets add {shown} --id {self.asset.id}; if not, remove it and run again."
            )
        entry = here[0].measure()
        file = {"name": self.asset.file, **entry}
        self.lock.add(self.asset.id, file, "found on disk", {here[0].place: entry})
        return True

    def _obtain(self, record: Record | None) -> None:
        expected = expectation(self.asset, record)
        origin, accepted = self._from_mirrors(expected, record or {})
        self.lock.add(self.asset.id, accepted.file, origin, accepted.places)
        install(accepted, self.slots, self.places)
        # There is no part if a kept archive was unpacked once more.
        if self.part.size and (not self.asset.is_archive or self.settings.keep_archives):
            move(self.part.path, self.final)
            self.part.drop_note()
        log.info("%s: %d bytes, from %s", self.asset.id, accepted.file["bytes"], origin)

    def _tidy(self) -> None:
        """Removes what earlier, killed runs left beside a finished asset."""
        self.part.clear()
        shutil.rmtree(staging_folder(self.places, self.asset), ignore_errors=True)
        shutil.rmtree(_pieces_folder(self.final), ignore_errors=True)
        if self.asset.is_archive and not self.settings.keep_archives:
            self.final.unlink(missing_ok=True)

    def _refuse_full_disk(self) -> None:
        free = shutil.disk_usage(make_folder(self.final.parent)).free
        missing = max(0, self.asset.download_bytes - self.part.size)
        needed = missing + self._unpacked_bytes()
        if needed > free:
            raise DataError(
                f"{self.places.shown(self.final.parent)}: {self.asset.id} needs about"
                f" {gigabytes(needed)}, the disk has {gigabytes(free)} free. Free some space,"
                " or make data/ a link to a larger disk."
            )

    def _unpacked_bytes(self) -> int:
        """What the wanted members of an archive take beside it."""
        members = [slot.member for slot in self.slots if slot.member]
        return self.asset.unpacked_bytes_of(members) if self.asset.is_archive else 0

    # Mirrors

    def _from_mirrors(self, expected: Expected, record: Record) -> tuple[str, Accepted]:
        if self.asset.is_archive and self.final.is_file():
            accepted = self._kept_archive(record)
            if accepted:
                return str(record.get("from", "kept archive")), accepted
        for source in sources(self.asset, self.settings):
            accepted = self._from_mirror(source, expected, record)
            if accepted:
                return source.label, accepted
        raise DownloadError(self._no_mirror())

    def _kept_archive(self, record: Record) -> Accepted | None:
        try:
            return self._accept(self.final, record)
        except BadContent as error:
            self._note(self.places.shown(self.final), str(error))
            return None

    def _from_mirror(self, source: Source, expected: Expected, record: Record) -> Accepted | None:
        attempt, clean_start_left = 0, True
        while True:
            attempt += 1
            before = self.part.size
            try:
                self._transfer(source, expected, attempt)
                return self._accept(self.part.path, record)
            except BadContent as error:
                mixed = before > 0
                self.part.clear()
                shutil.rmtree(_pieces_folder(self.final), ignore_errors=True)
                if not (mixed and clean_start_left):
                    self._note(source.label, str(error))
                    return None
                # The wrong bytes may be an earlier mirror's, or of an earlier day.
                clean_start_left, attempt = False, 0
                log.info("%s: %s; beginning again from %s", self.asset.id, error, source.label)
            except MirrorFailure as failure:
                if self.part.size - before >= self.patience.renew_bytes:
                    attempt = 0
                if not failure.again or attempt >= self.patience.attempts:
                    self._note(source.label, str(failure))
                    return None
                log.info("%s: %s: %s; trying again", self.asset.id, source.label, failure)
                self._wait(source, attempt, failure.wait_seconds)

    def _transfer(self, source: Source, expected: Expected, attempt: int) -> None:
        meter = Meter(self.asset, source, attempt, self.part.size, expected.bytes, self.stopped)
        transfer = Transfer(self.patience, meter.advance)
        try:
            if source.in_pieces:
                self._transfer_pieces(source, transfer, expected)
            else:
                transfer.run(source.urls[0], self.part, expected)
        finally:
            meter.close()

    def _transfer_pieces(self, source: Source, transfer: Transfer, expected: Expected) -> None:
        if self.part.is_whole(expected):
            return
        folder = _pieces_folder(self.final)
        names = [urlsplit(url).path.rpartition("/")[2] for url in source.urls]
        refuse_gaps(sorted(names))
        for url, name in zip(source.urls, names, strict=True):
            piece = folder / name
            if not piece.exists():
                part = Part(piece)
                # A missing end shows in the whole, if not in the piece.
                shows = bool(expected.sha256 or expected.bytes or expected.shows_truncation)
                transfer.run(url, part, Expected(name, shows_truncation=shows))
                os.replace(part.path, piece)
                part.drop_note()
        self.part.begin(source.label, None, sum((folder / name).stat().st_size for name in names))
        join_parts([folder / name for name in names], self.part.path)

    def _wait(self, source: Source, attempt: int, at_least: float) -> None:
        """Backs off, twice as long each time; the jitter is a function of asset, mirror and attempt."""
        jitter = random.Random(f"{self.asset.id} {source.label} {attempt}").uniform(0.5, 1.0)
        seconds = self.patience.backoff_seconds * 2 ** max(0, attempt - 1) * jitter
        self.sleep(min(max(seconds, at_least), self.patience.backoff_limit_seconds))

    def _doze(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.stopped() and time.monotonic() < until:
            time.sleep(max(0.0, min(0.2, until - time.monotonic())))
        if self.stopped():
            raise Interrupted(f"{self.asset.id}: what came is kept")

    def _note(self, label: str, why: str) -> None:
        log.info("%s: %s: %s", self.asset.id, label, why)
        self.failures.append(f"{label}: {why}")

    # Checks

    def _accept(self, path: Path, record: Record) -> Accepted:
        return accept(self.asset, path, record, self.slots, self.places, self.stopped)

    # Words

    def _no_mirror(self) -> str:
        asset, kept = self.asset, self.part.size
        tried = "; ".join(dict.fromkeys(self.failures))
        if tried:
            text = f"{asset.id}: no mirror gave {asset.file}. {tried}."
        elif self.settings.offline and asset.fetchable:
            text = f"{asset.id}: {asset.file} is not there, and offline mode asks no other machine."
        else:
            text = f"{asset.id}: {asset.file} cannot be fetched by a program."
        rare = any(slot.member and slot.member.on_request for slot in self.slots)
        more = " --everything" if rare else ""
        ways = [f"python -m lxmert assets add FILE --id {asset.id}{more} takes a copy you have"]
        if hint(asset):
            ways.append(f"by hand: {hint(asset)}")
        if asset.otherwise:
            ways.append(asset.otherwise)
        again = f" Run again to go on from byte {kept}." if kept else ""
        return f"{text}{again} What helps: {'; '.join(ways)}."


def guard_file(places: Places, asset: Asset) -> Path:
    """The file that whoever changes an asset holds."""
    return places.downloads / f".{asset.id}.lock"


def _pieces_folder(final: Path) -> Path:
    return final.with_name(f"{final.name}.pieces")


def refuse_gate(asset: Asset, settings: Settings) -> None:
    """Nothing, or an error if the asset's terms are not accepted."""
    if asset.gate and asset.gate not in settings.accept_terms:
        raise DownloadError(
            f"{asset.id}: {asset.terms or asset.licence} If you accept these terms, write in config.yaml:"
            f" assets: {{accept_terms: [{asset.gate}]}}"
        )


def announce(asset: Asset) -> None:
    """Logs licence and terms."""
    log.info("%s (%s): licence: %s", asset.id, asset.what, asset.licence)
    if asset.terms:
        log.info("%s: terms: %s", asset.id, asset.terms)
