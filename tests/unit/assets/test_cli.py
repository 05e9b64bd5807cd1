"""The verb: list, plan, fetch, verify, add."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from asset_tools import zip_of
from mirror_server import MirrorServer

from lxmert.cli import main

ARCHIVE = zip_of({"x/a.json": b"[1]"})


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """The command line sends the log to this test's stderr, which does not outlive it."""
    before = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = before


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: MirrorServer) -> Path:
    server.script("/a.zip", ARCHIVE)
    server.script("/b.json", b"[2]")
    assets = {
        "first": {
            "what": "one",
            "file": "g/a.zip",
            "mirrors": [server.url("/a.zip")],
            "members": [{"name": "a.json", "place": "raw/g/a.json"}],
            "needed_by": ["vqa"],
            "about_bytes": 500,
        },
        "second": {
            "what": "two",
            "file": "g/b.json",
            "mirrors": [server.url("/b.json")],
            "place": "raw/g/b.json",
            "needed_by": ["vqa"],
            "only_if": {"features": "extract", "detector": "download"},
        },
        "third": {
            "what": "three",
            "file": "g/c.zip",
            "mirrors": [{"manual": "fill the form", "page": "https://form.example"}],
            "members": [{"pattern": "*.png", "into": "raw/g/images"}],
            "needed_by": ["nlvr2"],
            "gate": "club",
            "about_bytes": 1_000_000_000,
        },
    }
    document = {"catalogue": "g", "version": 1, "title": "t", "licence": "MIT", "assets": assets}
    (tmp_path / "catalogue").mkdir()
    (tmp_path / "catalogue" / "g.yaml").write_text(yaml.safe_dump(document))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str) -> int:
    return main(["--threads", "1", "assets", *arguments, "--catalogue", "catalogue"])


def test_list_and_plan(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list") == 0
    text = capsys.readouterr().out
    assert "first" in text and "~500 bytes" in text and "by hand" in text and "3 assets" in text
    assert call("fetch", "first") == 0
    assert capsys.readouterr().out == "data/full/raw/g/a.json\n"
    assert call("list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    states = {row["id"]: row["state"] for row in listed["assets"]}
    assert states == {"first": "ready", "second": "missing", "third": "missing"}
    totals = {(row["target"], row["branch"].split(",")[0]): row for row in listed["totals"]}
    assert totals["vqa", "features: download"]["bytes"] == 500
    assert totals["vqa", "features: download"]["missing_bytes"] == 0
    assert call("plan", "vqa", "nlvr2", "--features", "extract", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["skip"], plan["fetch"], plan["accept"]) == (["first"], ["second"], ["third"])
    assert plan["disk_bytes"] == 2_000_000_000 and plan["free_bytes"] > 0
    assert call("plan", "nlvr2", "--settings", '{"accept_terms": ["club"]}') == 0
    text = capsys.readouterr().out
    assert "to be brought by hand" in text and "fill the form (https://form.example)" in text
    assert "disk needed: 2 GB" in text


def test_fetch_by_file_target_and_corpus(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("fetch", "data/full/raw/g/b.json") == 0
    assert call("fetch", "--for", "vqa", "--corpus", "mine") == 0
    out = capsys.readouterr().out.split()
    assert out == ["data/full/raw/g/b.json", "data/mine/raw/g/a.json"]
    assert (root / "data/mine/raw/g/a.json").read_bytes() == b"[1]"


def test_one_failure_does_not_keep_the_others(
    root: Path, server: MirrorServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script("/a.zip", ARCHIVE, "status:409")
    assert call("fetch", "first", "second", "third") == 2
    captured = capsys.readouterr()
    assert captured.out == "data/full/raw/g/b.json\n"
    last = captured.err.strip().splitlines()[-1]
    for word in ("2 of 3 assets were not fetched", "first: no mirror gave", "HTTP 409", "third:", "[club]"):
        assert word in last


def test_verify_and_add(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("fetch", "first", "second") == 0
    assert call("verify") == 0
    assert "2 ok, 1 missing, 0 changed, 0 unrecorded" in capsys.readouterr().out
    (root / "data/full/raw/g/b.json").write_bytes(b"[3]")
    (root / "data/full/raw/g/a.json").unlink()
    assert call("verify") == 2
    captured = capsys.readouterr()
    assert "changed    data/full/raw/g/b.json" in captured.out
    for word in ("data/full/raw/g/b.json (second) is changed", "a.json (first) is missing", "assets fetch"):
        assert word in captured.err.splitlines()[-1]
    assert call("verify", "third") == 0
    (root / "b.json").write_bytes(b"[2]")
    assert call("add", "b.json") == 0
    (root / "drop.zip").write_bytes(ARCHIVE)
    assert call("add", "drop.zip", "--id", "first") == 0
    assert call("verify") == 0


def test_mistakes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in [
        (["fetch"], "nothing named"),
        (["add"], "no file named"),
        (["fetch", "fist"], 'fist: unknown asset. Did you mean "first"'),
        (["fetch", "data/full/raw/g/none.json"], "raw/g/none.json: no asset"),
        (["plan", "vqaa"], 'Did you mean "vqa"'),
        (["list", "--settings", "{"], "--settings: not valid JSON"),
        (["list", "--settings", '{"ofline": true}'], 'Did you mean "offline"'),
        (["list", "--config", "gone.yaml"], "gone.yaml: no such file"),
    ]:
        assert call(*arguments) == 2, arguments
        assert words in capsys.readouterr().err.splitlines()[-1]
    (root / "config.yaml").write_text("corpus: full\nassets: {mirrors: /share}\n")
    assert call("list") == 2
    assert "config.yaml: assets/mirrors: must be a list" in capsys.readouterr().err
    (root / "data").mkdir()
    (root / "data/assets.lock.json").write_text('{"version": 7}')
    assert call("list", "--settings", "{}") == 2
    assert "not a lock file of version 1" in capsys.readouterr().err


def test_listing_needs_neither_torch_nor_network(root: Path) -> None:
    code = "import sys; import lxmert.assets.cli as c; assert not {'torch', 'requests'} & set(sys.modules)"
    tests = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", code], cwd=tests, check=True)


def test_fetching_for_a_target_says_what_is_left_to_crawl(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next((root / "catalogue").glob("*.yaml"))
    document = yaml.safe_load(path.read_text())
    third = document["assets"]["third"]
    third |= {"crawl": {"records": "raw/g/b.json"}, "only_if": {"nlvr2_images": "archive"}}
    document["assets"]["second"] |= {"needed_by": ["nlvr2"], "only_if": {}}
    path.write_text(yaml.safe_dump(document))
    command = ["fetch", "--for", "nlvr2", "--features", "extract", "--nlvr2-images", "crawl"]
    assert call(*command) == 0
    assert (
        f"to crawl: third: python -m lxmert assets crawl {document['catalogue']}" in capsys.readouterr().err
    )
    report = root / "data/full/crawl/third.missing.json"
    report.parent.mkdir(parents=True)
    report.write_text("{}")
    assert call(*command) == 0 and "to crawl" not in capsys.readouterr().err
