"""Fixtures of the downloader's tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxmert.assets.places import Places

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from crawl_tools import SmallSet  # noqa: E402
from mirror_server import MirrorServer, running  # noqa: E402


@pytest.fixture(scope="module")
def server() -> Iterator[MirrorServer]:
    with running() as started:
        started.patience = 2.0
        yield started


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("LXMERT_ASSETS", "LXMERT_MIRROR", "LXMERT_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


@pytest.fixture
def small(server: MirrorServer, places: Places) -> SmallSet:
    """Three pairs of images to crawl."""
    made = SmallSet(places, server)
    made.write()
    return made
