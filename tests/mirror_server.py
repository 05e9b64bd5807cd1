"""A loopback server that misbehaves on purpose, each path in its own way."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMPLAINT = b'{"message": "API rate limit exceeded", "documentation_url": "https://docs.example"}'
LINE = b"Rate limit exceeded\n"
PAGE = b"<!DOCTYPE html><html><head><title>Quota exceeded</title></head><body>Come back later</body></html>"


@dataclass
class Script:
    """How one path answers: `manners` in turn, the last one for ever.

    Manners: ok, status:N, html, complaint and line (messages in JSON and in text), wrong, longer, shorter,
    loop, stall, stall_head, drip, cut:N, reset:N, drip_head, chunked, chunked_cut:N, no_range, wrong_range,
    page_form, hang_up, slow, away (to the address that the body holds), busy:N (N/100 s before an answer);
    N counts bytes elsewhere. `more` are headers of every answer.
    """

    body: bytes
    manners: list[str]
    etag: str | None = '"1"'
    content_type: str = "application/octet-stream"
    more: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def next(self) -> str:
        with self.guard:
            manner = self.manners[min(len(self.asked), len(self.manners) - 1)]
            self.asked.append(manner)
            return manner


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: MirrorServer

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.close_connection = True
        path, _, query = self.path.partition("?")
        script = self.server.scripts.get(path)
        if script is None:
            self.send_error(404)
            return
        manner, _, number = script.next().partition(":")
        script.headers = dict(self.headers.items())
        self._script, self._number = script, int(number or 0)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError), self.server.counted():
            getattr(self, f"_{manner}")(script.body, query)

    def _begin(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", self._script.content_type)
        if self._script.etag:
            self.send_header("ETag", self._script.etag)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in {**self._script.more, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()

    def _range(self, body: bytes) -> bytes:
        """Sends the head of an answer that honours Range and If-Range; returns what its body is."""
        text = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if text is None or (condition and condition != self._script.etag):
            self._begin(200, len(body))
            return body
        start = int(text.removeprefix("bytes=").rstrip("-"))
        if start >= len(body):
            self._begin(416, 0, Content_Range=f"bytes */{len(body)}")
            return b""
        rest = body[start:]
        self._begin(206, len(rest), Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}")
        return rest

    def _ok(self, body: bytes, query: str) -> None:
        self.wfile.write(self._range(body))

    def _status(self, body: bytes, query: str) -> None:
        self._begin(self._number, len(PAGE))
        self.wfile.write(PAGE)

    def _html(self, body: bytes, query: str) -> None:
        self._script.content_type = "text/html; charset=utf-8"
        self._begin(200, len(PAGE))
        self.wfile.write(PAGE)

    def _complaint(self, body: bytes, query: str) -> None:
        self._begin(200, len(COMPLAINT))
        self.wfile.write(COMPLAINT)

    def _line(self, body: bytes, query: str) -> None:
        self._begin(200, len(LINE))
        self.wfile.write(LINE)

    def _wrong(self, body: bytes, query: str) -> None:
        middle = len(body) // 2
        self.wfile.write(self._range(body[:middle] + bytes([body[middle] ^ 255]) + body[middle + 1 :]))

    def _longer(self, body: bytes, query: str) -> None:
        self._begin(200, None)
        self.wfile.write(body + b"x" * 100)

    def _shorter(self, body: bytes, query: str) -> None:
        short = body[: max(1, len(body) // 2)]
        self._begin(200, len(short))
        self.wfile.write(short)

    def _loop(self, body: bytes, query: str) -> None:
        self._begin(302, 0, Location=self.path)

    def _away(self, body: bytes, query: str) -> None:
        self._begin(302, 0, Location=body.decode())

    def _busy(self, body: bytes, query: str) -> None:
        time.sleep(self._number / 100)
        self.wfile.write(self._range(body))

    def _stall(self, body: bytes, query: str) -> None:
        self.wfile.write(self._range(body)[: len(body) // 3])
        self.wfile.flush()
        time.sleep(self.server.patience)

    def _stall_head(self, body: bytes, query: str) -> None:
        time.sleep(self.server.patience)

    def _drip(self, body: bytes, query: str) -> None:
        rest, until = self._range(body), time.monotonic() + self.server.patience
        for position in range(len(rest)):
            self.wfile.write(rest[position : position + 1])
            time.sleep(0.02)
            if time.monotonic() > until:
                return

    def _drip_head(self, body: bytes, query: str) -> None:
        until = time.monotonic() + self.server.patience
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while time.monotonic() < until:
            self.wfile.write(b"X-More: y\r\n")
            time.sleep(0.02)

    def _slow(self, body: bytes, query: str) -> None:
        rest = self._range(body)
        for start in range(0, len(rest), 4096):
            self.wfile.write(rest[start : start + 4096])
            time.sleep(0.01)

    def _cut(self, body: bytes, query: str) -> None:
        self.wfile.write(self._range(body)[: self._number])

    def _reset(self, body: bytes, query: str) -> None:
        self.wfile.write(self._range(body)[: self._number])
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _chunked(self, body: bytes, query: str, end: bool = True) -> None:
        self._begin(200, None, Transfer_Encoding="chunked")
        for start in range(0, len(body), 4096):
            piece = body[start : start + 4096]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        if end:
            self.wfile.write(b"0\r\n\r\n")

    def _chunked_cut(self, body: bytes, query: str) -> None:
        self._chunked(body[: self._number], query, end=False)

    def _no_range(self, body: bytes, query: str) -> None:
        self._begin(200, len(body))
        self.wfile.write(body)

    def _wrong_range(self, body: bytes, query: str) -> None:
        if "Range" not in self.headers:
            self.wfile.write(self._range(body))
            return
        self._begin(206, len(body), Content_Range=f"bytes 0-{len(body) - 1}/{len(body)}")
        self.wfile.write(body)

    def _page_form(self, body: bytes, query: str) -> None:
        """What Google Drive does before a large file."""
        if "confirm=t" in query:
            self._script.content_type = "application/octet-stream"
            self.wfile.write(self._range(body))
            return
        page = (
            b'<!DOCTYPE html><html><title>Virus scan warning</title><body><form id="download-form"'
            b' action="'
            + self.path.partition("?")[0].encode()
            + b'" method="get"><input type="hidden" name="id"'
            b' value="abc"><input type="hidden" name="confirm" value="t"></form></body></html>'
        )
        self._script.content_type = "text/html; charset=utf-8"
        self._begin(200, len(page))
        self.wfile.write(page)

    def _hang_up(self, body: bytes, query: str) -> None:
        self.connection.close()


class MirrorServer(ThreadingHTTPServer):
    """The server; `scripts` maps paths to how they answer."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scripts: dict[str, Script] = {}
        self.patience = 5.0
        # How many are answered now, and how many were at most.
        self.active = self.peak = 0
        self._counting = threading.Lock()
        self._server_thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._server_thread.start()

    def handle_error(self, request: object, client_address: object) -> None:
        pass

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        with self._counting:
            self.active += 1
            self.peak = max(self.peak, self.active)
        try:
            yield
        finally:
            with self._counting:
                self.active -= 1

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def script(self, path: str, body: bytes, *manners: str, **settings: Any) -> Script:
        """Lets a path answer so; returns what will know how often it was asked."""
        self.scripts[path] = Script(body, list(manners) or ["ok"], **settings)
        return self.scripts[path]


@contextlib.contextmanager
def running() -> Iterator[MirrorServer]:
    server = MirrorServer()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
