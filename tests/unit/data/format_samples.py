"""A made-up store of 10 to 100 boxes an image, and the verbs of its forms."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from region_samples import make_regions, make_schema

from lxmert.cli import main
from lxmert.data.region_cut import ranked
from lxmert.data.region_writer import RegionWriter
from lxmert.types import Regions

CLASSES = 12
IDS = [
    "COCO_val2014_000000000042", "COCO_train2014_000000000042", "2412112", "n161313", "train-10171-0-img0",
    "my picture", "é",
]  # fmt: skip
BOXES = (10, 100, 36, 11, 57, 99, 10)


def scored(number: int, boxes: int) -> Regions:
    """Regions with class scores that sum to one and object ids that are theirs."""
    rng = np.random.default_rng(number)
    scores = rng.dirichlet(np.full(CLASSES, 0.3), boxes).astype(np.float16)
    return dataclasses.replace(
        make_regions(number, boxes),
        class_scores=scores,
        object_ids=scores[:, 1:].argmax(1),
        object_scores=scores[:, 1:].max(1).astype(np.float32),
        attribute_ids=rng.integers(0, 5, boxes),
    )


def write_store(path: Path) -> Path:
    """In proposal order, with class scores."""
    schema = make_schema(boxes=100, object_classes=CLASSES - 1, attribute_classes=5, class_scores=CLASSES)
    schema.profile["store"] = {"order": "proposal"}
    with RegionWriter(path, schema) as writer:
        for number, (image_id, boxes) in enumerate(zip(IDS, BOXES, strict=True)):
            writer.put(image_id, scored(number, boxes))
        writer.finish({"quarantined": []})
    return path


def wanted(number: int, form: str) -> Regions:
    """What a form keeps of an image."""
    regions = scored(number, BOXES[number])
    nothing = np.full(len(regions), np.nan, np.float32)
    if form.startswith("uniter"):
        regions = regions.take(ranked(regions.selection_scores, True))
        halves = regions.selection_scores.astype(np.float16).astype(np.float32)
        regions = dataclasses.replace(regions, selection_scores=halves)
    if form == "vlp-hdf5":
        regions = dataclasses.replace(regions, selection_scores=nothing)
    if form in ("uniter-npz", "uniter-img-db", "vlp-hdf5"):
        unknown = np.full(len(regions), -1)
        regions = dataclasses.replace(regions, attribute_ids=unknown, attribute_scores=nothing)
    return regions


def export(form: str, store: Path, out: Path, *options: str) -> int:
    """Status of an export."""
    return main(["store", "export", "--form", form, "--store", str(store), "--out", str(out), *options])


def bring_back(form: str, source: Path, out: Path, *options: object) -> int:
    """Status of an import."""
    return main(
        ["store", "import", "--form", form, "--source", str(source), "--out", str(out), *map(str, options)]
    )
