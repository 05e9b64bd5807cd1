"""Checksums that servers state themselves."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest
from asset_tools import SHORT, plain
from mirror_server import MirrorServer

from lxmert.assets import crc32c
from lxmert.assets.answers import BadContent
from lxmert.assets.crc32c import crc32c_file
from lxmert.assets.fetch import fetch
from lxmert.assets.part import Part
from lxmert.assets.places import Places, Settings
from lxmert.assets.stated import refuse_other_than_stated, stated_checksums
from lxmert.errors import DownloadError

BODY = bytes(range(256)) * 40
MD5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()


def bitwise(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def test_crc32c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    # RFC 3720, B.4, and the usual check value.
    for data, known in [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"", 0),
    ]:
        path.write_bytes(data)
        assert crc32c_file(path) == known
    for block in (1 << 22, 1000, 256):
        monkeypatch.setattr(crc32c, "_BLOCK_BYTES", block)
        for length in (1, 256, 257, 1025):
            data = os.urandom(length)
            path.write_bytes(data)
            assert crc32c_file(path) == bitwise(data), (block, length)


def test_headers() -> None:
    crc = base64.b64encode(bitwise(BODY).to_bytes(4, "big")).decode()
    digest = hashlib.sha256(BODY).hexdigest()
    assert stated_checksums([{"X-Linked-Etag": f'"{digest}"'}, {"ETag": '"x"'}]) == {"sha256": digest}
    assert stated_checksums([{"X-Linked-Etag": f'"{"a" * 40}"'}]) == {}  # a small file: git's own number
    found = stated_checksums([{"x-goog-hash": f"crc32c={crc},  md5={MD5}"}])
    assert found == {"crc32c": f"{bitwise(BODY):08x}", "md5": hashlib.md5(BODY).hexdigest()}
    packed = {"x-goog-hash": f"md5={MD5}", "x-goog-stored-content-encoding": "gzip"}
    for headers in (packed, {"x-goog-hash": "md5=?, crc32c=AA==, x"}, {}):
        assert stated_checksums([headers]) == {}


def test_the_strongest_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BODY)
    right = {"sha256": hashlib.sha256(BODY).hexdigest(), "crc32c": f"{bitwise(BODY):08x}"}
    refuse_other_than_stated(path, right)
    refuse_other_than_stated(path, {"crc32c": right["crc32c"]})
    refuse_other_than_stated(path, {})
    for kind, length in (("sha256", 64), ("md5", 32), ("crc32c", 8)):
        with pytest.raises(BadContent, match=f"sent bytes with {kind}"):
            refuse_other_than_stated(path, {kind: "0" * length})


@pytest.mark.parametrize(
    "headers", [{"x-goog-hash": f"md5={MD5}"}, {"X-Linked-Etag": hashlib.sha256(BODY).hexdigest()}]
)
def test_bytes_changed_on_the_way_are_noticed(
    server: MirrorServer, places: Places, headers: dict[str, str]
) -> None:
    server.script("/hurt", BODY, "wrong", more=headers)
    server.script("/fine", BODY, "cut:5000", "ok", more=headers)
    asset = plain([server.url("/hurt"), server.url("/fine")])
    assert fetch(asset, places, Settings(), SHORT)[0].read_bytes() == BODY
    places.path("raw/group/thing.bin").unlink()
    places.lock_file.unlink()
    with pytest.raises(DownloadError, match=r"/hurt: sent bytes with (md5|sha256) \w{16}, and states"):
        fetch(plain([server.url("/hurt")]), places, Settings(), SHORT)
    assert not places.path("raw/group/thing.bin").exists()


def test_a_statement_makes_a_missing_end_visible(server: MirrorServer, places: Places) -> None:
    script = server.script("/chunks", BODY, "chunked", more={"x-goog-hash": f"md5={MD5}"})
    asset = plain([server.url("/chunks")])
    assert fetch(asset, places, Settings(), SHORT)[0].read_bytes() == BODY and len(script.asked) == 1


def test_a_statement_outlives_the_process(server: MirrorServer, places: Places) -> None:
    """Killed between the last byte and the renaming: the whole part is compared before it is taken."""
    part = Part(places.path("raw/group/thing.bin"))
    part.begin("http://127.0.0.1:9/x", '"1"', len(BODY), {"md5": "0" * 32})
    part.path.write_bytes(BODY)
    assert json.loads(part.path.with_name("thing.bin.part.json").read_text())["stated"] == {"md5": "0" * 32}
    server.script("/fine", BODY, more={"x-goog-hash": f"md5={MD5}"})
    assert fetch(plain([server.url("/fine")]), places, Settings(), SHORT)[0].read_bytes() == BODY
