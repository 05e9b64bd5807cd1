"""One address of the open web, asked within bounds of time, bytes and redirects, and never a local one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.utils import get_environ_proxies

from lxmert import __version__
from lxmert.assets.crawl.guard import GuardedAdapter, LocalAddress, is_local
from lxmert.assets.crawl.status import BAD_ADDRESS, GONE, NO_ANSWER, REFUSED, TOO_LARGE
from lxmert.assets.transfer import MirrorFailure, within

_CHUNK = 1 << 16
_GONE = (404, 410)
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Bounds:
    """How far an address is followed.

    Attributes:
        connect_seconds: until a connection stands.
        read_seconds: without a byte.
        whole_seconds: for all of it, redirects included.
        bytes: of one picture.
        redirects: in a row.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 15.0
    whole_seconds: float = 90.0
    bytes: int = 32 << 20
    redirects: int = 5


class NoAnswer(Exception):
    """An address gave no body.

    Attributes:
        state: as the status file has it.
        again: whether asking once more may help.
        reached: whether the host answered at all.
        wait_seconds: how long the host asks to be left alone.
    """

    def __init__(
        self, state: str, why: str, again: bool = False, reached: bool = True, wait_seconds: float = 0.0
    ) -> None:
        """Takes what went wrong, in a few words."""
        super().__init__(why)
        self.state, self.again, self.reached, self.wait_seconds = state, again, reached, wait_seconds


def host_of(url: str) -> str:
    """Host and port that an address asks.

    Raises:
        NoAnswer: it is no address of the web.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise NoAnswer(BAD_ADDRESS, f"no address ({error})") from error
    if parts.scheme not in ("http", "https") or not host:
        raise NoAnswer(BAD_ADDRESS, f"{parts.scheme or 'no'} address; only http and https are asked")
    return f"{host}:{port or (443 if parts.scheme == 'https' else 80)}"


class Fetcher:
    """Gets addresses, one at a time; each thread has its own.

    Args:
        bounds: how far.
        trusted: "host:port" that may be local, since config names it as a mirror.
        stopped: polled between bytes.
    """

    def __init__(
        self, bounds: Bounds, trusted: frozenset[str], stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._bounds, self._trusted, self._stopped = bounds, trusted, stopped
        self._session = self._new_session()

    def get(self, url: str) -> bytes:
        """The body behind an address.

        Raises:
            NoAnswer: there is none.
        """
        until = time.monotonic() + self._bounds.whole_seconds
        for hop in range(self._bounds.redirects + 1):
            try:
                url, body = self._hop(url, until)
            except NoAnswer as failure:
                # A host that sent us on has answered, whatever became of the next one.
                failure.reached = failure.reached or hop > 0
                raise
            if body is not None:
                return body
        raise NoAnswer(BAD_ADDRESS, f"more than {self._bounds.redirects} redirects")

    def _hop(self, url: str, until: float) -> tuple[str, bytes | None]:
        """The body behind an address, or where it leads and None."""
        try:
            self._refuse_local(url)
            with self._open(url, until) as response:
                if response.status_code in _REDIRECTS and "Location" in response.headers:
                    return urljoin(url, response.headers["Location"]), None
                _check_status(response)
                return url, self._body(response, until)
        except requests.RequestException as error:
            raise _explained(error) from error
        except (UnicodeError, ValueError) as error:
            raise NoAnswer(BAD_ADDRESS, f"no address ({error})"[:120]) from error

    def _open(self, url: str, until: float) -> requests.Response:
        session, bounds = self._session, self._bounds
        try:
            return within(
                max(0.1, until - time.monotonic()),
                lambda: session.get(
                    url,
                    stream=True,
                    allow_redirects=False,
                    timeout=(bounds.connect_seconds, bounds.read_seconds),
                    proxies=get_environ_proxies(url),
                ),
            )
        except MirrorFailure as failure:  # its thread still has the session
            self._session = self._new_session()
            raise NoAnswer(NO_ANSWER, str(failure), again=True, reached=False) from failure

    def _body(self, response: requests.Response, until: float) -> bytes:
        limit, parts, size = self._bounds.bytes, [], 0
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > limit:
            raise NoAnswer(TOO_LARGE, f"{length} bytes")
        for chunk in _chunks(response):
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                raise NoAnswer(TOO_LARGE, f"more than {limit} bytes")
            if self._stopped():
                raise NoAnswer(NO_ANSWER, "stopped", again=True)
            if time.monotonic() > until:
                raise NoAnswer(NO_ANSWER, f"not whole after {self._bounds.whole_seconds:.0f} s", again=True)
        return b"".join(parts)

    def _refuse_local(self, url: str) -> None:
        """Addresses that name a local machine outright, which a proxy would be asked for, too."""
        host_of(url)  # refuses what is none of the web, before requests reads it
        where = host_of(str(requests.Request("GET", url).prepare().url))  # as the proxy would read it
        host = where.rpartition(":")[0]
        if where not in self._trusted and is_local(host):
            raise NoAnswer(BAD_ADDRESS, f"{host} is a local address")

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False  # no passwords of ~/.netrc for strangers; proxies are asked for above
        # What else it stood for: the certificates of a network that opens encryption.
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        # Some hosts turn away whoever does not say what it wants.
        agent = f"lxmert/{__version__} (single images of a research data set, each once)"
        session.headers.update({"User-Agent": agent, "Accept-Encoding": "identity"})
        for scheme in ("http://", "https://"):
            session.mount(scheme, GuardedAdapter(self._trusted))
        return session


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status == 200:
        return
    why = f"HTTP {status}"
    if status in _GONE:
        raise NoAnswer(GONE, why)
    if status in _AGAIN:
        wait = _wait_seconds(response.headers.get("Retry-After", ""))
        raise NoAnswer(NO_ANSWER, why, again=True, wait_seconds=wait)
    raise NoAnswer(REFUSED, why)


def _wait_seconds(text: str) -> float:
    """What `Retry-After` asks for, in seconds or until a date."""
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _chunks(response: requests.Response) -> Iterator[bytes]:
    while True:
        try:
            # What has come so far, not a full buffer, so that a drip is noticed.
            chunk = response.raw.read1(_CHUNK, decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise NoAnswer(NO_ANSWER, _words(error), again=True) from error
        if not chunk:
            return
        yield chunk


def _explained(error: requests.RequestException) -> NoAnswer:
    local = next((cause for cause in _causes(error) if isinstance(cause, LocalAddress)), None)
    if local is not None:
        return NoAnswer(BAD_ADDRESS, str(local))
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
        return NoAnswer(BAD_ADDRESS, f"no address ({error})"[:120])
    return NoAnswer(NO_ANSWER, _words(error), again=True, reached=False)


def _words(error: BaseException) -> str:
    """The cause of a network error without the libraries' wrapping, the same for the same cause."""
    causes = list(_causes(error))
    if any(isinstance(cause, urllib3.exceptions.NameResolutionError) for cause in causes):
        return "its host has no address"
    if any(isinstance(cause, TimeoutError) or _is_timeout(cause) for cause in causes):
        return "timed out"
    if any(isinstance(cause, urllib3.exceptions.SSLError) for cause in causes):
        return "its certificate is not valid"
    if any(isinstance(cause, (urllib3.exceptions.ProtocolError, ConnectionResetError)) for cause in causes):
        return "broke off"
    text = str(getattr(causes[-1], "strerror", None) or causes[-1])
    return f"cannot be reached ({' '.join(text.split())[:60] or type(causes[-1]).__name__})"


def _is_timeout(error: BaseException) -> bool:
    """Whether the library waited in vain; a refused connection is of the same family there."""
    family = urllib3.exceptions.TimeoutError
    return isinstance(error, family) and not isinstance(error, urllib3.exceptions.NewConnectionError)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that its libraries wrapped."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        found = waiting.pop(0)
        if isinstance(found, BaseException) and id(found) not in seen:
            seen.add(id(found))
            yield found
            waiting += [*found.args, getattr(found, "reason", None), found.__cause__, found.__context__]
