"""Crawling images: what is asked, what is taken, what is refused, and what a person is told."""

from __future__ import annotations

import io
import json
import logging
import socket
import struct
import threading
import time
import zlib
from dataclasses import replace

import pytest
from asset_tools import zip_of
from crawl_tools import BOUNDS, MANNERS, SmallSet, picture
from mirror_server import PAGE, MirrorServer
from PIL import Image

from lxmert.assets.catalogue import Catalogue, load_catalogue
from lxmert.assets.crawl.crawling import crawl, crawlable, status_path
from lxmert.assets.crawl.hosts import Hosts
from lxmert.assets.crawl.pictures import NoPicture, format_of, read_picture
from lxmert.assets.crawl.wanted import read_nlvr2
from lxmert.assets.crawl.web import Fetcher, NoAnswer
from lxmert.assets.dropin import add
from lxmert.assets.inventory import state
from lxmert.assets.lock import Lock
from lxmert.assets.places import Places, Settings
from lxmert.cli import main
from lxmert.errors import DataError, DownloadError, Interrupted, SpecError


@pytest.fixture
def small(server: MirrorServer, places: Places) -> SmallSet:
    made = SmallSet(places, server)
    made.write()
    return made


# What is brought


def test_every_image_comes_once_under_the_name_the_graph_reads(small, caplog):
    with caplog.at_level(logging.INFO):
        outcome = small.crawl()
    assert small.found() == small.bodies and len(small.bodies) == 6
    assert all(small.asked(name) == 1 for name in small.bodies)  # though two sentences speak of each
    assert set(small.states().values()) == {"done"} and outcome.missing() == {}
    assert outcome.sentences() == (6, 6)
    assert "6 of 6 images are there (100.00 %); 6 of 6 sentences have both theirs" in caplog.text
    assert "terms: For research only." in caplog.text
    small.crawl()
    assert all(small.asked(name) == 1 for name in small.bodies)


def test_train_lies_in_numbered_folders(server, places):
    small = SmallSet(places, server, split="train", folders=True)
    small.write()
    small.crawl()
    assert sorted(small.found())[:2] == ["0/train-0-0-img0.png", "0/train-0-0-img1.png"]
    assert small.found() == small.bodies


def test_an_address_of_two_images_is_asked_once(small):
    first, second = small.name(0, 0), small.name(2, 1)
    small.addresses[second] = small.addresses[first]
    small.bodies[second] = small.bodies[first]
    small.write()
    small.crawl()
    assert small.found() == small.bodies and small.asked(first) == 1


def test_what_happened_to_each_address(small, caplog):
    names = sorted(small.bodies)
    small.script(names[0], "status:404")
    small.script(names[1], "html")
    small.script(names[2], "ok", body=picture(77))
    small.script(names[3], "status:403")
    small.addresses[names[4]] = "ftp://example.org/x.jpg"
    small.script(names[5], "status:503")
    small.write()
    with caplog.at_level(logging.INFO), pytest.raises(DownloadError, match="not one of 6 images came"):
        small.crawl()
    expected = ["gone", "no_picture", "wrong_hash", "refused", "bad_address", "no_answer"]
    assert [small.states()[name] for name in names] == expected and small.found() == {}
    report = small.report()
    assert report["missing"] == dict.fromkeys(expected, 1)
    assert report["sentences_with_both_images"] == 0 and report["sentences"] == 6
    gone = next(entry for entry in report["missing_images"] if entry["state"] == "gone")
    assert gone == {
        "image": names[0],
        "state": "gone",
        "why": "HTTP 404",
        "address": small.addresses[names[0]],
    }
    for words in ("1 gone", "1 another picture", "1 no answer", ".missing.json"):
        assert words in caplog.text


def test_a_second_run_asks_only_those_that_may_come_back(small):
    names = sorted(small.bodies)
    small.script(names[0], "status:404")
    small.script(names[1], "status:503")
    small.script(names[2], "html")
    small.script(names[3], "ok", body=picture(78))
    small.crawl()
    assert small.asked(names[1]) == 3  # attempts
    before = {name: small.asked(name) for name in names}
    for name in names[:4]:
        small.script(name, "ok")
    small.crawl()
    asked = {name: small.asked(name) for name in names[:4]}
    assert asked == {names[0]: 0, names[1]: 1, names[2]: 0, names[3]: 0}
    assert before[names[5]] == small.asked(names[5]) == 1
    small.crawl(again=("gone",))
    assert small.asked(names[0]) == 1 and small.asked(names[2]) == 0
    small.crawl(tolerance_bits=64)  # takes what differed by less
    assert small.asked(names[3]) == 1
    small.crawl(again=("no_picture",))
    assert small.found() == small.bodies


def test_another_address_in_the_records_is_asked(small):
    name = small.name(1, 0)
    small.script(name, "status:410")
    small.crawl()
    assert small.states()[name] == "gone"
    small.addresses[name] += "?again"
    small.script(name, "ok")
    small.write()
    small.crawl()
    assert small.states()[name] == "done"


def test_equal_answers_leave_equal_files(server, tmp_path):
    written = []
    for number in range(2):
        small = SmallSet(Places(tmp_path / str(number) / "same"), server, pairs=12)
        for place, manner in enumerate(["status:404", "html", "status:503"]):
            small.script(small.name(place, 1), manner)
        small.write()
        small.crawl()
        written.append(
            [path.read_bytes() for path in sorted((small.places.root / "data/full/crawl").iterdir())]
        )
    assert written[0] == written[1] and len(written[0]) == 2


def test_files_that_are_there_are_looked_at_and_kept(small, caplog):
    own, broken = small.name(0, 0), small.name(0, 1)
    small.folder.mkdir(parents=True)
    (small.folder / own).write_bytes(small.bodies[own])
    (small.folder / broken).write_bytes(b"my own bytes")
    leftover = small.folder / f"{small.name(2, 0)}.tmp-elsewhere-1"
    leftover.write_bytes(b"half")
    small.crawl()
    assert small.asked(own) == small.asked(broken) == 0 and not leftover.exists()
    assert (small.folder / broken).read_bytes() == b"my own bytes"
    assert "is yours and stays as it is" in caplog.text
    status_path(small.asset, small.places).unlink()  # a lost status file costs no new request
    small.crawl()
    assert max(small.asked(name) for name in small.bodies) == 1


# Mirrors and offline mode


def test_a_mirror_of_ones_own_is_asked_first(small, tmp_path):
    mirror = tmp_path / "mirror with blanks"
    for name in (small.name(0, 0), small.name(1, 1)):
        path = mirror / "nlvr2/images/dev" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small.bodies[name])
    (mirror / "nlvr2/images/dev" / small.name(2, 0)).write_bytes(picture(99))  # another one: not taken
    small.crawl(mirrors=(str(mirror), small.server.url("/nothing")))
    assert small.found() == small.bodies
    assert small.asked(small.name(0, 0)) == 0 and small.asked(small.name(2, 0)) == 1


def test_offline_asks_nobody_and_settles_nothing(small, tmp_path):
    path = tmp_path / "mirror/nlvr2/images/dev" / small.name(0, 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(small.bodies[path.name])
    outcome = small.crawl(offline=True, mirrors=(f"file://{tmp_path}/mirror", small.server.url("/nothing")))
    assert list(small.found()) == [path.name] and small.states() == {path.name: "done"}
    assert {state: len(names) for state, names in outcome.missing().items()} == {"not_asked": 5}
    small.crawl()
    assert small.found() == small.bodies


# Terms, records, verb


def test_terms_must_be_accepted(small):
    with pytest.raises(DownloadError, match=r"accept_terms: \[nlvr2_images\]"):
        crawl(small.asset, Catalogue([small.asset]), small.places, Settings(), MANNERS)
    assert not small.folder.exists() and not any(small.asked(name) for name in small.bodies)


def test_what_can_be_crawled():
    catalogue = load_catalogue()
    ids = [asset.id for asset in crawlable(catalogue, ["nlvr2"])]
    assert ids == ["nlvr2_images_train", "nlvr2_images_dev", "nlvr2_images_test1"]
    assert [asset.id for asset in crawlable(catalogue, ["nlvr2_images_test2"])] == ["nlvr2_images_test2"]
    for names, words in ((["nlvr"], 'Did you mean "nlvr2"'), ([], "Name one of: nlvr2")):
        with pytest.raises(SpecError, match=words):
            crawlable(catalogue, names)
    for asset in catalogue.assets.values():
        for place in asset.crawl.values():
            assert catalogue.producer(place).place == place


def test_the_verb_crawls_for_the_graph(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LXMERT_MIRROR", small.server.url("/nothing"))
    small.script(small.name(1, 1), "status:404")
    settings = json.dumps({"accept_terms": ["nlvr2_images"]})
    receipt = tmp_path / "receipt.json"
    options = ["--root", str(small.places.root), "--settings", settings, "--out-receipt", str(receipt)]
    assert main(["assets", "crawl", "nlvr2_images_dev", *options]) == 0
    assert capsys.readouterr().out == "data/full/crawl/nlvr2_images_dev.missing.json\n"
    record = json.loads(receipt.read_text())
    assert record["places"]["raw/nlvr2/images/dev"]["files"] == 5
    before = receipt.stat()
    assert main(["assets", "crawl", "nlvr2_images_dev", *options]) == 0
    assert receipt.stat().st_mtime_ns == before.st_mtime_ns  # the same: nothing runs again
    assert main(["assets", "crawl", "nlvr2", *options]) == 2
    assert "one asset at a time" in capsys.readouterr().err


def test_a_crawl_by_hand_tells_the_graph(small, monkeypatch):
    monkeypatch.setenv("LXMERT_MIRROR", small.server.url("/nothing"))
    settings = json.dumps({"accept_terms": ["nlvr2_images"]})
    command = [
        "assets",
        "crawl",
        "nlvr2_images_dev",
        "--root",
        str(small.places.root),
        "--settings",
        settings,
    ]
    small.script(small.name(1, 1), "status:404")
    assert main(command) == 0
    receipt = small.places.crawls / "nlvr2_images_dev.json"
    assert not receipt.exists()  # the graph has asked for none
    assert main([*command, "--out-receipt", str(receipt)]) == 0
    small.script(small.name(1, 1), "ok")
    assert main([*command, "--again", "gone"]) == 0
    assert json.loads(receipt.read_text())["places"]["raw/nlvr2/images/dev"]["files"] == 6


def test_crawled_images_are_verified(small, tmp_path, capsys):
    command = ["assets", "verify", "--root", str(small.places.root)]
    small.crawl()
    assert main([*command, "nlvr2_images_dev"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["ok", "data/full/raw/nlvr2/images/dev"]
    changed, gone = small.name(0, 0), small.name(2, 1)
    (small.folder / changed).write_bytes(small.bodies[gone])
    (small.folder / gone).unlink()
    for name in ([], ["nlvr2_images_dev"]):
        assert main([*command, *name]) == 2
        told = capsys.readouterr()
        assert f"images/dev/{changed} (nlvr2_images_dev) is changed" in told.err
        assert f"images/dev/{gone} (nlvr2_images_dev) is missing" in told.err and "crawl ID" in told.err
    (small.folder / changed).unlink()
    small.crawl()
    assert main([*command, "nlvr2_images_dev"]) == 0


def test_the_archive_may_come_later(small, tmp_path):
    """Its images take the places of crawled ones, and are recorded as if there had been no crawl."""
    missing = small.name(2, 0)
    small.script(missing, "status:404")
    small.crawl()
    assert missing not in small.found()
    path = tmp_path / "from_the_form.zip"
    path.write_bytes(zip_of({f"dev/{name}": body for name, body in small.bodies.items()}))
    catalogue, settings = Catalogue([small.asset]), Settings(accept_terms=("nlvr2_images",))
    add([path], catalogue, small.places, settings, small.asset.id)
    assert small.found() == small.bodies
    assert state(small.asset, small.places, Lock(small.places.lock_file).record(small.asset.id)) == "ready"
    small.crawl()  # has nothing left to ask for
    assert small.asked(missing) == 1


LINE = {"identifier": "dev-1-0-0", "left_url": "http://x/a", "right_url": "http://x/b"}


@pytest.mark.parametrize(
    ("line", "hashes", "words"),
    [
        ({**LINE, "identifier": "dev-1-0"}, None, "records.json:1: an identifier is split-set-pair-sentence"),
        ({**LINE, "identifier": "../dev-1-0-0"}, None, "records.json:1: an identifier is"),
        ({**LINE, "left_url": None}, None, '"left_url" must be text'),
        ({**LINE, "directory": "../.."}, None, '"directory" must be 0 to 99'),
        (LINE, {"dev-1-0-img0.png": "0" * 16}, "has no hash of dev-1-0-img1.png"),
        (LINE, {"dev-1-0-img0.png": "zz"}, "must be 16 hex digits"),
        (LINE, [], "must hold one object"),
    ],
)
def test_faulty_records_are_one_line(tmp_path, line, hashes, words):
    records, table = tmp_path / "records.json", tmp_path / "hashes.json"
    records.write_text(json.dumps(line) + "\n")
    table.write_text(json.dumps(hashes))
    with pytest.raises(DataError) as caught:
        read_nlvr2(records, None if hashes is None else table)
    assert words in str(caught.value)


def test_records_that_differ_about_an_image(tmp_path):
    records = tmp_path / "records.json"
    lines = [LINE, {**LINE, "identifier": "dev-1-0-1", "left_url": "http://x/other"}]
    records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match="records.json:2: gives dev-1-0-img0.png another address"):
        read_nlvr2(records, None)


def test_the_published_records(shared_data):
    found = read_nlvr2(shared_data / "nlvr2/dev.json", None)
    assert len(found.images) == 8102 and len({image.address for image in found.images.values()}) == 8071
    assert len(found.sentences) == 4051 and sum(found.sentences.values()) == 6982


# Pictures


def test_formats_are_told_by_bytes():
    assert [format_of(picture(number)) for number in range(4)] == ["PNG", "JPEG", "GIF", "BMP"]
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20)).save(buffer, "WEBP")
    assert format_of(buffer.getvalue()) == "WEBP" and format_of(PAGE) is None
    for body, words in (
        (PAGE, "a web page"),
        (b"", "empty"),
        (b"PK\x03\x04", "begins with 50 4b 03 04"),
        (b"\xff\xd8\xff" + bytes(90), "a broken JPEG picture"),
    ):
        with pytest.raises(NoPicture, match=words):
            read_picture(body)


@pytest.mark.parametrize("number", range(4))
def test_a_picture_is_decoded_to_its_last_pixel(number):
    body = picture(number)
    read_picture(body)
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(NoPicture):
            read_picture(body[: int(len(body) * share)])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_dots_and_bombs_are_no_photographs():
    for width, height in ((1, 1), (400, 4), (12_000, 12_000), (60_000, 60_000)):
        head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
        body = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
        with pytest.raises(NoPicture, match="pixels"):
            read_picture(body + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))


def test_a_copy_at_another_size_is_the_same_picture(small):
    name = small.name(0, 1)
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(small.bodies[name])) as image:
        image.convert("RGB").resize((97, 61)).save(buffer, "JPEG", quality=60)
    small.script(name, "ok", body=buffer.getvalue())
    small.crawl()
    assert small.found()[name] == buffer.getvalue()


# The web


def test_local_machines_are_not_asked(small, server):
    fetcher = Fetcher(BOUNDS, frozenset())
    port = server.server_address[1]
    for url in (
        f"http://127.0.0.1:{port}/x",
        f"http://[::1]:{port}/x",
        f"http://[::ffff:127.0.0.1]:{port}/x",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/x",
        f"http://localhost:{port}/x",
        "file:///etc/passwd",
        "http://[::1",
    ):
        with pytest.raises(NoAnswer) as caught:
            fetcher.get(url)
        assert caught.value.state == "bad_address" and not caught.value.again, url


def test_a_name_that_leads_to_a_local_machine_is_hung_up_on(small, server, monkeypatch):
    name = small.name(0, 0)
    script = small.script(name, "ok")
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1", *rest, **more))
    url = small.addresses[name].replace("127.0.0.1", "pictures.example.org")
    with pytest.raises(NoAnswer, match=r"pictures\.example\.org is a local address"):
        Fetcher(BOUNDS, frozenset()).get(url)
    assert script.asked == []
    trusted = frozenset({f"pictures.example.org:{server.server_address[1]}"})
    assert Fetcher(BOUNDS, trusted).get(url) == small.bodies[name]


def test_redirects_are_followed_within_bounds_and_never_inwards(small, server):
    first, second, third = (small.name(pair, 0) for pair in range(3))
    for name, target in (
        (first, "/there/a b.jpg"),
        (second, "http://10.1.2.3/x"),
        (third, "file:///etc/hosts"),
    ):
        small.script(name, "away", body=target.encode())
    server.script("/there/a%20b.jpg", small.bodies[first])
    loop = small.name(0, 1)
    small.script(loop, "loop")
    small.crawl()
    assert small.found()[first] == small.bodies[first]
    states = small.states()
    assert states[second] == states[third] == states[loop] == "bad_address"
    assert small.asked(loop) == BOUNDS.redirects + 1


def test_no_passwords_go_to_strangers(small, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    script = small.script(small.name(0, 0), "ok")
    small.crawl()
    assert "Authorization" not in script.headers and script.headers["User-Agent"].startswith("lxmert/")


def test_large_and_endless_bodies_are_left(small):
    large, endless = small.name(0, 0), small.name(0, 1)
    small.script(large, "ok", body=bytes(300_000))
    small.script(endless, "drip", body=bytes(100_000))
    began = time.monotonic()
    small.crawl(attempts=1, bounds=replace(BOUNDS, whole_seconds=0.5))
    assert small.states()[large] == "too_large" and small.states()[endless] == "no_answer"
    assert 0.5 < time.monotonic() - began < 20


# Manners


def test_no_more_than_so_many_at_a_host(server, places):
    small = SmallSet(places, server, pairs=12)
    for name in small.bodies:
        small.script(name, "busy:3")
    small.write()
    server.peak = 0
    small.crawl(per_host=2, mirrors=(server.url("/nothing"),))
    # Two at their addresses; the mirror of one's own is asked by the same two.
    assert server.peak <= 2 and small.found() == small.bodies


def test_hosts_take_turns_and_pauses():
    hosts: Hosts[int] = Hosts(per_host=1, interval_seconds=0.0, failures=9)
    for number in range(4):
        hosts.add("a", number)
    hosts.add("b", 10)
    never = lambda: False  # noqa: E731
    assert hosts.take(never) == ("a", 0) and hosts.take(never) == ("b", 10)
    timer = threading.Timer(0.05, hosts.release, ("a", True, 0, 0.1))  # asked again after a pause
    timer.start()
    began = time.monotonic()
    assert hosts.take(never) == ("a", 0) and time.monotonic() - began >= 0.14
    hosts.release("a", True)
    hosts.release("b", True)
    assert [hosts.take(never), hosts.release("a", True), hosts.take(never)] == [("a", 1), [], ("a", 2)]
    assert hosts.take(lambda: True) is None


def test_a_host_out_of_reach_is_given_up():
    hosts: Hosts[int] = Hosts(per_host=1, interval_seconds=0.0, failures=2)
    for number in range(5):
        hosts.add("a", number)
    assert hosts.take(lambda: False) == ("a", 0) and hosts.release("a", reached=False) == []
    assert hosts.take(lambda: False) == ("a", 1) and hosts.release("a", reached=False) == [2, 3, 4]
    assert hosts.take(lambda: False) is None


def test_images_of_a_host_out_of_reach_are_told_so(small, places):
    with socket.socket() as closed:  # a port nobody listens at
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        dead = [small.name(pair, side) for pair in range(2) for side in (0, 1)]
        for name in dead:
            small.addresses[name] = f"http://127.0.0.1:{port}/{name}"
        small.write()
        mirrors = (small.server.url("/nothing"), f"http://127.0.0.1:{port}/")
        small.crawl(host_failures=1, per_host=1, attempts=1, mirrors=mirrors)
    whys = {entry["image"]: entry["why"] for entry in small.report()["missing_images"]}
    assert sorted(whys) == dead and "its host is out of reach" in whys.values()
    assert set(small.states()[name] for name in dead) == {"no_answer"}


def test_a_machine_that_is_not_on_the_net_gives_up_early(server, places):
    small = SmallSet(places, server, pairs=30)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        small.addresses = {name: f"http://127.0.0.1:{port}/{name}" for name in small.bodies}
        small.write()
        dead = f"http://127.0.0.1:{port}/"
        with pytest.raises(DownloadError, match="none of 10 addresses could be reached. Is this machine on"):
            small.crawl(first_failures=10, attempts=1, connections=1, mirrors=(dead,))
        assert set(small.states().values()) == {"no_answer"} and len(small.states()) == 10
        why = json.loads(status_path(small.asset, places).read_text().splitlines()[0])["why"]
        assert why == "cannot be reached (Connection refused)"
        # Where something is there already, others may well be dead.
        small.folder.mkdir(parents=True)
        (small.folder / small.name(0, 0)).write_bytes(small.bodies[small.name(0, 0)])
        assert len(small.crawl(first_failures=10, attempts=1, mirrors=(dead,)).there) == 1


def test_a_host_that_asks_for_patience_gets_it(small):
    name = small.name(0, 0)
    script = small.script(name, "status:429", "ok")
    script.etag = None
    began = time.monotonic()
    small.crawl(backoff_seconds=0.4)
    assert time.monotonic() - began >= 0.2 and small.found() == small.bodies


def test_progress_counts_what_is_there_and_what_is_not(small, caplog, monkeypatch):
    monkeypatch.setattr("lxmert.progress._LINE_SECONDS", 0.0)
    small.script(small.name(0, 0), "status:404")
    small.script(small.name(0, 1), "status:503")
    with caplog.at_level(logging.INFO):
        small.crawl()
    shown = [text for text in caplog.messages if text.startswith("crawl nlvr2_images_dev: 6/6 images")]
    assert shown and "images/s, 0 s left, 4 there, 2 missing" in shown[-1]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        small.crawl()
    assert "5 images are settled, 1 addresses to ask" in caplog.text
    assert "crawl nlvr2_images_dev: 6/6 images" in caplog.text


def test_stopped_between_images_and_gone_on(server, places):
    small = SmallSet(places, server, pairs=20)
    small.write()
    with pytest.raises(Interrupted, match="what came is kept"):
        small.crawl(connections=1, stopped=lambda: len(small.found()) >= 5)
    got = small.found()
    assert 5 <= len(got) < 40
    small.crawl()
    assert small.found() == small.bodies
    assert all(small.asked(name) == 1 for name in small.bodies)


def test_a_full_disk_is_one_line(small, monkeypatch):
    def full(path, body):
        raise DataError(f"{path}: no space left on the device; free some space.")

    monkeypatch.setattr("lxmert.assets.crawl.crawler.atomic_write_bytes", full)
    with pytest.raises(DataError, match="no space left"):
        small.crawl()
    assert small.found() == {}


def test_a_foreign_status_file_is_refused(small):
    path = status_path(small.asset, small.places)
    path.parent.mkdir(parents=True)
    path.write_text('{"image": "x"}\n')
    with pytest.raises(DataError, match="nlvr2_images_dev.jsonl:1: is no line of a crawl"):
        small.crawl()
    path.write_text('{"image": "x", "address": "a", "state": "done"}\n{"image": "half')
    small.crawl()
    assert small.found() == small.bodies and "x" not in small.states()
