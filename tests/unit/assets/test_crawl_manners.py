"""Crawling images: what a picture is, which addresses are asked, and how hosts are treated."""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import struct
import threading
import time
import zlib
from dataclasses import replace
from email.utils import formatdate

import pytest
from crawl_tools import BOUNDS, SmallSet, picture
from mirror_server import PAGE
from PIL import Image

from lxmert.assets.crawl.crawling import status_path
from lxmert.assets.crawl.guard import is_local
from lxmert.assets.crawl.hosts import Hosts
from lxmert.assets.crawl.pictures import NoPicture, format_of, read_picture
from lxmert.assets.crawl.web import Fetcher, NoAnswer
from lxmert.errors import DataError, DownloadError, Interrupted

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


@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:9"])
def test_local_machines_are_not_asked(small, server, monkeypatch, proxy):
    if proxy:  # which would see more machines than this one does
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("NO_PROXY", "")
    fetcher = Fetcher(BOUNDS, frozenset())
    port = server.server_address[1]
    for url in (
        f"http://127.0.0.1:{port}/x",
        f"http://[::1]:{port}/x",
        f"http://[::ffff:127.0.0.1]:{port}/x",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/x",
        f"http://localhost:{port}/x",
        f"http://localhost.:{port}/x",
        f"http://me.LocalHost:{port}/x",
        f"http://127.1:{port}/x",
        f"http://2130706433:{port}/x",
        f"http://0x7f000001:{port}/x",
        f"http://0177.0.0.1.:{port}/x",
        f"http://\uff11\uff12\uff17.0.0.1:{port}/x",
        f"http://[::127.0.0.1]:{port}/x",
        f"http://[2002:7f00:1::]:{port}/x",
        f"http://[64:ff9b::7f00:1]:{port}/x",
        f"http://[2001:0:4136:e378:8000:63bf:80ff:fffe]:{port}/x",
        "file:///etc/passwd",
        "http://[::1",
    ):
        with pytest.raises(NoAnswer) as caught:
            fetcher.get(url)
        assert caught.value.state == "bad_address" and not caught.value.again, url


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "2606:4700::1", "2002:808:808::", "64:ff9b::808:808", "a.example"]
)
def test_the_open_web_is_not_local(host):
    assert not is_local(host)


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


def test_few_pictures_are_unpacked_at_a_time(small, monkeypatch):
    now, peak, guard = 0, 0, threading.Lock()

    def slow(body):
        nonlocal now, peak
        with guard:
            now, peak = now + 1, max(peak, now + 1)
        time.sleep(0.05)
        with guard:
            now -= 1
        return read_picture(body)

    monkeypatch.setattr("lxmert.assets.crawl.pictures.read_picture", slow)
    small.crawl()
    assert small.found() == small.bodies and peak == 2


# Manners


def test_no_more_than_so_many_at_a_host(server, places):
    small = SmallSet(places, server, pairs=12)
    for name in small.bodies:
        small.script(name, "busy:3")
    small.write()
    server.peak = 0
    small.crawl(per_host=2, mirrors=(server.url("/nothing"),))
    # Two at their addresses; the mirror of one's own is asked by the same two. The server may still be
    # counting an answer that has arrived, so each of the two can count twice; unbounded it would be 24.
    assert server.peak <= 4 and small.found() == small.bodies


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


def test_a_host_that_sends_on_to_a_dead_one_is_not_given_up(small):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/x"
        sent_on = sorted(small.bodies)[:3]
        for name in sent_on:
            small.script(name, "away", body=dead.encode())
        mirrors = (small.server.url("/nothing"), dead)
        small.crawl(host_failures=1, per_host=1, connections=1, attempts=1, mirrors=mirrors)
    assert small.found() == {name: body for name, body in small.bodies.items() if name not in sent_on}
    assert {small.states()[name] for name in sent_on} == {"no_answer"}


@pytest.mark.parametrize("dated", [False, True])
def test_a_host_that_asks_for_an_hour_is_left_to_the_next_crawl(small, dated):
    first, *others = sorted(small.bodies)
    script = small.script(first, "status:429", "ok")
    script.more["Retry-After"] = formatdate(time.time() + 3600, usegmt=True) if dated else "3600"
    small.folder.mkdir(parents=True)
    (small.folder / others[0]).write_bytes(small.bodies[others[0]])
    small.crawl(per_host=1, connections=1, backoff_limit_seconds=2.0)
    assert small.asked(first) == 1 and max(map(small.asked, others)) == 0
    assert {small.states()[name] for name in (first, *others[1:])} == {"no_answer"}
    whys = {entry["image"]: entry["why"] for entry in small.report()["missing_images"]}
    assert whys[first] == "HTTP 429" and re.fullmatch(
        r"its host asks to be left alone for (3600|359\d) s", whys[others[-1]]
    )
    script.more.clear()
    small.crawl()
    assert small.found() == small.bodies


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
