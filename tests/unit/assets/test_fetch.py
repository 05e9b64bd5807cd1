"""Fetching: who is asked, what is resumed, what is refused, and what is said."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from asset_tools import SHORT, archive, plain, zip_of
from mirror_server import MirrorServer

from lxmert.assets.asset import Asset, Member
from lxmert.assets.fetch import fetch
from lxmert.assets.inventory import state
from lxmert.assets.lock import Lock
from lxmert.assets.mirrors import sources
from lxmert.assets.part import Part
from lxmert.assets.places import Places, Settings, read_settings
from lxmert.errors import DataError, DownloadError, Interrupted, SpecError

BODY = bytes(range(256)) * 40
MEMBERS = [Member("raw/group/a.json", name="a.json")]
ARCHIVE = zip_of({"deep/a.json": b"[1, 2]", "deep/other.txt": b"x" * 100})


def get(asset: Asset, places: Places, **settings: object) -> Path:
    return fetch(asset, places, Settings(**settings), SHORT)[0]  # type: ignore[arg-type]


def refusal(asset: Asset, places: Places, **settings: object) -> str:
    with pytest.raises(DownloadError) as caught:
        get(asset, places, **settings)
    assert not places.download(asset).exists()
    return str(caught.value)


# Trust on first use


def test_first_copy_is_recorded_and_later_ones_compared(server: MirrorServer, places: Places) -> None:
    asset = plain([server.url("/tofu")])
    server.script("/tofu", BODY)
    path = get(asset, places)
    record = json.loads(places.lock_file.read_text())["assets"]["thing"]
    known = {"bytes": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}
    assert record["file"] == {"name": "group/thing.bin", **known}
    assert record["places"] == {"raw/group/thing.bin": known} and record["from"] == server.url("/tofu")
    path.unlink()
    other = bytearray(BODY)
    other[9] ^= 1
    server.script("/tofu", bytes(other))
    text = refusal(asset, places)
    for word in ("thing", "assets.lock.json", known["sha256"][:16], 'remove "thing"', "fetch again"):
        assert word in text
    server.script("/good", BODY)
    assert get(plain([server.url("/tofu"), server.url("/good")]), places).read_bytes() == BODY


def test_a_changed_member_in_another_archive_is_refused(server: MirrorServer, places: Places) -> None:
    server.script("/zip", ARCHIVE)
    asset = archive([server.url("/zip")], MEMBERS)
    get(asset, places).unlink()
    records = json.loads(places.lock_file.read_text())
    del records["assets"]["thing"]["file"]  # as after a drop-in of the member alone
    places.lock_file.write_text(json.dumps(records))
    server.script("/zip", zip_of({"a.json": b"[9]"}))
    with pytest.raises(DownloadError, match="raw/group/a.json has sha256"):
        get(asset, places)
    assert not places.path("raw/group/a.json").exists()
    server.script("/zip", zip_of({"another/folder/a.json": b"[1, 2]"}))
    assert get(asset, places).read_bytes() == b"[1, 2]"


def test_nobody_is_asked_for_what_is_there(server: MirrorServer, places: Places) -> None:
    script = server.script("/once", ARCHIVE)
    asset = archive([server.url("/once")], MEMBERS)
    get(asset, places)
    get(asset, places)
    assert script.asked == ["ok"] and not places.download(asset).exists()


def test_a_file_nobody_recorded(server: MirrorServer, places: Places) -> None:
    server.script("/there", BODY)
    asset = plain([server.url("/there")])
    path = places.path("raw/group/thing.bin")
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY[:100])
    with pytest.raises(DownloadError) as caught:
        get(asset, places)
    for word in ("data/full/raw/group/thing.bin", "assets add", "--id thing", "remove it"):
        assert word in str(caught.value)
    assert path.read_bytes() == BODY[:100]
    path.write_bytes(BODY)  # a published checksum vouches for it
    assert get(plain([], BODY), places) == path
    assert Lock(places.lock_file).record("thing")["from"] == "found on disk"  # type: ignore[index]


def test_a_damaged_recorded_file_is_fetched_again(server: MirrorServer, places: Places) -> None:
    script = server.script("/again", BODY)
    asset = plain([server.url("/again")])
    path = get(asset, places)
    path.write_bytes(BODY[:-1])
    assert state(asset, places, Lock(places.lock_file).record("thing")) == "partial"
    assert get(asset, places).read_bytes() == BODY and len(script.asked) == 2


# Resuming


def _begun(places: Places, url: str, body: bytes, validator: str | None) -> None:
    part = Part(places.path("raw/group/thing.bin"))
    part.begin(url, validator, len(BODY))
    part.path.write_bytes(body)


def test_resumes_with_the_validator(server: MirrorServer, places: Places) -> None:
    script = server.script("/resume", BODY)
    url = server.url("/resume")
    _begun(places, url, BODY[:1000], '"1"')
    assert get(plain([url]), places).read_bytes() == BODY
    assert script.headers["Range"] == "bytes=1000-" and script.headers["If-Range"] == '"1"'


def test_a_new_version_is_begun_again(server: MirrorServer, places: Places) -> None:
    server.script("/new", BODY, etag='"2"')
    url = server.url("/new")
    _begun(places, url, b"x" * 1000, '"1"')
    assert get(plain([url]), places).read_bytes() == BODY


@pytest.mark.parametrize("url", ["same", "other"])
def test_without_proof_nothing_is_resumed(server: MirrorServer, places: Places, url: str) -> None:
    script = server.script("/proof", BODY)
    origin = server.url("/proof") if url == "same" else "http://127.0.0.1:9/else"
    _begun(places, origin, b"x" * 1000, None if url == "same" else '"1"')
    assert get(plain([server.url("/proof")]), places).read_bytes() == BODY
    assert "Range" not in script.headers


def test_a_known_checksum_lets_mirrors_go_on_for_each_other(server: MirrorServer, places: Places) -> None:
    script = server.script("/other", BODY)
    _begun(places, "http://127.0.0.1:9/dead", BODY[:5000], None)
    assert get(plain([server.url("/other")], BODY), places).read_bytes() == BODY
    assert script.headers["Range"] == "bytes=5000-" and "If-Range" not in script.headers


def test_foreign_bytes_cost_the_next_mirror_nothing(server: MirrorServer, places: Places) -> None:
    script = server.script("/foreign", BODY)
    _begun(places, "http://127.0.0.1:9/dead", b"x" * 5000, None)
    assert get(plain([server.url("/foreign")], BODY), places).read_bytes() == BODY
    assert script.asked == ["ok", "ok"]


def test_a_whole_part_asks_nobody(places: Places) -> None:
    _begun(places, "http://127.0.0.1:9/dead", BODY, None)
    assert get(plain(["http://127.0.0.1:9/dead"], BODY), places).read_bytes() == BODY


def test_bytes_from_before_a_crash_of_the_machine_are_cut_back(places: Places) -> None:
    _begun(places, "http://h/x", BODY, None)
    note = places.path("raw/group/thing.bin.part.json")
    note.write_text(json.dumps({**json.loads(note.read_text()), "boot": "another", "synced": 777}))
    assert Part(places.path("raw/group/thing.bin")).size == 777
    note.unlink()
    assert Part(places.path("raw/group/thing.bin")).size == 0


def test_a_stop_keeps_what_came(server: MirrorServer, places: Places) -> None:
    body = BODY * 20
    server.script("/stop", body, "slow", "ok")
    polls = iter([False, False])
    asset = plain([server.url("/stop")], body)
    with pytest.raises(Interrupted, match="thing: what came is kept"):
        fetch(asset, places, Settings(), SHORT, stopped=lambda: next(polls, True))
    assert Part(places.download(asset)).size > 0 and not places.download(asset).exists()
    assert get(asset, places).read_bytes() == body


# Backing off


def test_back_off_grows_is_capped_and_repeats(server: MirrorServer, places: Places) -> None:
    patience = replace(SHORT, attempts=6, backoff_seconds=1.0, backoff_limit_seconds=5.0)
    slept: list[list[float]] = [[], []]
    for waits in slept:
        server.script("/busy", BODY, "status:503")
        with pytest.raises(DownloadError, match="HTTP 503"):
            fetch(plain([server.url("/busy")]), places, Settings(), patience, sleep=waits.append)
    assert slept[0] == slept[1] and len(slept[0]) == 5
    assert all(0.5 * 2**n <= wait <= 2**n or wait == 5.0 for n, wait in enumerate(slept[0]))
    assert max(slept[0]) <= 5.0 and slept[0][0] < slept[0][2]


def test_progress_renews_the_attempts(server: MirrorServer, places: Places) -> None:
    """A link that breaks twenty times, each time further on, is no dead link."""
    script = server.script("/flaky", BODY, *["cut:500"] * 30, "ok")
    asset = plain([server.url("/flaky")], BODY)
    fetch(asset, places, Settings(), replace(SHORT, renew_bytes=400))
    assert len(script.asked) > 15


def test_a_refusal_is_not_repeated(server: MirrorServer, places: Places) -> None:
    scripts = [server.script(f"/no{status}", BODY, f"status:{status}") for status in (403, 404, 409)]
    text = refusal(plain([server.url(f"/no{status}") for status in (403, 404, 409)]), places)
    assert [len(script.asked) for script in scripts] == [1, 1, 1]
    assert "HTTP 403" in text and "HTTP 409 Conflict" in text


# What is wrong, where, what to do


@pytest.mark.parametrize(
    ("manner", "words"),
    [
        ("html", "gives a web page instead of data (titled 'Quota exceeded')"),
        ("wrong", "has sha256"),
        ("shorter", "has 5120 bytes instead of 10240"),
        ("longer", "gives more than 10240 bytes"),
        ("loop", "redirects in circles"),
        ("stall", "sent nothing for too long"),
        ("drip", "is too slow"),
        ("drip_head", "did not answer within"),
        ("cut:1", "broke off before the end"),
        ("hang_up", "connection failed"),
        ("status:503", "HTTP 503 Service Unavailable"),
    ],
)
def test_messages(server: MirrorServer, places: Places, manner: str, words: str) -> None:
    server.script("/say", BODY, manner)
    text = refusal(plain([server.url("/say")], BODY, otherwise="or do without"), places)
    assert f"{server.url('/say')}: {words}" in text
    assert text.startswith("thing: no mirror gave group/thing.bin.")
    assert "assets add FILE --id thing" in text and "or do without" in text and "\n" not in text


def test_structure_is_checked_where_no_checksum_is_known(server: MirrorServer, places: Places) -> None:
    for kind, body, words in [
        ("json", b'{"a": 1', "is not valid JSON"),
        ("jsonl", b'{"a": 1}\n[1]\n', "a line that is no JSON object"),
        ("text", b"ab\xff\xfe", "is not valid UTF-8 text"),
        ("torch", b"GIF89a\0\1", "is no torch file: it begins with 47 49 46 38"),
        ("torch", zip_of({"data.pkl": b"x" * 99}), "is compressed in it"),
        ("pickle", b"PK\x03\x04", "is no pickle file"),
        ("json", b"<html><title>A casino</title></html>", "(titled 'A casino')"),
    ]:
        server.script("/shape", body)
        assert words in refusal(plain([server.url("/shape")], format=kind), places), kind


def test_a_missing_end_must_be_visible(server: MirrorServer, places: Places) -> None:
    server.script("/chunks", BODY, "chunked")
    assert "a missing end would not show" in refusal(plain([server.url("/chunks")]), places)
    server.script("/chunks", b"[1, 2]", "chunked")
    assert get(plain([server.url("/chunks")], format="json"), places).read_bytes() == b"[1, 2]"


def test_a_file_far_too_large(server: MirrorServer, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lxmert.assets.accepting._SIZE_GRACE_BYTES", 0)
    server.script("/huge", BODY)
    text = refusal(plain([server.url("/huge")], about_bytes=100), places)
    assert "has 10240 bytes, more than the 800 this file can have" in text


def test_full_disk(server: MirrorServer, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    script = server.script("/disk", ARCHIVE)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 0, 3 * 10**9))
    asset = archive([server.url("/disk")], MEMBERS, about_bytes=2 * 10**9, about_unpacked_bytes=4 * 10**9)
    with pytest.raises(DataError) as caught:
        get(asset, places)
    for word in ("data/full/downloads/group", "about 6 GB", "3 GB free", "Free some space"):
        assert word in str(caught.value)
    assert not script.asked


def test_gates(server: MirrorServer, places: Places, caplog: pytest.LogCaptureFixture) -> None:
    server.script("/gate", BODY)
    asset = plain([server.url("/gate")], gate="club", terms="Members only.", licence="none")
    text = refusal(asset, places)
    assert "Members only." in text and "assets: {accept_terms: [club]}" in text
    with caplog.at_level(logging.INFO):
        get(asset, places, accept_terms=("club",))
    assert "licence: none" in caplog.text and "terms: Members only." in caplog.text


def test_by_hand_alone(places: Places) -> None:
    asset = plain([], mirrors=({"manual": "take x", "page": "https://pan.example/s", "code": "wwma"},))
    text = refusal(asset, places)
    assert "cannot be fetched by a program" in text
    assert "take x (https://pan.example/s, access code wwma)" in text and "--id thing" in text


# Own mirrors, local files, offline


def test_own_mirror_comes_first(server: MirrorServer, places: Places) -> None:
    script = server.script("/own/group/thing.bin", BODY)
    dead = server.script("/dead", BODY, "status:500")
    get(plain([server.url("/dead")]), places, mirrors=(server.url("/own/"),))
    assert script.asked and not dead.asked


@pytest.mark.parametrize("form", ["path", "url"])
def test_local_mirror_serves_offline(places: Places, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "share with blank"
    (folder / "group").mkdir(parents=True)
    (folder / "group" / "thing.bin").write_bytes(BODY)
    mirror = str(folder) if form == "path" else folder.as_uri()
    assert get(plain(["https://h/x"]), places, mirrors=(mirror,), offline=True).read_bytes() == BODY


def test_offline_asks_nobody(server: MirrorServer, places: Places) -> None:
    script = server.script("/off", BODY)
    text = refusal(plain([server.url("/off")]), places, offline=True)
    assert "offline mode" in text and not script.asked
    text = refusal(plain([server.url("/off"), "file:///nowhere/thing.bin"]), places, offline=True)
    assert "file:///nowhere/thing.bin: cannot be read (No such file or directory)" in text


def test_settings() -> None:
    found = read_settings(
        {"mirrors": ["/b"]}, "config.yaml", {"LXMERT_MIRROR": "/a https://m", "LXMERT_OFFLINE": "1"}
    )
    assert found == Settings(mirrors=("/a", "https://m", "/b"), offline=True)
    assert read_settings({}, "config.yaml", {"LXMERT_OFFLINE": "0"}) == Settings()
    with pytest.raises(
        SpecError, match='config.yaml: assets/accept_term: unknown setting. Did you mean "accept_terms"'
    ):
        read_settings({"accept_term": []}, "config.yaml", {})


def test_mirrors_of_other_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    asset = plain([], mirrors=({"hub": "org/name", "path": "vocab.txt"}, {"drive": "0123456789ab"}))
    hub, drive = sources(asset, Settings())
    assert hub.urls == ("https://huggingface.co/org/name/resolve/main/vocab.txt",)
    assert "id=0123456789ab" in drive.urls[0] and drive.label.endswith("?id=0123456789ab")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:5")
    assert sources(asset, Settings())[0].host == "127.0.0.1:5"
    (secret,) = sources(plain(["https://me:word@h/x?token=abc"]), Settings())
    assert secret.label == "https://h/x" and secret.host == "h"


def test_drive_page_is_confirmed(
    server: MirrorServer, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = server.script("/download", BODY, "page_form")
    monkeypatch.setattr("lxmert.assets.mirrors.DRIVE", server.url("/download?export=download&id={}"))
    asset = plain([], mirrors=({"drive": "0123456789ab"},))
    assert get(asset, places).read_bytes() == BODY and len(script.asked) == 2
    places.path("raw/group/thing.bin").unlink()
    server.script("/download", BODY, "html")
    assert "titled 'Quota exceeded'" in refusal(asset, places)


# Archives


def test_archive_is_unpacked_and_kept_on_wish(server: MirrorServer, places: Places) -> None:
    server.script("/keep", ARCHIVE)
    asset = archive([server.url("/keep")], MEMBERS)
    assert get(asset, places, keep_archives=True).read_bytes() == b"[1, 2]"
    assert places.download(asset).read_bytes() == ARCHIVE
    places.path("raw/group/a.json").unlink()
    del server.scripts["/keep"]
    assert get(asset, places).read_bytes() == b"[1, 2]"  # from the kept one
    assert not places.download(asset).exists()


def test_broken_archive_goes_to_the_next_mirror(server: MirrorServer, places: Places) -> None:
    stored = zip_of({"a.json": b"[1]" + b" " * 3000}, 0)
    bad = bytearray(stored)
    bad[1000] ^= 1
    server.script("/bad", bytes(bad))
    server.script("/fine", stored)
    assert get(archive([server.url("/bad"), server.url("/fine")], MEMBERS), places).stat().st_size == 3003


def test_members_on_request(server: MirrorServer, places: Places) -> None:
    script = server.script("/more", ARCHIVE)
    more = Member("raw/group/more", pattern="*.txt", on_request=True)
    asset = archive([server.url("/more")], [*MEMBERS, more])
    get(asset, places)
    assert not places.path("raw/group/more").exists()
    fetch(asset, places, Settings(), SHORT, also=asset.everything)
    assert (places.path("raw/group/more") / "other.txt").stat().st_size == 100 and len(script.asked) == 2
    fetch(asset, places, Settings(), SHORT, also=asset.everything)
    assert len(script.asked) == 2


def test_pieces_are_joined(server: MirrorServer, places: Places) -> None:
    cut = len(ARCHIVE) // 3
    pieces = {"aa": ARCHIVE[:cut], "ab": ARCHIVE[cut : 2 * cut], "ac": ARCHIVE[2 * cut :]}
    for suffix, body in pieces.items():
        server.script(f"/split/thing.zip.{suffix}", body, "cut:5", "ok")
    urls = [server.url(f"/split/thing.zip.{suffix}") for suffix in ("ab", "aa", "ac")]
    asset = archive([], MEMBERS, mirrors=({"parts": urls},))
    patience = replace(SHORT, attempts=5)
    assert fetch(asset, places, Settings(), patience)[0].read_bytes() == b"[1, 2]"
    assert not [path for path in places.downloads.rglob("*") if path.is_file() and path.suffix != ".lock"]
    gap = archive([], MEMBERS, mirrors=({"parts": [urls[1], urls[2]]},))
    places.path("raw/group/a.json").unlink()
    assert "have a gap" in refusal(gap, places)


def test_ids_are_derived(server: MirrorServer, places: Places) -> None:
    records = [{"img_id": f"COCO_val2014_{number:012d}", "sent": "?"} for number in (42, 7, 42)]
    server.script("/ids", json.dumps(records).encode())
    asset = plain(
        [server.url("/ids")],
        format="json",
        derived=({"place": "raw/vqa/minival_ids.json", "by": "coco_image_ids", "of": "raw/group/thing.bin"},),
    )
    get(asset, places)
    assert json.loads(places.path("raw/vqa/minival_ids.json").read_text()) == [7, 42]


def test_unwritable_folder(server: MirrorServer, places: Places) -> None:
    server.script("/ro", BODY)
    (places.root / "data").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="not a folder"):
        get(plain([server.url("/ro")]), places)


def test_strangers_in_a_folder(server: MirrorServer, places: Places) -> None:
    server.script("/folder", zip_of({"1.jpg": b"1", "2.jpg": b"2"}))
    asset = archive([server.url("/folder")], [Member("raw/pictures", pattern="*.jpg")])
    folder = get(asset, places)
    (folder / "1.jpg").unlink()
    (folder / "old.jpg").write_bytes(b"0")
    (folder / "notes.txt").write_bytes(b"fine")
    with pytest.raises(
        DataError, match="data/full/raw/pictures: holds 1 files .* first old.jpg. Move them away"
    ):
        get(asset, places)
    (folder / "old.jpg").unlink()
    get(asset, places)
    assert state(asset, places, Lock(places.lock_file).record("thing")) == "ready"


def test_a_stop_ends_the_waiting(server: MirrorServer, places: Places) -> None:
    script = server.script("/wait", BODY, "status:503")
    with pytest.raises(Interrupted):
        fetch(
            plain([server.url("/wait")]),
            places,
            Settings(),
            replace(SHORT, backoff_seconds=60.0),
            stopped=lambda: bool(script.asked),
        )
    assert len(script.asked) == 1


def test_nothing_is_left_of_the_staging_folder(server: MirrorServer, places: Places) -> None:
    server.script("/left", ARCHIVE)
    get(archive([server.url("/left")], MEMBERS), places)
    left = sorted(path.name for path in places.downloads.rglob("*"))
    assert left == [".thing.lock", "group"]
    assert os.listdir(places.path("raw/group/a.json").parent) == ["a.json"]
