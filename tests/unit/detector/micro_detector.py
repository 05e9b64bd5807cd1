"""A detector of seeded weights that runs in milliseconds, and pictures for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from detector_scenes import micro_documents
from PIL import Image

from lxmert.cli import main
from lxmert.detector.documents import parse_size
from lxmert.detector.model import Detector, build_detector, save_detector


def micro_detector(proposals: int = 60) -> Detector:
    size, _ = micro_documents()
    size["classes"] = {"objects": 6, "attributes": 3}
    size["proposals"]["test"] |= {"before_nms": 400, "after_nms": proposals}
    size["proposals"]["min_side_px"] = 2
    return build_detector(parse_size(size), 1, head_std=0.08).eval()


def write_pictures(folder: Path, sizes: list[tuple[int, int]]) -> Path:
    """Blocky noise of these widths and heights as 0.png, 1.png, ...; gives their listing."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (width, height) in enumerate(sizes):
        rng = np.random.default_rng(number)
        blocks = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
        pixels = np.kron(blocks, np.ones((8, 8, 1), np.uint8))[:height, :width]
        Image.fromarray(pixels).save(folder / f"{number}.png")
    images = [{"id": str(number), "file": f"{number}.png"} for number in range(len(sizes))]
    listing = {"image_set": "pictures", "folder": str(folder), "subset": None, "images": images}
    path = folder.with_suffix(".json")
    path.write_text(json.dumps(listing))
    return path


def extract(folder: Path, weights: Path, listing: Path, out: str, *options: object) -> int:
    """Status of an extraction by profile sample-16 to `out` in a folder."""
    arguments = ["--profile", "sample-16", "--weights", weights, "--listing", listing, "--out", folder / out]
    return main(["--threads", "1", "extract", *map(str, [*arguments, *options])])


def save(model: Detector, path: Path) -> Path:
    save_detector(path, model, {})
    return path
