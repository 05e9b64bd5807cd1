"""Members that are left out unless asked for: by the file's name, or with everything."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from asset_tools import SHORT, archive, zip_of
from mirror_server import MirrorServer, Script

from lxmert.assets import accepting
from lxmert.assets.asset import Member
from lxmert.assets.catalogue import load_catalogue
from lxmert.assets.fetch import fetch
from lxmert.assets.places import Places, Settings
from lxmert.assets.planning import plan_download
from lxmert.cli import main
from lxmert.errors import DataError, DownloadError

FILES = {"q/usual.json": b"[1]", "q/rare.json": b"[2]", "q/part_0.txt": b"zero", "q/part_1.txt": b"one"}
MEMBERS = [
    {"name": "usual.json", "place": "raw/g/usual.json"},
    {"name": "rare.json", "place": "raw/g/rare.json", "on_request": True, "about_bytes": 3_000_000},
    {"pattern": "part_*.txt", "into": "raw/g/parts", "on_request": True, "about_bytes": 40_000_000},
]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: MirrorServer) -> Iterator[Script]:
    entry = {"what": "w", "file": "g/a.zip", "mirrors": [server.url("/a.zip")], "members": MEMBERS}
    entry |= {"about_bytes": 400, "about_unpacked_bytes": 20_000}
    document = {"catalogue": "g", "version": 1, "title": "t", "licence": "MIT", "assets": {"thing": entry}}
    (tmp_path / "catalogue").mkdir()
    (tmp_path / "catalogue" / "g.yaml").write_text(yaml.safe_dump(document))
    monkeypatch.chdir(tmp_path)
    before = logging.root.handlers[:]
    yield server.script("/a.zip", zip_of(FILES))
    logging.root.handlers[:] = before


def call(*arguments: str) -> int:
    return main(["--threads", "1", "assets", *arguments, "--catalogue", "catalogue", "--settings", "{}"])


def there() -> set[str]:
    return {path.name for path in Path("data/full/raw").rglob("*") if path.is_file()}


def test_a_file_is_fetched_by_its_name(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("fetch", "thing") == 0 and there() == {"usual.json"}
    assert call("fetch", "data/full/raw/g/rare.json") == 0 and there() == {"usual.json", "rare.json"}
    assert "data/full/raw/g/rare.json" in capsys.readouterr().out
    asked = len(script.asked)
    assert call("fetch", "data/full/raw/g/rare.json", "thing") == 0 and len(script.asked) == asked


@pytest.mark.parametrize("name", ["data/full/raw/g/parts/part_1.txt", "data/full/raw/g/parts"])
def test_so_is_a_folder_and_a_file_in_it(script: Script, name: str) -> None:
    assert call("fetch", name) == 0
    assert there() == {"usual.json", "part_0.txt", "part_1.txt"} and script.asked == ["ok"]


def test_a_named_file_that_is_not_in_the_folder(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("fetch", "data/full/raw/g/parts/part_7.txt") == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    for word in (
        "data/full/raw/g/parts/part_7.txt: thing is there and does not hold it",
        "assets verify thing",
    ):
        assert word in last


def test_a_left_out_file_is_added_by_its_name(script: Script, tmp_path: Path) -> None:
    (tmp_path / "rare.json").write_bytes(b"[2]")
    assert call("add", "rare.json") == 0 and there() == {"rare.json"}
    assert call("verify", "thing") == 0


def test_the_command_a_refused_fetch_names(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    place = Path("data/full/raw/g/rare.json")
    place.parent.mkdir(parents=True)
    place.write_bytes(b"[2]")
    (place.parent / "usual.json").write_bytes(b"[1]")
    assert call("fetch", str(place)) == 2
    assert "assets add data/full/raw/g/" in capsys.readouterr().err
    for name in ("rare.json", "usual.json"):
        assert call("add", f"data/full/raw/g/{name}", "--id", "thing") == 0
    assert call("fetch", str(place)) == 0 and not script.asked


def test_an_archive_is_added_with_everything(script: Script, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of(FILES))
    assert call("add", "a.zip") == 0 and there() == {"usual.json"}
    assert call("add", "a.zip", "--everything") == 0
    assert there() == {"usual.json", "rare.json", "part_0.txt", "part_1.txt"}


def test_an_archive_is_added_with_what_the_configuration_reads(script: Script, tmp_path: Path) -> None:
    catalogue = Path("catalogue/g.yaml")
    catalogue.write_text(catalogue.read_text().replace("raw/g/rare", "raw/gqa/val_all_questions"))
    (tmp_path / "a.zip").write_bytes(zip_of(FILES))
    Path("config.yaml").write_text("corpus: full\ntasks: [gqa]\nfurther_splits: {gqa: [valid_all]}\n")
    assert call("add", "a.zip") == 0 and there() == {"usual.json", "val_all_questions.json"}


def test_everything(script: Script) -> None:
    assert call("fetch", "thing", "--everything") == 0
    assert there() == {"usual.json", "rare.json", "part_0.txt", "part_1.txt"}
    assert call("verify") == 0


def test_what_is_wanted_is_what_is_counted(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    asset = load_catalogue(Path("catalogue"))["thing"]
    assert asset.unpacked_bytes == 20_000
    assert asset.unpacked_bytes_of(asset.wanted_members(["raw/g/rare.json"])) == 3_020_000
    assert asset.unpacked_bytes_of(asset.wanted_members(asset.everything)) == 43_020_000
    places = Places(Path.cwd())
    assert plan_download([asset], places, Settings()).disk_bytes == 20_400
    assert plan_download([asset], places, Settings(), also=asset.everything).disk_bytes == 43_020_400
    fetch(asset, places, Settings(), SHORT)
    found = plan_download([asset], places, Settings(), also=asset.everything)
    assert found.groups["fetch"] == [asset] and found.disk_bytes == 43_000_400  # what is there is not counted
    assert plan_download([asset], places, Settings()).disk_bytes == 0


def test_the_disk_must_hold_what_is_wanted(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    asset, places = load_catalogue(Path("catalogue"))["thing"], Places(Path.cwd())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 10_000_000))
    with pytest.raises(DataError, match="thing needs about 43 MB, the disk has 10 MB free"):
        fetch(asset, places, Settings(), SHORT, also=asset.everything)
    assert not script.asked
    fetch(asset, places, Settings(), SHORT)
    assert there() == {"usual.json"}


def test_a_bomb_is_measured_by_what_is_wanted(
    server: MirrorServer, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "_SIZE_GRACE_BYTES", 0)
    server.script("/big.zip", zip_of({"a.json": b"[1]", "rare.json": b"[1" + b" " * 900 + b"]"}))
    rare = Member("raw/g/rare.json", name="rare.json", on_request=True, about_bytes=200)
    members = [Member("raw/g/a.json", name="a.json"), rare]
    asset = archive([server.url("/big.zip")], members, about_bytes=250, about_unpacked_bytes=10)
    fetch(asset, places, Settings(), SHORT, also=asset.everything)
    server.script("/big.zip", zip_of({"a.json": b"[1]", "rare.json": b"[1" + b" " * 2000 + b"]"}))
    places.path("raw/g/rare.json").unlink()
    places.lock_file.unlink()
    places.path("raw/g/a.json").unlink()
    with pytest.raises(DownloadError, match="unpacks to more than 1680 bytes"):
        fetch(asset, places, Settings(), SHORT, also=asset.everything)


def test_the_plan_counts_everything_where_asked(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text("corpus: full\ntasks: [gqa]\nannotations: rebuild\n")
    figures = []
    for more in ([], ["--everything"]):
        assert main(["assets", "plan", "--json", *more]) == 0
        figures.append(json.loads(capsys.readouterr().out)["disk_bytes"])
    assert figures[1] - figures[0] > 10e9  # 14.3 million questions nobody asks for
