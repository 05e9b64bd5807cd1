"""Files that a person brings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from asset_tools import archive, plain, zip_of

from lxmert.assets.asset import Asset, Member
from lxmert.assets.catalogue import Catalogue
from lxmert.assets.dropin import add
from lxmert.assets.inventory import state
from lxmert.assets.lock import Lock
from lxmert.assets.places import Places, Settings
from lxmert.errors import DownloadError

BODY = b"\0weights" * 50
ARCHIVE = zip_of({"x/a.tsv": b"a\t1\n", "x/b.tsv": b"b\t2\n"})
FEATURES = archive(
    [], [Member("raw/features/a.tsv", name="a.tsv")], id="features", file="g/a.zip", accepts=("g/all.zip",)
)
PICTURES = archive(
    [], [Member("raw/pictures", pattern="*.jpg", files=3)], id="pictures", file="g/pictures.zip", gate="club"
)
LIST = plain(
    [],
    id="minival",
    file="g/minival.json",
    format="json",
    place="raw/g/minival.json",
    derived=({"place": "raw/vqa/minival_ids.json", "by": "coco_image_ids", "of": "raw/g/minival.json"},),
)
WEIGHTS = plain([], BODY, id="weights", file="g/weights.bin", place="weights/g/weights.bin")
CATALOGUE = Catalogue([FEATURES, PICTURES, LIST, WEIGHTS])


def bring(path: Path | list[Path], places: Places, **options: object) -> list[Path]:
    paths = path if isinstance(path, list) else [path]
    return add(paths, CATALOGUE, places, Settings(accept_terms=("club",)), **options)  # type: ignore[arg-type]


def ready(asset: Asset, places: Places) -> bool:
    return state(asset, places, Lock(places.lock_file).record(asset.id)) == "ready"


@pytest.fixture
def brought(tmp_path: Path) -> Path:
    folder = tmp_path / "brought"
    folder.mkdir()
    return folder


def write(path: Path, body: bytes) -> Path:
    path.write_bytes(body)
    return path


def test_archive_by_name_or_id_or_other_name(places: Places, brought: Path) -> None:
    for name, given in [("a.zip", None), ("all.zip", None), ("renamed", "features")]:
        for path in bring(write(brought / name, ARCHIVE), places, name=given):
            assert path.read_bytes() == b"a\t1\n"
        assert ready(FEATURES, places)
    assert Lock(places.lock_file).record("features")["from"] == "brought by hand (renamed)"  # type: ignore[index]


def test_member_itself(places: Places, brought: Path) -> None:
    (path,) = bring(write(brought / "a.tsv", b"a\t1\n"), places)
    assert path == places.path("raw/features/a.tsv") and ready(FEATURES, places)
    with pytest.raises(DownloadError, match="recorded"):  # the archive holds another one
        bring(write(brought / "a.zip", zip_of({"a.tsv": b"a\t9\n"})), places)
    assert path.read_bytes() == b"a\t1\n"


def test_pieces(places: Places, brought: Path) -> None:
    cut = len(ARCHIVE) // 2
    pieces = [write(brought / "a.zip.ab", ARCHIVE[cut:]), write(brought / "a.zip.aa", ARCHIVE[:cut])]
    bring(pieces, places)
    assert ready(FEATURES, places)
    assert not [path for path in places.downloads.iterdir() if path.name.startswith(".joined")]
    with pytest.raises(DownloadError, match="gap"):
        bring([pieces[0], write(brought / "a.zip.ad", b"x")], places)


@pytest.mark.parametrize("link", [False, True])
def test_folder(places: Places, brought: Path, link: bool) -> None:
    folder = brought / "images"
    (folder / "sub").mkdir(parents=True)
    for index in range(3):
        (folder / ("sub" if index else ".") / f"{index}.jpg").write_bytes(bytes([index]))
    (folder / "notes.txt").write_text("no picture")
    (path,) = bring(folder, places, name="pictures", link=link)
    assert ready(PICTURES, places) and path.is_symlink() == link
    assert (path / "sub" / "2.jpg").read_bytes() == b"\2" and (path / "notes.txt").exists() == link
    (folder / "0.jpg").unlink()
    with pytest.raises(DownloadError, match="holds 2 files"):
        bring(folder, places, name="pictures")


def test_terms_hold_for_files_brought_too(places: Places, brought: Path) -> None:
    path = write(brought / "pictures.zip", zip_of({f"{index}.jpg": b"x" for index in range(3)}))
    with pytest.raises(DownloadError, match=r"accept_terms: \[club\]"):
        add([path], CATALOGUE, places, Settings())
    bring(path, places)
    assert ready(PICTURES, places)


@pytest.mark.parametrize("link", [False, True])
def test_file(places: Places, brought: Path, link: bool) -> None:
    (path,) = bring(write(brought / "weights.bin", BODY), places, link=link)
    assert path.read_bytes() == BODY and path.is_symlink() == link and ready(WEIGHTS, places)
    assert path == places.root / "weights/full/published/g/weights.bin"
    with pytest.raises(DownloadError) as caught:
        bring(write(brought / "weights.bin", BODY[:-1] + b"!"), places)
    for word in ("weights.bin: not added as weights", "has sha256", "Bring another copy"):
        assert word in str(caught.value)


def test_file_that_lies_in_its_place(places: Places) -> None:
    path = places.path("raw/features/a.tsv")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a\t1\n")
    assert bring(path, places) == [path] and path.read_bytes() == b"a\t1\n" and ready(FEATURES, places)


def test_list_of_image_numbers(places: Places, brought: Path) -> None:
    (path,) = bring(write(brought / "minival_ids.json", b"[9, 3, 9]"), places)
    assert json.loads(path.read_text()) == [3, 9]
    records = json.dumps([{"img_id": "COCO_val2014_000000000005"}]).encode()
    path.unlink()
    bring(write(brought / "minival.json", records), places)
    assert json.loads(path.read_text()) == [5]
    with pytest.raises(Exception, match="record 1 names no COCO image"):
        bring(write(brought / "minival_ids.json", b'[9, "n5x"]'), places)


def test_what_nobody_knows(places: Places, brought: Path) -> None:
    with pytest.raises(DownloadError, match="no asset has a file of this name.*--id.*assets list"):
        bring(write(brought / "odd.bin", b"1"), places)
    with pytest.raises(DownloadError, match="no such file"):
        bring(brought / "gone", places)
    twins = Catalogue([plain([], id="one", file="a/train.json"), plain([], id="two", file="b/train.json")])
    with pytest.raises(DownloadError, match="may be any of one, two. Say which one with --id"):
        add([write(brought / "train.json", b"{}")], twins, places, Settings())
    with pytest.raises(DownloadError, match="gives a web page"):
        bring(write(brought / "weights.bin", b"<html><title>Quota</title>"), places)
