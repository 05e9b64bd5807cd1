"""Stores of several files read as one, and no file is larger than allowed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from region_samples import assert_equal, make_regions, make_schema

from lxmert.cli import main
from lxmert.data.region_check import check_store
from lxmert.data.region_merge import merge
from lxmert.data.region_parts import PartedStore
from lxmert.data.region_store import RegionStore
from lxmert.data.region_writer import RegionWriter
from lxmert.data.regions import RegionSource
from lxmert.errors import DataError

IMAGES = 60
LIMIT = 300_000


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    schema = make_schema(width=256, boxes=40)
    for shard in range(2):
        with RegionWriter(folder / f"{shard}.lmdb", schema) as writer:
            for number in range(shard, IMAGES, 2):
                writer.put(f"i{number:03d}", make_regions(number, 1 + number % 40, 256))
            writer.finish({"weights": {"sha256": "a" * 64}, "quarantined": []})
    return [folder / "0.lmdb", folder / "1.lmdb"]


@pytest.fixture(scope="module")
def stores(tmp_path_factory, shards):
    folder = tmp_path_factory.mktemp("merged")
    digests = merge(shards, folder / "one.lmdb"), merge(shards, folder / "many.lmdb", part_bytes=LIMIT)
    assert digests[0] == digests[1]
    return folder


def files(folder, name):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(name))


def test_no_file_is_larger_than_allowed_and_none_is_left_over(stores):
    assert files(stores, "one") == ["one.lmdb"]
    parts = files(stores, "many")
    assert parts[:3] == ["many.lmdb", "many.lmdb.1", "many.lmdb.2"] and len(parts) >= 4
    sizes = [(stores / name).stat().st_size for name in parts]
    assert max(sizes) <= LIMIT and min(sizes[:-1]) > LIMIT // 3
    assert sorted(path.name for path in stores.iterdir()) == sorted(["one.lmdb", *parts])


def test_several_files_read_as_one(stores):
    one, many = RegionStore(stores / "one.lmdb"), RegionStore(stores / "many.lmdb")
    assert isinstance(many, PartedStore) and not isinstance(one, PartedStore)
    assert list(many.ids) == list(one.ids) and len(many) == IMAGES and "i007" in many and "x" not in many
    assert (many.digest, many.schema, many.provenance) == (one.digest, one.schema, one.provenance)
    np.testing.assert_array_equal(many.hashes, one.hashes)
    for number in (0, 17, IMAGES - 1):
        assert_equal(many.regions(f"i{number:03d}"), make_regions(number, 1 + number % 40, 256))
        assert_equal(many.regions_at(number), make_regions(number, 1 + number % 40, 256))
    assert sorted(many.stored_order().tolist()) == list(range(IMAGES))
    assert check_store(stores / "many.lmdb") == check_store(stores / "one.lmdb")
    assert many.fingerprint()["sha256"] == one.fingerprint()["sha256"]
    assert len(pickle.loads(pickle.dumps(many)).ids) == IMAGES
    with pytest.raises(DataError, match="no regions for image x"):
        many.regions("x")


def test_batches_of_several_files_equal_those_of_one(stores):
    keys = [f"i{number:03d}" for number in np.random.default_rng(0).permutation(IMAGES)]
    batches = [
        RegionSource([stores / f"{name}.lmdb"]).read([f"{name}/{key}" for key in keys], labels=True)
        for name in ("one", "many")
    ]
    for name, wanted in vars(batches[0]).items():
        np.testing.assert_array_equal(getattr(batches[1], name), wanted, err_msg=name)
    lots = np.linspace(0, 0.99, IMAGES)
    draws = [
        RegionSource([stores / f"{name}.lmdb"]).random_features([f"{name}/{key}" for key in keys], lots)
        for name in ("one", "many")
    ]
    np.testing.assert_array_equal(*draws)


def test_a_missing_or_foreign_part_is_named(tmp_path, stores, shards):
    merge(shards, tmp_path / "x.lmdb", part_bytes=LIMIT)
    (tmp_path / "x.lmdb.2").replace(tmp_path / "kept")
    with pytest.raises(DataError, match=r"x\.lmdb\.2: no such region store"):
        len(RegionStore(tmp_path / "x.lmdb"))
    (tmp_path / "x.lmdb.2").write_bytes((tmp_path / "x.lmdb.1").read_bytes())
    with pytest.raises(DataError, match=r"x\.lmdb\.2: is no part of .*x\.lmdb as it is now"):
        len(RegionStore(tmp_path / "x.lmdb"))
    for path in tmp_path.glob("x.lmdb.*"):
        path.unlink()
    with pytest.raises(DataError, match=r"is the first of \d files, and x\.lmdb\.1 is missing"):
        len(RegionStore(tmp_path / "x.lmdb"))


def test_a_smaller_store_leaves_no_part_of_the_larger_one(tmp_path, shards):
    merge(shards, tmp_path / "x.lmdb", part_bytes=LIMIT)
    merge(shards, tmp_path / "x.lmdb")
    assert files(tmp_path, "x") == ["x.lmdb"] and len(RegionStore(tmp_path / "x.lmdb")) == IMAGES


def test_verbs_take_sizes_and_see_every_part(tmp_path, shards, capsys):
    parts = ["--parts", *map(str, shards), "--out", str(tmp_path / "x.lmdb")]
    assert main(["merge", *parts, "--part-size", "0.3MB"]) == 0
    assert len(files(tmp_path, "x")) >= 4
    assert main(["store", "info", str(tmp_path / "x.lmdb")]) == 0
    printed = capsys.readouterr().out
    assert f"images            {IMAGES}\n" in printed and "files" in printed
    assert main(["merge", *parts, "--part-size", "10kB"]) == 2
    assert "parts of 10000 bytes are too small" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["merge", *parts, "--part-size", "much"])
    assert "must be a size such as 8GB" in capsys.readouterr().err


def test_several_files_are_exported_as_one(tmp_path, stores):
    for name in ("one", "many"):
        arguments = ["--form", "lxmert-tsv", "--store", str(stores / f"{name}.lmdb")]
        assert main(["store", "export", *arguments, "--out", str(tmp_path / f"{name}.tsv")]) == 0
    assert (tmp_path / "one.tsv").read_bytes() == (tmp_path / "many.tsv").read_bytes()
