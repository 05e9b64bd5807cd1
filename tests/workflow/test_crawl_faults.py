"""A crawl against addresses that misbehave in every way, and one that is killed again and again."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from crawl_tools import BOUNDS, SmallSet, picture  # noqa: E402
from mirror_server import MirrorServer, running  # noqa: E402

from lxmert.assets.crawl.crawling import status_path  # noqa: E402
from lxmert.assets.places import Places  # noqa: E402

# Manners with the state that each ends in, as long as the address has no other; {n} is a random byte.
BAD = {
    "status:404": "gone",
    "status:410": "gone",
    "status:403": "refused",
    "status:409": "refused",
    "status:503": "no_answer",
    "html": "no_picture",
    "shorter": "no_picture",
    "loop": "bad_address",
    "hang_up": "no_answer",
    "stall": "no_answer",
    "stall_head": "no_answer",
    "drip": "no_answer",
    "drip_head": "no_answer",
    "cut:{n}": "no_answer",
    "reset:{n}": "no_answer",
    "chunked_cut:{n}": "no_answer",
    "another": "wrong_hash",
}
HICCUPS = ["status:503", "status:429", "hang_up", "cut:{n}", "reset:{n}", "chunked_cut:{n}"]
HONEST = ["ok", "no_range", "chunked"]
PAIRS, KILLS = 150, 4
# What stalls and drips is waited for no longer; honest answers come within a fraction of it.
SHORT = dataclasses.replace(BOUNDS, read_seconds=1.4, whole_seconds=3.0)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("LXMERT_ASSETS", "LXMERT_MIRROR", "LXMERT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def server() -> Iterator[MirrorServer]:
    with running() as started:
        started.patience = 3.0
        yield started


def test_only_right_pictures_get_names(server: MirrorServer, tmp_path: Path) -> None:
    draw = random.Random("crawl")
    small = SmallSet(Places(tmp_path), server, split="train", pairs=PAIRS, folders=True)
    expected: dict[str, str] = {}
    for number, (name, body) in enumerate(small.bodies.items()):
        cut = str(draw.randint(0, len(body) - 1))
        if draw.random() < 0.5:
            manner, expected[name] = draw.choice(list(BAD.items()))
            other = picture(5000 + number) if manner == "another" else None
            small.script(name, "ok" if other else manner.replace("{n}", cut), body=other)
        else:
            hiccups = [manner.replace("{n}", cut) for manner in draw.choices(HICCUPS, k=draw.randint(0, 2))]
            small.script(name, *hiccups, draw.choice(HONEST))
            expected[name] = "done"
    small.write()
    began = time.monotonic()
    outcome = small.crawl(connections=48, per_host=48, bounds=SHORT)
    counts = collections.Counter(expected.values())
    print(f"{len(expected)} addresses in {time.monotonic() - began:.1f} s: {dict(counts)}")
    done = {name: body for name, body in small.bodies.items() if expected[name] == "done"}
    assert small.found() == done and not list(small.folder.rglob("*.tmp-*"))
    assert small.states() == expected
    assert len(counts) == 7 and min(counts.values()) >= 5
    assert outcome.sentences()[1] == 2 * sum(
        all(small.name(pair, side) in done for side in (0, 1)) for pair in range(PAIRS)
    )
    # What may come back does, and nothing else is asked.
    for name, state in expected.items():
        if state == "no_answer":
            small.script(name, "ok")
    before = {name: small.asked(name) for name in expected}
    small.crawl(connections=48, per_host=48, bounds=SHORT)
    again = {name for name in expected if small.asked(name) > before[name]}
    assert again == {name for name, state in expected.items() if state == "no_answer"}
    assert set(small.found()) == set(done) | again


def test_killed_and_gone_on(server: MirrorServer, tmp_path: Path) -> None:
    unbroken = SmallSet(Places(tmp_path / "unbroken" / "tree"), server, pairs=14)
    killed = SmallSet(Places(tmp_path / "killed" / "tree"), server, pairs=14)  # the same addresses
    for small in (unbroken, killed):
        small.script(small.name(3, 0), "status:404")
        small.script(small.name(4, 1), "html")
        small.write()
    unbroken.crawl()
    asked = {name: killed.asked(name) for name in killed.bodies}
    command = [sys.executable, "-m", "lxmert", "assets", "crawl", "nlvr2_images_dev", "--connections", "2"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "LXMERT_MIRROR": server.url("/nothing"),
        "LXMERT_ASSETS": json.dumps({"accept_terms": ["nlvr2_images"]}),
    }
    for kill in range(KILLS):
        process = subprocess.Popen(
            command, cwd=killed.places.root, env=environment, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 20
        while len(killed.found()) < 5 * (kill + 1) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        process.kill()
        assert process.wait() < 0, "it ended before it was killed"
        assert killed.found().items() <= unbroken.found().items()
        with open(status_path(killed.asset, killed.places), "a") as handle:
            handle.write('{"image": "dev-')  # the line that a kill cuts
    done = subprocess.run(command, cwd=killed.places.root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert killed.found() == unbroken.found() and len(unbroken.found()) == 26
    files = [sorted((small.places.root / "data/full/crawl").iterdir()) for small in (unbroken, killed)]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    # A kill costs at most the answers that were on their way.
    more = sum(killed.asked(name) - asked[name] for name in killed.bodies)
    assert more <= 28 + 2 * KILLS
