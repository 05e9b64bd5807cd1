"""Crawling images: what is asked, what is taken, what is refused, and what a person is told."""

from __future__ import annotations

import json
import logging

import pytest
from asset_tools import zip_of
from crawl_tools import GATE, MANNERS, SmallSet, picture

from lxmert.assets.catalogue import Catalogue, load_catalogue
from lxmert.assets.crawl.crawling import crawl, crawlable, status_path
from lxmert.assets.crawl.wanted import read_nlvr2
from lxmert.assets.dropin import add
from lxmert.assets.inventory import state
from lxmert.assets.lock import Lock
from lxmert.assets.places import Places, Settings
from lxmert.cli import main
from lxmert.errors import DataError, DownloadError, SpecError

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


def test_a_crawled_file_that_changed_is_asked_for_again(small, caplog):
    back, gone = small.name(0, 0), small.name(0, 1)
    small.crawl()
    for name in (back, gone):
        (small.folder / name).write_bytes(small.bodies[name][:-20])
    small.script(back, "ok")
    small.script(gone, "status:404")
    small.crawl()
    assert small.asked(back) == 1 and small.states()[back] == "done"
    assert small.found() == {name: body for name, body in small.bodies.items() if name != gone}
    assert small.states()[gone] == "gone"
    aside = small.folder / f".{gone}.changed"
    assert aside.read_bytes() == small.bodies[gone][:-20] and aside.name in caplog.text  # nothing is lost


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
    assert small.report()["missing"] == {}


def test_an_archive_of_other_bytes_is_not_crawled_over(small, tmp_path):
    small.crawl()
    bodies = {name: body + b"of the archive" for name, body in small.bodies.items()}
    path = tmp_path / "from_the_form.zip"
    path.write_bytes(zip_of({f"dev/{name}": body for name, body in bodies.items()}))
    add([path], Catalogue([small.asset]), small.places, Settings(accept_terms=(GATE,)), small.asset.id)
    small.crawl()
    assert small.found() == bodies and max(small.asked(name) for name in bodies) == 1


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
