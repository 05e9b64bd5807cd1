"""Features of NLVR2's images as their publisher ships them, from config alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from lxmert.data.region_store import RegionStore
from lxmert.detector.documents import parse_size
from lxmert.detector.model import build_detector, save_detector
from lxmert.specs.documents import read_document

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


def test_images_in_numbered_folders_become_stores(snakemake, tmp_path, overlay):
    ids = write_images(tmp_path / "data/full/raw/nlvr2/images")
    size = narrow_size()
    (tmp_path / "weights/full").mkdir(parents=True)
    save_detector(
        tmp_path / "weights/full/detector.safetensors",
        build_detector(parse_size({**size, "size": "full"}), 1),
        {},
    )
    del size["size"], size["version"]
    settings = overlay(
        yaml.safe_dump(
            {
                "corpus": "full",
                "features": "extract",
                "tasks": ["nlvr2"],
                "overrides": {"detector": {"size": size}},
            }
        )
    )
    command = [
        "--cores",
        "2",
        "--configfile",
        str(settings),
        "--set-scatter",
        "shard=1",
        "--",
        "extract_nlvr2_features",
    ]
    outcome = snakemake(tmp_path, *command)
    assert outcome.status == 0, outcome.text
    found = {}
    for name in ("train", "valid", "test"):
        with RegionStore(tmp_path / f"features/full/nlvr2_{name}.lmdb") as store:
            assert store.schema.profile_name == "lxmert-36" and store.provenance["quarantined"] == []
            found |= {image_id: store.regions(image_id) for image_id in store.ids}
    assert sorted(found) == sorted(ids)
    for regions in found.values():
        assert (regions.width, regions.height) == (56, 40) and 1 <= len(regions) <= 36
