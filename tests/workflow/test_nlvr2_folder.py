"""Features of NLVR2's images as their publisher ships them, or from their addresses, from config alone."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from crawl_tools import SmallSet  # noqa: E402
from mirror_server import running  # noqa: E402

from lxmert.assets.places import Places  # noqa: E402
from lxmert.data.region_store import RegionStore  # noqa: E402
from lxmert.detector.documents import parse_size  # noqa: E402
from lxmert.detector.model import build_detector, save_detector  # noqa: E402
from lxmert.specs.documents import read_document  # noqa: E402
from lxmert.types import Regions  # noqa: E402

# Train lies in numbered folders, the others flat. Files are called .png whatever they hold.
PLACES = {"train": ("train/0", "train/57"), "dev": ("dev",), "test1": ("test1",)}
CONTENTS = ("PNG", "JPEG", "GIF")


def write_images(root: Path) -> list[str]:
    rng = np.random.default_rng(0)
    ids = []
    for split, folders in PLACES.items():
        for number, folder in enumerate(folders):
            (root / folder).mkdir(parents=True)
            for image in (0, 1):
                pixels = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
                ids.append(f"{split}-{number}-0-img{image}")
                Image.fromarray(pixels).save(root / folder / f"{ids[-1]}.png", CONTENTS[len(ids) % 3])
    return ids


def narrow_size() -> dict:
    size = {name: value for name, value in read_document("detector_size", "sample").items()}
    size["image"] |= {"short_side_px": 48, "long_side_px": 64}
    for stage in size["stages"]:
        stage |= {"blocks": 1, "bottleneck": 4, "channels": 8}
    size["head"] |= {"pool": 3, "bottleneck": 4, "channels": 8}
    size["classes"] = {"objects": 5, "attributes": 3}
    return size


def set_up(folder: Path, overlay, **settings: object) -> list[str]:
    """A narrow detector in its place, and the arguments of Snakemake that extract NLVR2 with it."""
    size = narrow_size()
    (folder / "weights/full").mkdir(parents=True)
    save_detector(
        folder / "weights/full/detector.safetensors",
        build_detector(parse_size({**size, "size": "full"}), 1),
        {},
    )
    del size["size"], size["version"]
    config = {"corpus": "full", "features": "extract", "tasks": ["nlvr2"], **settings}
    path = overlay(yaml.safe_dump({**config, "overrides": {"detector": {"size": size}}}))
    return ["--configfile", path, "--set-scatter", "shard=1", "--"]


def stored(folder: Path, *names: str) -> dict[str, Regions]:
    found = {}
    for name in names:
        with RegionStore(folder / f"features/full/nlvr2_{name}.lmdb") as store:
            assert store.schema.profile_name == "lxmert-36" and store.provenance["quarantined"] == []
            found |= {image_id: store.regions(image_id) for image_id in store.ids}
    return found


def test_images_in_numbered_folders_become_stores(snakemake, tmp_path, overlay):
    ids = write_images(tmp_path / "data/full/raw/nlvr2/images")
    arguments = set_up(tmp_path, overlay)
    outcome = snakemake(tmp_path, "--cores", "2", *arguments, "extract_nlvr2_features")
    assert outcome.status == 0, outcome.text
    found = stored(tmp_path, "train", "valid", "test")
    assert sorted(found) == sorted(ids)
    for regions in found.values():
        assert (regions.width, regions.height) == (56, 40) and 1 <= len(regions) <= 36


def test_crawled_images_become_stores(snakemake, tmp_path, overlay, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with running() as server:
        sets = [
            SmallSet(Places(tmp_path), server, split=split, pairs=2, folders=split == "train")
            for split in ("train", "dev")
        ]
        for small in sets:
            small.write()
        gone = sets[1].name(1, 0)
        sets[1].script(gone, "status:404")
        assets = {"accept_terms": ["nlvr2_images"], "mirrors": [server.url("/nothing")]}
        stores = [f"features/full/nlvr2_{name}.lmdb" for name in ("train", "valid")]
        arguments = [*set_up(tmp_path, overlay, nlvr2_images="crawl", assets=assets), *stores]
        outcome = snakemake(tmp_path, "--cores", "2", *arguments)
        assert outcome.status == 0, outcome.text
        ids = {Path(name).stem for small in sets for name in small.bodies}
        assert set(stored(tmp_path, "train", "valid")) == ids - {Path(gone).stem}
        assert snakemake(tmp_path, "--dry-run", *arguments).counts == {}
        # It is back, and the next call sees it, and that the other splits are as they were.
        sets[1].script(gone, "ok")
        sets[1].crawl(again=("gone",)).write_receipt(tmp_path / "data/full/crawl/nlvr2_images_dev.json")
    after = snakemake(tmp_path, "--dry-run", *arguments)
    assert {"list_images full,nlvr2_valid", "merge full,nlvr2_valid"} <= set(after.jobs)
    assert not any("nlvr2_train" in job or job.startswith(("crawl", "fetch")) for job in after.jobs)
