"""Mirrors that misbehave in every way, drawn from a seed, also with the fetching process killed.

Two things must hold: nothing wrong or partial ever stands under a final name, and the fetch succeeds
whenever any mirror is honest.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from asset_tools import SHORT, archive, caffemodel_of, plain, safetensors_of, torch_of, zip_of  # noqa: E402
from mirror_server import MirrorServer, running  # noqa: E402

from lxmert.assets.asset import Asset, Member  # noqa: E402
from lxmert.assets.fetch import fetch  # noqa: E402
from lxmert.assets.lock import Lock  # noqa: E402
from lxmert.assets.places import Places, Settings  # noqa: E402
from lxmert.errors import DownloadError  # noqa: E402

# Longer than one test alone needs: four dozen episodes share the processor with whatever else runs.
PATIENCE = dataclasses.replace(SHORT, header_seconds=2.0, read_seconds=1.4, slow_seconds=0.8, attempts=4)
EPISODES = 640
KILLED_EPISODES, KILLS = 20, 3
# Manners by how often they are drawn; {n} is a random byte.
BAD = {
    "status:409": 3,
    "status:404": 2,
    "status:503": 3,
    "html": 3,
    "complaint": 3,
    "line": 3,
    "wrong": 3,
    "longer": 2,
    "shorter": 2,
    "loop": 2,
    "hang_up": 2,
    "cut:{n}": 3,
    "reset:{n}": 3,
    "chunked_cut:{n}": 2,
    "stall": 1,
    "stall_head": 1,
    "drip": 1,
    "drip_head": 1,
}
# What an honest mirror may do first; it has two attempts more than these.
HICCUPS = ["status:503", "cut:{n}", "reset:{n}", "hang_up", "chunked_cut:{n}", "wrong_range", "status:429"]
HONEST = ["ok", "ok", "ok", "no_range", "chunked"]
KINDS = ["published", "recorded", "archive", "published archive", "first use"]
# What a plain file is whose size and checksum nobody published.
FIRST_USE = ["binary", "caffemodel", "json", "pickle", "safetensors", "torch", "old torch"]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("LXMERT_MIRROR", "LXMERT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def server() -> Iterator[MirrorServer]:
    with running() as started:
        started.patience = 3.0
        yield started


class Episode:
    """One asset with its mirrors, all of it a function of the number."""

    def __init__(self, number: int, server: MirrorServer, root: Path, calm: bool = False) -> None:
        self.random = random.Random(f"mirrors {number}")
        self.places = Places(root / str(number))
        self.kind = self.random.choice(KINDS)
        self.format = self.random.choice(FIRST_USE) if self.kind == "first use" else "binary"
        files = {f"deep/{name}.json": self._json() for name in ("a", "b")}
        files |= {f"pictures/{index}.jpg": self.random.randbytes(500) for index in range(5)}
        self.members = [
            Member("raw/group/a.json", name="a.json"),
            Member("raw/group/b.json", name="b.json"),
            Member("raw/group/pictures", pattern="*.jpg", files=5),
        ]
        in_archive = "archive" in self.kind
        self.body = zip_of(files) if in_archive else self._plain_body()
        self.expected = (
            {f"raw/group/{name.removeprefix('deep/')}": body for name, body in files.items()}
            if in_archive
            else {"raw/group/thing.bin": self.body}
        )
        self.mirrors = [self._bad() for _ in range(self.random.randint(0, 3))]
        self.honest = calm or self.random.random() < 0.8
        if self.honest:
            self.mirrors.insert(self.random.randint(0, len(self.mirrors)), self._honest())
        elif not self.mirrors:
            self.mirrors = [self._bad()]
        urls = []
        for position, manners in enumerate(self.mirrors):
            path = f"/{root.name}/{number}/{position}"
            etag = self.random.choice(['"1"', 'W/"1"', None])
            server.script(path, self.body, *manners, etag=etag, more=self._stated(manners))
            urls.append(server.url(path))
        known = self.body if self.kind.startswith("published") else None
        if in_archive:
            self.asset = archive(urls, self.members, known)
        elif self.kind == "first use":
            kind = self.format.split()[-1]
            self.asset = plain(urls, format=kind, about_bytes=self.random.randint(1, 4) * len(self.body))
        else:
            self.asset = plain(urls, known)
        if self.kind == "recorded":
            self._record()

    def _json(self) -> bytes:
        return json.dumps(
            [self.random.randint(0, 10**9) for _ in range(self.random.randint(1, 3000))]
        ).encode()

    def _plain_body(self) -> bytes:
        """Random numbers in the form that the format asks for."""
        numbers = self.random.randbytes(4 * self.random.randint(200, 8000))
        match self.format:
            case "caffemodel":
                return caffemodel_of(numbers, numbers[:400])
            case "json":
                return self._json()
            case "pickle":
                return pickle.dumps({"model": {"w": numbers}}, self.random.choice([2, 4]))
            case "safetensors":
                return safetensors_of({"a": numbers, "b": numbers[:100]})
            case "torch" | "old torch":
                return _torch_body(self.format, self.random.randrange(4))
        return numbers if self.kind == "first use" else numbers[: self.random.randint(1, 40_000)]

    def _stated(self, manners: list[str]) -> dict[str, str]:
        """The checksum a mirror states of the honest bytes: always where nothing else shows what it does."""
        if self.kind != "first use":
            return {}
        hidden = {"wrong", "chunked", "chunked_cut"}
        hidden |= {"shorter", "longer"} if self.format == "binary" else set()
        if not hidden & {manner.partition(":")[0] for manner in manners} and self.random.random() < 0.7:
            return {}
        if self.random.random() < 0.5:
            return {"X-Linked-Etag": f'"{hashlib.sha256(self.body).hexdigest()}"'}
        return {"x-goog-hash": f"md5={base64.b64encode(hashlib.md5(self.body).digest()).decode()}"}

    def _fill(self, manner: str) -> str:
        return manner.replace("{n}", str(self.random.randint(0, 3 * len(self.body) // 2)))

    def _bad(self) -> list[str]:
        return [self._fill(self.random.choices(list(BAD), weights=list(BAD.values()))[0])]

    def _honest(self) -> list[str]:
        hiccups = self.random.choices(HICCUPS, k=self.random.randint(0, PATIENCE.attempts - 2))
        return [self._fill(hiccup) for hiccup in hiccups] + [self.random.choice(HONEST)]

    def _record(self) -> None:
        entry = plain([], self.body)
        record = {"bytes": entry.bytes, "sha256": entry.sha256}
        file = {"name": entry.file, **record}
        Lock(self.places.lock_file).add("thing", file, "an earlier fetch", {str(entry.place): record})

    def found(self) -> dict[str, bytes]:
        """Whatever stands under final names."""
        raw = self.places.path("raw/x").parent
        files = [path for path in raw.rglob("*") if path.is_file()]
        return {
            f"raw/{path.relative_to(raw).as_posix()}": path.read_bytes()
            for path in files
            if ".part" not in path.name and ".tmp-" not in path.name
        }

    def check(self, succeeded: bool) -> None:
        found = self.found()
        for place, body in found.items():
            assert body == self.expected[place], f"{self}: wrong bytes under {place}"
        if succeeded:
            assert found == self.expected, f"{self}: incomplete"
            leftovers = [path.name for path in self.places.root.rglob("*.part*")]
            assert not leftovers, f"{self}: {leftovers}"
        else:
            assert not found, f"{self}: {sorted(found)} after a failure"

    def __str__(self) -> str:
        return f"{self.places.root.name} ({self.kind}, {self.format}, {self.mirrors})"


@functools.cache
def _torch_body(form: str, variant: int) -> bytes:
    return torch_of([500 * (variant + 1), 40], zipped=form == "torch", seed=variant)


def run_episode(number: int, server: MirrorServer, root: Path) -> tuple[str, str]:
    episode = Episode(number, server, root)
    error = ""
    try:
        fetch(episode.asset, episode.places, Settings(), PATIENCE)
    except DownloadError as raised:
        error = str(raised)
    # Mirrors that only break off may give the whole file between them, so liars need not end in failure.
    assert not (error and episode.honest), f"{episode}: {error}"
    episode.check(succeeded=not error)
    if error:  # whatever it left, an honest mirror mends it
        for position in range(len(episode.mirrors)):
            assert f"/{root.name}/{number}/{position}" in error, f"{episode}: {error}"
        path = f"/{root.name}/{number}/honest"
        server.script(path, episode.body, "ok")
        fetch(_with_mirrors(episode.asset, [server.url(path)]), episode.places, Settings(), PATIENCE)
        episode.check(succeeded=True)
    shutil.rmtree(episode.places.root)
    return episode.kind, "failed" if error else "fetched"


def test_random_episodes(server: MirrorServer, tmp_path: Path) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(48) as pool:
        outcomes = list(pool.map(lambda number: run_episode(number, server, tmp_path), range(EPISODES)))
    counts = collections.Counter(outcomes)
    print(f"{EPISODES} episodes in {time.monotonic() - began:.1f} s: {dict(counts)}")
    assert len(outcomes) >= 500
    # Both ends occur with every kind, so that neither check above is idle.
    assert len(counts) == 2 * len(KINDS) and min(counts.values()) >= 5


# Killed


def test_killed_at_any_moment(server: MirrorServer, tmp_path: Path) -> None:
    seen = collections.Counter[str]()
    with _kill_runner() as runner:
        for number in range(KILLED_EPISODES):
            episode = Episode(number, server, tmp_path, calm=True)
            path = f"/{tmp_path.name}/{number}/calm"
            server.script(path, episode.body, f"cut:{len(episode.body) // 2}", "ok")
            asset = _with_mirrors(episode.asset, [server.url(path)])
            catalogue = _write_catalogue(episode.places.root, asset)
            for _ in range(KILLS):
                job = {"root": str(episode.places.root), "kill_at": episode.random.randint(1, 60)}
                seen[_ask(runner, {"catalogue": str(catalogue), **job})] += 1
                for place, body in episode.found().items():
                    assert body == episode.expected[place], (
                        f"{episode}: wrong bytes under {place} after a kill"
                    )
                server.scripts[path].asked.clear()
            fetch(asset, episode.places, Settings(), PATIENCE)
            episode.check(succeeded=True)
    print(f"{KILLED_EPISODES * KILLS} fetches: {dict(seen)}")
    assert seen["killed"] >= KILLED_EPISODES * KILLS // 2 and not seen["failed"]


@pytest.mark.parametrize("kind", ["published", "archive", "first use"])
def test_killed_at_each_step(server: MirrorServer, tmp_path: Path, kind: str) -> None:
    """The kill moves on by one file operation at a time until a fetch gets through."""
    number = next(n for n in range(99) if Episode(n, server, tmp_path, calm=True).kind == kind)
    with _kill_runner() as runner:
        for kill_at in range(1, 400):
            episode = Episode(number, server, tmp_path / str(kill_at), calm=True)
            path = f"/{kind.replace(' ', '-')}/{kill_at}"
            server.script(path, episode.body, "ok")
            asset = _with_mirrors(episode.asset, [server.url(path)])
            catalogue = _write_catalogue(episode.places.root, asset)
            job = {"catalogue": str(catalogue), "root": str(episode.places.root), "kill_at": kill_at}
            outcome = _ask(runner, job)
            for place, body in episode.found().items():
                assert body == episode.expected[place], f"wrong bytes under {place}, killed at {kill_at}"
            fetch(asset, episode.places, Settings(), PATIENCE)
            episode.check(succeeded=True)
            assert outcome != "failed"
            if outcome == "done":
                break
    print(f"{kind}: killed at each of {kill_at - 1} file operations")
    assert kill_at > 15


@contextlib.contextmanager
def _kill_runner() -> Iterator[subprocess.Popen[str]]:
    tests = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(
        [sys.executable, str(tests / "kill_runner.py")],
        env={**os.environ, "PYTHONPATH": f"{tests.parent}:{tests}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait()


def _ask(runner: subprocess.Popen[str], job: dict[str, object]) -> str:
    assert runner.stdin is not None and runner.stdout is not None
    runner.stdin.write(json.dumps(job) + "\n")
    runner.stdin.flush()
    return runner.stdout.readline().strip()


def test_the_verb_goes_on_after_sigkill(server: MirrorServer, tmp_path: Path) -> None:
    body = random.Random(7).randbytes(300_000)
    script = server.script("/verb/thing", body, "slow")
    _write_catalogue(tmp_path, plain([server.url("/verb/dead"), server.url("/verb/thing")], body))
    command = [sys.executable, "-m", "lxmert", "assets", "fetch", "thing", "--catalogue", "catalogue"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    part = tmp_path / "data/full/raw/group/thing.bin.part"
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size > 50_000) and time.monotonic() < until:
        time.sleep(0.005)
    process.kill()
    process.wait()
    got = part.stat().st_size
    assert 0 < got < len(body) and not part.with_suffix("").exists()
    script.manners = ["ok"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "HTTP 404" in done.stderr  # the first mirror; the second was asked with no more ado
    assert script.headers["Range"] == f"bytes={got}-"
    assert part.with_suffix("").read_bytes() == body
    assert done.stdout == "data/full/raw/group/thing.bin\n"


def test_processes_fetch_once(server: MirrorServer, tmp_path: Path) -> None:
    body = random.Random(8).randbytes(100_000)
    script = server.script("/twice/thing", body, "slow")
    catalogue = _write_catalogue(tmp_path, plain([server.url("/twice/thing")], body))
    job = {"catalogue": str(catalogue), "root": str(tmp_path), "kill_at": 0}
    with contextlib.ExitStack() as stack:
        runners = [stack.enter_context(_kill_runner()) for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            outcomes = list(pool.map(lambda runner: _ask(runner, job), runners))
    assert outcomes == ["done"] * 3
    assert (tmp_path / "data/full/raw/group/thing.bin").read_bytes() == body
    assert script.asked == ["slow"]


def _with_mirrors(asset: Asset, urls: list[str]) -> Asset:
    return dataclasses.replace(asset, mirrors=tuple({"url": url} for url in urls))


def _write_catalogue(root: Path, asset: Asset) -> Path:
    """A folder with a document of one asset."""
    entry: dict[str, object] = {"what": asset.what, "file": asset.file, "format": asset.format}
    entry["mirrors"] = [mirror["url"] for mirror in asset.mirrors]
    entry |= {
        key: getattr(asset, key) for key in ("bytes", "about_bytes", "sha256", "place") if getattr(asset, key)
    }
    members = []
    for member in asset.members:
        where = (
            {"into": member.place, "pattern": member.pattern} if member.pattern else {"place": member.place}
        )
        members.append({**where, **({"name": member.name} if member.name else {"files": member.files})})
    if members:
        entry["members"] = members
    document = {
        "catalogue": "group",
        "version": 1,
        "title": "things",
        "licence": "MIT",
        "assets": {"thing": entry},
    }
    folder = root / "catalogue"
    folder.mkdir(parents=True)
    (folder / "group.yaml").write_text(json.dumps(document))
    return folder
