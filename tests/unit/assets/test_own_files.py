"""What a person put in a place is used as it is; receipts say what there is."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import yaml
from asset_tools import SHORT, archive, plain, zip_of
from mirror_server import MirrorServer

from lxmert.assets.asset import Asset, Member
from lxmert.assets.catalogue import load_catalogue
from lxmert.assets.fetch import fetch
from lxmert.assets.lock import Lock
from lxmert.assets.places import Places, Settings
from lxmert.assets.planning import plan_download
from lxmert.assets.receipt import is_brought, write_receipt
from lxmert.cli import main
from lxmert.errors import DownloadError

BODY = b"\0published " * 30
MEMBERS = [Member("raw/group/a.json", name="a.json"), Member("raw/group/b.json", name="b.json")]
ARCHIVE = zip_of({"a.json": b"[1]", "b.json": b"[2]"})


def put(places: Places, place: str, body: bytes) -> Path:
    path = places.path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


def take(asset: Asset, places: Places) -> None:
    fetch(asset, places, Settings(), SHORT, keep_own=True)


def groups(asset: Asset, places: Places, **settings: object) -> dict[str, list[str]]:
    found = plan_download([asset], places, Settings(**settings)).to_json()  # type: ignore[arg-type]
    return {name: ids for name, ids in found.items() if isinstance(ids, list) and ids}


def test_a_file_of_ones_own_is_neither_fetched_nor_changed(
    server: MirrorServer, places: Places, caplog: pytest.LogCaptureFixture
) -> None:
    script = server.script("/own", BODY)
    asset = plain([server.url("/own")], BODY)
    path = put(places, "raw/group/thing.bin", b"mine")
    caplog.set_level(logging.INFO)
    take(asset, places)
    assert path.read_bytes() == b"mine" and not script.asked and not places.lock_file.exists()
    assert "is yours and is used as it is" in caplog.text
    assert "is not the published file" in caplog.text
    assert groups(asset, places) == {"own": ["thing"]}
    with pytest.raises(DownloadError, match="nothing records that it is whole"):
        fetch(asset, places, Settings(), SHORT)  # by its name, not for the graph


def test_what_else_is_missing_of_an_archive_is_fetched(server: MirrorServer, places: Places) -> None:
    server.script("/part", ARCHIVE)
    asset = archive([server.url("/part")], MEMBERS)
    own = put(places, "raw/group/a.json", b"[7]")
    assert groups(asset, places) == {"fetch": ["thing"]}
    take(asset, places)
    assert own.read_bytes() == b"[7]" and places.path("raw/group/b.json").read_bytes() == b"[2]"
    record = Lock(places.lock_file).record("thing")
    assert record is not None and list(record["places"]) == ["raw/group/b.json"]
    assert groups(asset, places) == {"skip": ["thing"]}
    server.script("/part", ARCHIVE, "status:409")
    take(asset, places)  # asks nobody


def test_a_folder_of_ones_own(server: MirrorServer, places: Places) -> None:
    asset = archive([server.url("/none")], [Member("raw/group/images", pattern="*.jpg", files=2)])
    put(places, "raw/group/images/1.jpg", b"x")
    take(asset, places)
    assert groups(asset, places) == {"own": ["thing"]}


def test_a_recorded_file_that_was_replaced_is_asked_about(server: MirrorServer, places: Places) -> None:
    server.script("/replaced", BODY)
    asset = plain([server.url("/replaced")])
    take(asset, places)
    path = put(places, "raw/group/thing.bin", b"other")
    with pytest.raises(DownloadError, match=r"thing\.bin: is not what .*recorded of thing.*Remove it"):
        take(asset, places)
    assert path.read_bytes() == b"other"


def test_a_receipt_tells_content_and_nothing_else(server: MirrorServer, places: Places) -> None:
    server.script("/receipt", ARCHIVE)
    asset = archive([server.url("/dead"), server.url("/receipt")], MEMBERS)
    put(places, "raw/group/a.json", b"[7]")
    take(asset, places)
    out = places.root / "receipt.json"
    write_receipt(asset, places, out)
    first = out.read_bytes()
    found = json.loads(first)
    assert found["asset"] == "thing"
    assert {place: entry["bytes"] for place, entry in found["places"].items()} == {
        "raw/group/a.json": 3,
        "raw/group/b.json": 3,
    }
    assert "127.0.0.1" not in first.decode()
    write_receipt(asset, places, out)
    assert out.read_bytes() == first
    put(places, "raw/group/a.json", b"[8]")
    write_receipt(asset, places, out)
    assert out.read_bytes() != first


def test_a_made_file_may_be_brought_without_what_it_is_made_of(places: Places) -> None:
    asset = load_catalogue()["lxmert_vqa_minival"]
    assert not is_brought(asset, places, ["raw/vqa/minival_ids.json"])
    put(places, "raw/vqa/minival_ids.json", b"[42]")
    assert is_brought(asset, places, ["raw/vqa/minival_ids.json"])
    assert not is_brought(asset, places, ["raw/vqa/minival_ids.json", "raw/lxmert/vqa/minival.json"])
    assert not is_brought(asset, places, [])
    assert groups(asset, places) == {"own": ["lxmert_vqa_minival"]}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: MirrorServer) -> Path:
    server.script("/b.json", b"[2]")
    entry = {"what": "w", "file": "g/b.json", "mirrors": [server.url("/b.json")], "place": "raw/g/b.json"}
    document = {"catalogue": "g", "version": 1, "title": "t", "licence": "MIT", "assets": {"thing": entry}}
    (tmp_path / "catalogue").mkdir()
    (tmp_path / "catalogue" / "g.yaml").write_text(yaml.safe_dump(document))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str) -> int:
    handlers = logging.root.handlers[:]
    try:
        return main(["--threads", "1", "assets", *arguments])
    finally:
        logging.root.handlers[:] = handlers


def test_the_verb_of_the_graph(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--catalogue", "catalogue", "--out-receipt", "r.json"]
    monkeypatch.setenv("LXMERT_ASSETS", '{"offline": true}')
    assert call("fetch", "thing", *common) == 2
    assert "offline mode asks no other machine" in capsys.readouterr().err
    assert not (root / "r.json").exists()
    monkeypatch.setenv("LXMERT_ASSETS", "{}")
    assert call("fetch", "thing", *common) == 0
    assert list(json.loads((root / "r.json").read_text())["places"]) == ["raw/g/b.json"]
    assert call("fetch", "thing", "thing", *common) == 2
    assert "one asset at a time" in capsys.readouterr().err
    monkeypatch.setenv("LXMERT_ASSETS", '{"ofline": 1}')
    assert call("fetch", "thing", *common) == 2
    assert 'LXMERT_ASSETS: assets/ofline: unknown setting. Did you mean "offline"' in capsys.readouterr().err


def test_the_plan_of_a_configuration(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "config.yaml").write_text("corpus: full\ntasks: [nlvr2]\nfeatures: extract\n")
    assert call("plan", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {"nlvr2_train", "detector_caffe36", "lxmert_pretrained", "bert_vocab"} <= set(found["fetch"])
    assert found["accept"] == [f"nlvr2_images_{split}" for split in ("train", "dev", "test1")]
    assert found["disk_bytes"] > 40e9 and not found["skip"]
    assert call("plan", "--features", "download") == 0
    text = capsys.readouterr().out
    assert "lxmert_features_nlvr2_test" in text and "terms of" not in text and "disk needed" in text
    assert call("plan") == 0
    assert "assets: {accept_terms: [nlvr2_images]}" in capsys.readouterr().out
    (root / "config.yaml").write_text("corpus: sample\n")
    assert call("plan") == 0
    assert "nothing to fetch" in capsys.readouterr().out
    (root / "config.yaml").write_text("corpus: full\nfeature: extract\n")
    assert call("plan") == 2
    assert 'config.yaml: feature: unknown setting. Did you mean "features"' in capsys.readouterr().err
