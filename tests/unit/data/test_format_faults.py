"""Malformed files of foreign forms and wrong calls: one line each, and nothing is left."""

from __future__ import annotations

import dataclasses
import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest
from format_samples import IDS, bring_back, export, write_store
from region_samples import make_regions, make_schema

from lxmert.data.formats.arrays import read_npz, write_npz
from lxmert.data.region_writer import RegionWriter


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("formats") / "set.lmdb")


@pytest.fixture
def sizes(tmp_path) -> Path:
    path = tmp_path / "sizes.jsonl"
    path.write_text("".join(json.dumps({"image": i, "width": 640, "height": 480}) + "\n" for i in IDS))
    return path


def spoil_npz(folder: Path, **changes) -> None:
    path = folder / "é.npz"
    arrays = {**read_npz(path.read_bytes()), **changes}
    path.write_bytes(write_npz({name: value for name, value in arrays.items() if value is not None}))


NPZ, DB, HDF = "uniter-npz", "uniter-img-db", "vlp-hdf5"
FAULTS = [
    (NPZ, lambda f: (f / "é.npz").write_bytes(b"<html>"), "é.npz: not an .npz archive"),
    (NPZ, lambda f: spoil_npz(f, conf=None), "é.npz: conf is missing"),
    (NPZ, lambda f: spoil_npz(f, conf=np.ones((3, 1))), "é.npz: conf has 3 rows, norm_bb 10"),
    (NPZ, lambda f: spoil_npz(f, norm_bb=np.ones((10, 4))), r"é.npz: norm_bb is of shape \(10, 4\)"),
    (NPZ, lambda f: spoil_npz(f, features=np.ones((10, 16), int)), "features holds no real numbers"),
    (NPZ, lambda f: spoil_npz(f, features=np.full((10, 16), np.inf)), "image é: a feature is not a finite"),
    (NPZ, lambda f: spoil_npz(f, features=np.ones((10, 8))), r"features of shape \(10, 8\)"),
    (NPZ, lambda f: spoil_npz(f, soft_labels=None), "image é: class scores of shape None"),
    (NPZ, lambda f: (f / "other.npz").write_bytes((f / "é.npz").read_bytes()), "image other has no size"),
    ("npz", lambda f: spoil_npz(f, size=np.array([640])), r"é.npz: size is of shape"),
    ("npz", lambda f: spoil_npz(f, object_ids=np.ones(10)), "é.npz: object_ids is of type float64"),
    ("npz", lambda f: spoil_npz(f, boxes_px=np.full((10, 4), 900, "f4")), "a box leaves its 640x480"),
    ("npz", lambda f: [path.unlink() for path in f.iterdir()], "holds no .npz file"),
    (DB, lambda f: (f / "all" / "data.mdb").write_bytes(b"x" * 9000), "not an LMDB file, or damaged"),
    (DB, lambda f: truncate(f / "all" / "data.mdb"), "truncated"),
    (DB, lambda f: (f / "all" / "data.mdb").unlink(), "holds no data.mdb"),
    (DB, lambda f: put(f / "all", b"x.npz", b"\x81"), "x.npz: the MessagePack value ends early"),
    (HDF, lambda f: (f / "regions_bbox.h5").write_bytes(b"x" * 900), "not an HDF5 file, or damaged"),
    (HDF, lambda f: (f / "regions_feat042.h5").unlink(), "regions_feat042.h5: no such file"),
    (HDF, lambda f: (f / "regions_bbox.h5").unlink(), r"holds no \*_bbox.h5"),
    (HDF, lambda f: change(f, "feat112", np.ones((3, 16))), "36 boxes, but 3 features"),
    (HDF, lambda f: change(f, "bbox", np.full((36, 6), 0.5)), "column 5 must hold"),
    (HDF, lambda f: change(f, "bbox", np.ones((36, 5))), "5 columns, not 6"),
    (HDF, lambda f: change(f, "feat112", None), "2412112: it is missing"),
    (HDF, lambda f: change(f, "feat112", "regions_bbox.h5"), "leads to another file"),
]  # fmt: skip


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20_000])


def put(folder: Path, key: bytes, value: bytes) -> None:
    with (
        lmdb.open(str(folder), map_size=1 << 26) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(key, value)


def change(folder: Path, part: str, value: object) -> None:
    """Puts another data set in the place of image 2412112's; None puts nothing."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / f"regions_{part}.h5", "a") as handle:
        del handle["2412112"]
        if value is not None:
            handle["2412112"] = h5py.ExternalLink(value, "2412112") if isinstance(value, str) else value


@pytest.fixture(scope="module")
def exported(tmp_path_factory, store):
    folder = tmp_path_factory.mktemp("exported")
    for form in ("npz", "uniter-npz", "uniter-img-db", "vlp-hdf5"):
        if form == "vlp-hdf5":
            pytest.importorskip("h5py", reason="h5py is not installed")
        more = ["--database", "all"] if form == "uniter-img-db" else []
        assert export(form, store, folder / form, *more) == 0
    return folder


@pytest.mark.parametrize(("form", "spoil", "told"), FAULTS)
def test_malformed_sources_are_one_line_and_leave_nothing(
    tmp_path, capsys, exported, store, sizes, form, spoil, told
):
    shutil.copytree(exported / form, tmp_path / "x")
    spoil(tmp_path / "x")
    given = [] if form == "npz" else ["--sizes", sizes]
    assert bring_back(form, tmp_path / "x", tmp_path / "back.lmdb", "--like", store, *given) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(told, message), message
    assert str(tmp_path / "x") in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sizes.jsonl", "x"]


@pytest.mark.parametrize(
    ("form", "options", "told"),
    [
        ("hdf5", [], "--form hdf5: unknown form"),
        ("npz", ["--line-end", "lf"], "--line-end: means nothing to npz"),
        ("lxmert-tsv", ["--prefix", "a"], "--prefix: means nothing to lxmert-tsv"),
        ("npz", ["--cut", "lxmert-63"], "unknown profile"),
        ("npz", ["--cut", "101"], "holds at most 100 boxes .* takes up to 101"),
        ("npz", ["--cut", "{rule: top"], "--cut {rule: top: not YAML"),
        ("uniter-img-db", ["--database", "feat"], "--database feat: must be like"),
        ("vlp-hdf5", ["--prefix", "a/b"], "must be the beginning of a file's name"),
    ],
)
def test_wrong_calls_are_one_line(tmp_path, capsys, store, form, options, told):
    assert export(form, store, tmp_path / "x", *options) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(told, message), message
    assert not list(tmp_path.iterdir())


def test_what_a_form_needs_is_asked_for(tmp_path, capsys, store, exported):
    assert bring_back("uniter-npz", exported / "uniter-npz", tmp_path / "a.lmdb") == 2
    assert "--sizes: is missing; uniter-npz does not hold" in capsys.readouterr().err
    unscored = dataclasses.replace(make_regions(1), selection_scores=np.full(4, np.nan, np.float32))
    with RegionWriter(tmp_path / "tsv.lmdb", make_schema()) as writer:
        writer.put("a", dataclasses.replace(unscored, object_ids=np.full(4, -1)))
        writer.finish({})
    for form, told in (("uniter-npz", "has no selection scores"), ("vlp-hdf5", "has no object ids")):
        assert export(form, tmp_path / "tsv.lmdb", tmp_path / "x") == 2
        assert told in capsys.readouterr().err
        assert not (tmp_path / "x").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    assert export("npz", store, tmp_path / "full") == 2
    assert "exists already; remove it" in capsys.readouterr().err


def test_hdf5_without_its_package_says_so(tmp_path, capsys, monkeypatch, store):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert export("vlp-hdf5", store, tmp_path / "x") == 2
    told = capsys.readouterr().err
    assert "needs the package h5py" in told and "pip install -e '.[hdf5]'" in told


@pytest.mark.parametrize("form", ["lxmert-tsv", "uniter-npz", "uniter-img-db", "vlp-hdf5"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, store, form):
    if form == "vlp-hdf5":
        pytest.importorskip("h5py", reason="h5py is not installed")
    command = [sys.executable, "-m", "lxmert", "store", "export", "--form", form, "--store", str(store)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "x" / "y")], capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    assert re.search(r"x/y.*(file size limit|no space left).* again\.$", lines[0]), lines[0]
    assert not [path for path in (tmp_path / "x").rglob("*") if path.is_file()]
