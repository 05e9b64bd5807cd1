"""Damaged notes, lock files and addresses: one line and status 2, or the download begun anew."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from asset_tools import SHORT, plain
from mirror_server import MirrorServer

from lxmert.assets.fetch import fetch
from lxmert.assets.part import Part
from lxmert.assets.places import Places, Settings
from lxmert.cli import main
from lxmert.errors import DownloadError

BODY = bytes(range(256)) * 40
SHA = "0" * 64


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: MirrorServer) -> Iterator[Path]:
    server.script("/b.json", b"[2]")
    entry = {"what": "w", "file": "g/b.json", "place": "raw/g/b.json", "mirrors": [server.url("/b.json")]}
    hub = {"what": "h", "file": "g/h.json", "place": "raw/g/h.json", "mirrors": [{"hub": "a/b", "path": "c"}]}
    assets = {"thing": entry, "hub": hub}
    document = {"catalogue": "g", "version": 1, "title": "t", "licence": "MIT", "assets": assets}
    (tmp_path / "catalogue").mkdir()
    (tmp_path / "catalogue" / "g.yaml").write_text(yaml.safe_dump(document))
    monkeypatch.chdir(tmp_path)
    before = logging.root.handlers[:]
    yield tmp_path
    logging.root.handlers[:] = before


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["--threads", "1", "assets", *arguments, "--catalogue", "catalogue"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


RECORD = {"from": "x", "recorded": "2026-01-01", "places": {"raw/g/b.json": {"bytes": 3, "sha256": SHA}}}


ACTIONS = [["list"], ["verify"], ["fetch", "thing"], ["plan", "vqa"], ["add", "b.json"]]


def lock_of(**changes: object) -> str:
    return json.dumps({"version": 1, "assets": {"thing": {**RECORD, **changes}}})


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "not a lock file of version 1"),
        ('{"version": 1}', "assets"),
        ('{"version": 1, "assets": []}', "assets"),
        ('{"version": 1, "assets": {"thing": 5}}', "assets/thing"),
        (lock_of(places=3), "assets/thing/places"),
        (lock_of(places={"raw/g/b.json": {"bytes": 3}}), "assets/thing/places/raw/g/b.json"),
        (lock_of(places={"raw/g/b.json": {"bytes": -1, "sha256": SHA}}), "raw/g/b.json/bytes"),
        (lock_of(file={"name": 1}), "assets/thing/file"),
        ('{"version": 1, "assets": {', "not valid JSON"),
        ("\udcff", "UTF-8"),
        ("[" * 200_000, "nested too deeply"),
    ],
)
def test_lock_files(
    root: Path, capsys: pytest.CaptureFixture[str], action: list[str], text: str, words: str
) -> None:
    (root / "data").mkdir()
    (root / "b.json").write_text("[2]")
    lock = root / "data" / "assets.lock.json"
    lock.write_bytes(text.encode("utf-8", "surrogateescape"))
    before = lock.read_bytes()
    line = refused(capsys, *action)
    assert "assets.lock.json" in line and words in line
    assert lock.read_bytes() == before and not (root / "data/full/raw/g/b.json").exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("http://[x", "no web address"),
        ("https://", "names no host"),
        ("ftp://h/x", "begins with none of https, http, file"),
        ("http://h:port/x", "no web address"),
    ],
)
@pytest.mark.parametrize("where", ["LXMERT_MIRROR", "HF_ENDPOINT", "--settings"])
def test_addresses(
    root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    words: str,
    where: str,
) -> None:
    more = ["--settings", json.dumps({"mirrors": [value]})] if where == "--settings" else []
    if not more:
        monkeypatch.setenv(where, value)
    line = refused(capsys, "fetch", "hub" if where == "HF_ENDPOINT" else "thing", *more)
    assert where in line and value in line and words in line
    assert not (root / "data/full/raw/g/b.json").exists()


NOTE = {"url": "http://h/x", "validator": '"1"', "total": len(BODY), "synced": 0, "boot": "b"}


@pytest.mark.parametrize(
    "change",
    [
        {"synced": "many"},
        {"synced": -5},
        {"synced": None},
        {"synced": 1e9},
        {"total": "all"},
        {"total": True},
        {"url": 7},
        {"url": None},
        {"boot": [1]},
        {"validator": {"a": 1}},
        {"stated": ["md5"]},
        {"stated": {"md5": 5}},
        {"stated": {"rot13": "x"}},
    ],
)
def test_notes_with_odd_values_begin_anew(
    server: MirrorServer, places: Places, change: dict[str, object]
) -> None:
    server.script("/odd", BODY)
    url = server.url("/odd")
    part = Part(places.path("raw/group/thing.bin"))
    part.begin(url, '"1"', len(BODY))
    part.path.write_bytes(b"x" * len(BODY))
    note = part.path.with_name("thing.bin.part.json")
    note.write_text(json.dumps({**NOTE, "url": url, **change}))
    assert Part(places.path("raw/group/thing.bin")).size == 0
    assert fetch(plain([url]), places, Settings(), SHORT)[0].read_bytes() == BODY


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, "\x00\xff"])
def test_notes_that_are_none_begin_anew(server: MirrorServer, places: Places, text: str) -> None:
    server.script("/none", BODY)
    part = Part(places.path("raw/group/thing.bin"))
    part.begin(server.url("/none"), '"1"', len(BODY))
    part.path.write_bytes(b"x" * len(BODY))
    part.path.with_name("thing.bin.part.json").write_bytes(text.encode("latin1"))
    assert fetch(plain([server.url("/none")]), places, Settings(), SHORT)[0].read_bytes() == BODY


def test_a_mirror_that_leads_nowhere(server: MirrorServer, places: Places) -> None:
    server.script("/astray", BODY, "status:302", more={"Location": "http://[x"})
    server.script("/fine", BODY)
    asset = plain([server.url("/astray"), server.url("/fine")])
    assert fetch(asset, places, Settings(), SHORT)[0].read_bytes() == BODY
    places.path("raw/group/thing.bin").unlink()
    with pytest.raises(DownloadError, match="/astray: leads to an address that cannot be asked"):
        fetch(plain([server.url("/astray")]), places, Settings(), SHORT)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes \xb2-3/\xb2"},
        {"Retry-After": "\xb2"},
        {"Retry-After": "9" * 5000},
        {"x-goog-hash": "md5=====,crc32c=\xff"},
        {"X-Linked-Etag": "\x80"},
    ],
)
def test_odd_headers_are_as_good_as_none(
    server: MirrorServer, places: Places, headers: dict[str, str]
) -> None:
    server.script("/heads", BODY, "status:503", "ok", more=headers)
    assert fetch(plain([server.url("/heads")]), places, Settings(), SHORT)[0].read_bytes() == BODY
