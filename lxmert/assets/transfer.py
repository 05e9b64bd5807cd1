"""Bytes of one address into a `.part` file: resumed where that is safe, refused where they are wrong."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import requests
import urllib3

from lxmert import __version__
from lxmert.assets.answers import BadContent, refuse_page
from lxmert.assets.drive import confirmed, is_drive, is_page
from lxmert.assets.heads import content_range, network_words, number, retry_after, validator
from lxmert.assets.part import Expected, Part
from lxmert.assets.stated import refuse_other_than_stated, stated_checksums
from lxmert.errors import DataError
from lxmert.files import explain_os_error

Answer = TypeVar("Answer")

_CHUNK = 1 << 18
_HEAD_BYTES = 512
_SYNC_BYTES = 64 << 20
_MAX_REDIRECTS = 8
_AGAIN_STATUSES = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Patience:
    """How long a mirror is borne with.

    Attributes:
        connect_seconds: until a connection stands.
        header_seconds: until the answer's head is whole, redirects included.
        read_seconds: without a byte.
        slow_seconds: the span over which a rate is taken.
        slow_bytes_per_second: below this rate the mirror is left.
        attempts: in a row that bring nothing much.
        backoff_seconds: before the second attempt; doubled for each further one.
        backoff_limit_seconds: never longer.
        renew_bytes: an attempt that brought so much counts as none.
    """

    connect_seconds: float = 20.0
    header_seconds: float = 120.0
    read_seconds: float = 60.0
    slow_seconds: float = 60.0
    slow_bytes_per_second: float = 2048.0
    attempts: int = 4
    backoff_seconds: float = 2.0
    backoff_limit_seconds: float = 60.0
    renew_bytes: int = 1 << 20


class MirrorFailure(Exception):
    """One attempt at one mirror failed.

    Attributes:
        again: whether the same mirror may do better in a while.
        wait_seconds: how long the mirror asks to be left alone.
    """

    def __init__(self, message: str, again: bool, wait_seconds: float = 0.0) -> None:
        """Takes what went wrong, in a few words."""
        super().__init__(message)
        self.again = again
        self.wait_seconds = wait_seconds


class Transfer:
    """Fetches addresses with one patience, reporting bytes as they come."""

    def __init__(self, patience: Patience, advance: Callable[[int], None] = lambda _: None) -> None:
        """Takes a function that is called with the number of new bytes, and may raise to stop."""
        self._patience = patience
        self._advance = advance

    def run(self, url: str, part: Part, expected: Expected) -> None:
        """Brings `part` to the end of the file.

        Raises:
            MirrorFailure: this mirror did not; bytes worth keeping stay in `part`.
            BadContent: what it gives cannot be the file.
            DataError: the disk is full or cannot be written.
        """
        if not part.is_whole(expected):
            self._bring(url, part, expected)
        refuse_other_than_stated(part.path, part.stated)

    def _bring(self, url: str, part: Part, expected: Expected) -> None:
        if urlsplit(url).scheme == "file":
            self._copy(url, part, expected)
            return
        with requests.Session() as session:
            session.max_redirects = _MAX_REDIRECTS
            session.headers.update({"User-Agent": f"lxmert/{__version__}", "Accept-Encoding": "identity"})
            try:
                self._get(session, url, part, expected)
            except requests.TooManyRedirects as error:
                raise MirrorFailure("redirects in circles", again=False) from error
            except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL) as error:
                raise MirrorFailure(
                    f"leads to an address that cannot be asked ({error})", again=False
                ) from error
            except requests.RequestException as error:
                raise MirrorFailure(network_words(error), again=True) from error

    def _copy(self, url: str, part: Part, expected: Expected) -> None:
        source = Path(url2pathname(unquote(urlsplit(url).path)))
        try:
            reader = open(source, "rb")  # noqa: SIM115 (its errors are the mirror's, later ones the disk's)
            size = source.stat().st_size
        except OSError as error:
            raise MirrorFailure(f"cannot be read ({error.strerror})", again=False) from error
        with reader:
            expected.refuse_size(size)
            part.begin(url, None, size)
            _refuse_full_disk(part, size)
            with _appending(part.path) as writer:
                while chunk := reader.read(_CHUNK):
                    writer.write(chunk)
                    self._advance(len(chunk))
        if part.size != size:
            raise MirrorFailure("changed while it was read", again=True)

    def _get(self, session: requests.Session, url: str, part: Part, expected: Expected) -> None:
        offset = part.offset(url, expected)
        headers = {}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if part.note.get("url") == url and part.note.get("validator"):
                headers["If-Range"] = part.note["validator"]
        with self._open(session, url, headers) as response:
            asked = url
            if is_drive(url) and is_page(response):
                asked = confirmed(response)
                response.close()
                response = self._open(session, asked, headers)
            with response:
                _refuse_downgrade(url, response, expected)
                if response.status_code == 416:
                    self._out_of_range(response, part)
                    return
                total = self._place(response, url, offset, part, expected)
                _refuse_full_disk(part, total or expected.bytes or 0)
                self._receive(response, part, expected, total)

    def _open(self, session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
        limits = (self._patience.connect_seconds, self._patience.read_seconds)
        try:
            return within(
                self._patience.header_seconds,
                lambda: session.get(url, headers=headers, stream=True, timeout=limits),
            )
        except requests.RequestException:
            raise
        except ValueError as error:  # of a redirect to what the standard library cannot take apart
            raise MirrorFailure(f"leads to an address that cannot be asked ({error})", again=False) from error

    def _place(
        self, response: requests.Response, url: str, offset: int, part: Part, expected: Expected
    ) -> int | None:
        """Makes `part` end where the answer's bytes begin; returns the whole file's size if it is told."""
        status = response.status_code
        if status not in (200, 206):
            wait = retry_after(response)
            raise MirrorFailure(f"HTTP {status} {response.reason}".strip(), status in _AGAIN_STATUSES, wait)
        tag, length = validator(response), number(response.headers.get("Content-Length"))
        stated = stated_checksums(answer.headers for answer in (*response.history, response))
        if status == 200:
            _refuse_page_size(response, length, expected)
            part.begin(url, tag, length, stated)
            return length
        begins, total = content_range(response)
        same_version = part.note.get("url") != url or tag in (None, part.note.get("validator"))
        same_size = None in (total, part.note.get("total")) or total == part.note.get("total")
        if begins != offset or not offset or not same_size or not same_version:
            part.clear()
            raise MirrorFailure("went on with another version or range of the file", again=True)
        expected.refuse_size(total)
        part.go_on(stated)
        return total

    def _out_of_range(self, response: requests.Response, part: Part) -> None:
        _, total = content_range(response)
        if total != part.size:
            part.clear()
            raise MirrorFailure("HTTP 416: has fewer bytes than were fetched before", again=True)

    def _receive(
        self, response: requests.Response, part: Part, expected: Expected, total: int | None
    ) -> None:
        limit = expected.bytes or total or expected.limit_bytes
        known = bool(expected.bytes or total or expected.sha256 or part.stated or expected.shows_truncation)
        if not known:
            raise MirrorFailure("does not say how long the file is, so a missing end would not show", False)
        pace = _Pace(self._patience)
        size = unsynced_from = part.size
        with _appending(part.path) as writer:
            while chunk := _next_chunk(response):
                if limit is not None and size + len(chunk) > limit:
                    raise BadContent(f"gives more than {limit} bytes")
                writer.write(chunk)
                if size < _HEAD_BYTES:
                    writer.flush()
                    refuse_page(_head(part.path))
                size += len(chunk)
                pace.add(len(chunk))
                self._advance(len(chunk))
                if size - unsynced_from >= _SYNC_BYTES:
                    writer.flush()
                    os.fsync(writer.fileno())
                    part.synced(size)
                    unsynced_from = size
        end = expected.bytes or total
        if end is not None and size < end:
            raise MirrorFailure(f"ended after {size} of {end} bytes", again=True)


class _Pace:
    """Notices a mirror that drips."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._began, self._bytes = time.monotonic(), 0

    def add(self, size: int) -> None:
        self._bytes += size
        seconds = time.monotonic() - self._began
        if seconds < self._patience.slow_seconds:
            return
        rate = self._bytes / seconds
        if rate < self._patience.slow_bytes_per_second:
            raise MirrorFailure(f"is too slow ({rate:.0f} bytes/s over {seconds:.0f} s)", again=True)
        self._began, self._bytes = time.monotonic(), 0


def within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """The call's result, or MirrorFailure when it takes too long.

    A read time-out only bounds the gap between two bytes; an answer whose head drips would hold us for hours.
    """
    outcome: list[Answer] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # handed to the waiting thread, below
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not outcome:
        raise MirrorFailure(f"did not answer within {seconds:.0f} s", again=True)
    return outcome[0]


def _next_chunk(response: requests.Response) -> bytes:
    try:
        # What has come so far, not a full buffer: a drip would fill one only after hours.
        return bytes(response.raw.read1(_CHUNK, decode_content=False))
    except urllib3.exceptions.IncompleteRead as error:
        raise MirrorFailure("broke off before the end", again=True) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise MirrorFailure(network_words(error), again=True) from error


def _head(path: Path) -> bytes:
    with open(path, "rb") as handle:
        return handle.read(8 * _HEAD_BYTES)


@contextmanager
def _appending(path: Path) -> Iterator[BinaryIO]:
    """The file, open at its end; what the disk refuses is told as such."""
    try:
        with open(path, "ab") as writer:
            yield writer
    except OSError as error:
        raise explain_os_error(error, path) from error


def _refuse_page_size(response: requests.Response, size: int | None, expected: Expected) -> None:
    """Like `expected.refuse_size`, but says so if it is a web page that has the wrong size."""
    try:
        expected.refuse_size(size)
    except BadContent:
        if is_page(response):
            refuse_page(response.raw.read(8 * _HEAD_BYTES, decode_content=True) or b"")
        raise


def _refuse_full_disk(part: Part, total: int) -> None:
    missing = total - part.size
    free = shutil.disk_usage(part.path.parent).free
    if missing > free:
        raise DataError(
            f"{part.path}: {missing} more bytes are needed and the disk has {free} free. Free some space,"
            " or make data/ a link to a larger disk; then run the same command again."
        )


def _refuse_downgrade(url: str, response: requests.Response, expected: Expected) -> None:
    """Without a known checksum, only encryption tells who sends the first copy."""
    if url.startswith("https:") and response.url.startswith("http:") and not expected.sha256:
        raise MirrorFailure("leads from https to http, where anyone could answer", again=False)
