"""A crawl: every image of a split asked for at its address, looked at, compared, and put in its place.

    address -> bytes -> a whole picture -> the hash its publisher saw -> final name -> a line of status

Whatever moment the process dies, running again asks only for what has no line yet, and for what may come
back. Nothing but a proved picture ever has a final name.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from lxmert.assets.asset import Asset
from lxmert.assets.crawl.hosts import Hosts
from lxmert.assets.crawl.manners import Manners
from lxmert.assets.crawl.pictures import HASH_BITS, NoPicture, distance_to
from lxmert.assets.crawl.status import (
    BAD_ADDRESS,
    DONE,
    NO_ANSWER,
    NO_PICTURE,
    WRONG_HASH,
    Status,
    StatusFile,
)
from lxmert.assets.crawl.wanted import Records, Wanted
from lxmert.assets.crawl.web import Fetcher, NoAnswer, host_of
from lxmert.assets.mirrors import as_url
from lxmert.assets.places import Places, Settings
from lxmert.errors import DownloadError, Interrupted
from lxmert.files import atomic_write_bytes
from lxmert.progress import Progress, count

log = logging.getLogger(__name__)


@dataclass
class _Address:
    """An address with the images that it gives, most often one."""

    url: str
    images: list[Wanted]
    attempt: int = 0


class Crawl:
    """The images of one asset on their way; only made while nobody else is at them.

    Args:
        asset: the archive whose images are wanted.
        records: which, and where they were.
        places: where things lie.
        settings: mirrors, which are asked first, and offline mode, which asks no other machine.
        status: what became of earlier ones.
        manners: how the web is asked.
        again: states that are asked once more, beside those without an answer.
        brought: the images were brought since, and are recorded: other bytes than a crawl's are right.
        stopped: polled between images; True stops, keeping what came.
    """

    def __init__(
        self,
        asset: Asset,
        records: Records,
        places: Places,
        settings: Settings,
        status: StatusFile,
        manners: Manners,
        again: Collection[str] = (),
        brought: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._brought = brought
        self._asset, self._records, self._status = asset, records, status
        self._manners, self._again, self._stopped = manners, {NO_ANSWER, *again}, stopped
        place = asset.members[0].place
        self._folder = places.path(place)
        prefixes = [as_url(prefix) for prefix in settings.mirrors]
        self._mirrors = [f"{prefix}/{place.partition('/')[2]}" for prefix in prefixes]
        self._offline = settings.offline
        self._trusted = frozenset(host_of(url) for url in prefixes if urlsplit(url).scheme != "file")
        self._hosts: Hosts[_Address] = Hosts(
            manners.per_host, manners.interval_seconds, manners.host_failures
        )
        self._left: dict[str, str] = {}
        self._guard = threading.Lock()
        self._progress: Progress | None = None
        self._tally: Counter[str] = Counter()
        self._failed = False
        self._reached, self._unreached = False, 0

    def run(self) -> None:
        """Asks for everything that is not there and may come.

        Raises:
            DataError: the disk is full or cannot be written.
            DownloadError: nobody can be reached.
            Interrupted: `stopped` said so.
        """
        self._status.keep(self._records.images)
        self._sweep()
        with warnings.catch_warnings():  # here and not in the threads, which share the filters
            warnings.simplefilter("ignore")
            try:
                self._queue()
                self._work()
            finally:
                if self._progress is not None:
                    self._progress.close()
                self._status.rewrite()
        if self._stopped():
            raise Interrupted(f"{self._asset.id}: what came is kept")

    def _sweep(self) -> None:
        """Removes what killed crawls left beside the images."""
        for leftover in self._folder.rglob("*.png.tmp-*") if self._folder.is_dir() else ():
            leftover.unlink(missing_ok=True)

    def _queue(self) -> None:
        """Sorts images into those that are settled and those to be asked for, by address."""
        by_address: dict[str, list[Wanted]] = {}
        for image in self._records.images.values():
            if self._stopped():
                return
            known = self._settled(image)
            if known is None:
                by_address.setdefault(image.address, []).append(image)
            else:
                self._count(known)
        settled = self._tally.total()
        self._progress = Progress(
            len(self._records.images), "images", f"crawl {self._asset.id}", start=settled
        )
        if by_address:
            log.info(
                "%s: %s images are settled, %s addresses to ask",
                self._asset.id,
                count(settled),
                count(len(by_address)),
            )
        for number, (url, images) in enumerate(by_address.items()):
            # Where no host is asked, mirrors may have the images all the same.
            nobody = f"nobody {number % self._manners.connections}"
            try:
                host = nobody if self._offline else host_of(url)
            except NoAnswer:
                host = nobody
            self._hosts.add(host, _Address(url, images))

    def _settled(self, image: Wanted) -> Status | None:
        """What is known of an image already; None if it is to be asked for."""
        path, known = self._folder / image.name, self._status.entries.get(image.name)
        if known is not None and known.address != image.address:
            known = None
        if path.is_file():
            if known is None or known.state != DONE or (self._brought and not _fits(path, known)):
                return self._adopt(image, path)
            if _fits(path, known):
                return known
            _set_aside(path, known)
        if known is None or known.state == DONE or known.state in self._again:
            return None
        if known.state == WRONG_HASH and (known.distance or 0) <= self._manners.tolerance_bits:
            return None
        return known

    def _adopt(self, image: Wanted, path: Path) -> Status:
        """Takes a file that is there, an earlier crawl's or a person's own, as it is."""
        body = path.read_bytes()
        distance = None
        try:
            distance = distance_to(image.hash, body)
        except NoPicture as error:
            log.warning("%s: is yours and stays as it is, though %s", path, error)
        if distance is not None and distance > self._manners.tolerance_bits:
            log.warning("%s: is yours and stays as it is; %d of its hash's bits differ", path, distance)
        return self._note(image, DONE, body=body, distance=distance)

    # Threads

    def _work(self) -> None:
        with ThreadPoolExecutor(self._manners.connections) as pool:
            workers = [pool.submit(self._worker) for _ in range(self._manners.connections)]
        for worker in workers:
            worker.result()  # raises what went wrong in it

    def _worker(self) -> None:
        fetcher = Fetcher(self._manners.bounds, self._trusted, self._ended)
        while (taken := self._hosts.take(self._ended)) is not None:
            host, address = taken
            try:
                self._ask(fetcher, host, address)
            except BaseException:
                self._failed = True
                raise

    def _ended(self) -> bool:
        return self._failed or self._stopped()

    def _ask(self, fetcher: Fetcher, host: str, address: _Address) -> None:
        if not address.attempt:
            self._ask_mirrors(fetcher, address)
        address.attempt += 1
        reached, again, pause, patient = True, None, 0.0, True
        if address.images and not self._offline:
            try:
                body = fetcher.get(address.url)
                self._heard(True)
                self._look_at(address.images, body)
            except NoAnswer as failure:
                reached, pause = failure.reached, max(self._backoff(address), failure.wait_seconds)
                patient = pause <= self._manners.backoff_limit_seconds
                if not patient:
                    self._left[host] = f"its host asks to be left alone for {failure.wait_seconds:.0f} s"
                if failure.again and patient and address.attempt < self._manners.attempts:
                    again = address
                else:
                    pause = min(pause, self._manners.backoff_limit_seconds) if failure.again else 0.0
                    self._miss(address, failure.state, str(failure))
                if failure.state != BAD_ADDRESS:
                    self._heard(failure.reached)
        for left in self._hosts.release(host, reached, again, pause, give_up=not patient):
            if not left.attempt:
                self._ask_mirrors(fetcher, left)
            self._miss(left, NO_ANSWER, self._left.get(host, "its host is out of reach"))

    def _heard(self, reached: bool) -> None:
        """Notes whether a host answered, and stops where none ever does: days of time-outs say no more.

        Raises:
            DownloadError: so many addresses were out of reach, and none before was not.
        """
        with self._guard:
            self._reached = self._reached or reached
            self._unreached += not reached
            if self._reached or self._tally[DONE] or self._unreached < self._manners.first_failures:
                return
        raise DownloadError(
            f"{self._asset.id}: none of {self._unreached} addresses could be reached. Is this machine on the"
            " net? Behind a proxy, name it in the environment (https_proxy); then run again."
        )

    def _backoff(self, address: _Address) -> float:
        jitter = random.Random(f"{address.url} {address.attempt}").uniform(0.5, 1.0)
        seconds = float(self._manners.backoff_seconds * 2 ** (address.attempt - 1) * jitter)
        return min(seconds, self._manners.backoff_limit_seconds)

    def _ask_mirrors(self, fetcher: Fetcher, address: _Address) -> None:
        address.images = [image for image in address.images if not self._from_mirror(fetcher, image)]

    def _from_mirror(self, fetcher: Fetcher, image: Wanted) -> bool:
        """Whether a mirror of the user's own has the image."""
        for mirror in self._mirrors:
            url = f"{mirror}/{quote(image.name)}"
            try:
                if urlsplit(url).scheme == "file":
                    body = Path(url2pathname(unquote(urlsplit(url).path))).read_bytes()
                elif self._offline:
                    continue
                else:
                    body = fetcher.get(url)
                distance = distance_to(image.hash, body)
            except (NoAnswer, NoPicture, OSError):
                continue  # its own address is asked, and says what is wrong
            if distance is None or distance <= self._manners.tolerance_bits:
                self._place(image, body, distance)
                return True
        return False

    def _look_at(self, images: list[Wanted], body: bytes) -> None:
        for image in images:
            try:
                distance = distance_to(image.hash, body)
            except NoPicture as error:
                self._count(self._note(image, NO_PICTURE, str(error)))
                continue
            if distance is not None and distance > self._manners.tolerance_bits:
                why = f"{distance} of {HASH_BITS} bits of its hash differ"
                self._count(self._note(image, WRONG_HASH, why, distance=distance))
            else:
                self._place(image, body, distance)

    def _place(self, image: Wanted, body: bytes, distance: int | None) -> None:
        atomic_write_bytes(self._folder / image.name, body)
        self._count(self._note(image, DONE, body=body, distance=distance))

    def _miss(self, address: _Address, state: str, why: str) -> None:
        for image in address.images:
            self._count(self._note(image, state, why))

    def _note(
        self,
        image: Wanted,
        state: str,
        why: str | None = None,
        body: bytes | None = None,
        distance: int | None = None,
    ) -> Status:
        size, sha256 = (None, None) if body is None else (len(body), hashlib.sha256(body).hexdigest())
        status = Status(image.name, image.address, state, why, size, sha256, distance)
        with self._guard:
            self._status.add(status)
        return status

    def _count(self, status: Status) -> None:
        with self._guard:
            self._tally[status.state] += 1
            if self._progress is not None:
                missing = self._tally.total() - self._tally[DONE]
                self._progress.advance(1, f"{count(self._tally[DONE])} there, {count(missing)} missing")


def _fits(path: Path, known: Status) -> bool:
    return path.stat().st_size == known.bytes


def _set_aside(path: Path, known: Status) -> None:
    """Takes the name from a file that is no longer the proved one; whoever changed it still has it."""
    aside = path.with_name(f".{path.name}.changed")
    log.warning(
        "%s: has %d bytes, %s when it came; it is %s now, and is asked for again",
        path,
        path.stat().st_size,
        known.bytes,
        aside.name,
    )
    os.replace(path, aside)
