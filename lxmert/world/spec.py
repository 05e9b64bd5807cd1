"""How large a world is: the spec document of ``generate``, its defaults and its checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lxmert.errors import SpecError, suggest

Sizes = dict[str, dict[str, int]]

DEFAULTS: dict[str, Any] = {
    "seed": 7,
    # Images per split; minival is a part of val2014.
    "coco": {"train2014": 700, "val2014": 240, "minival": 110, "test2015": 120, "captions": 5},
    # Questions per image, one more or less.
    "vqa": {"questions": 12},
    # Images; how many of them show COCO scenes; detector splits (the rest is train); phrases of a region and
    # QA pairs of an image.
    "vg": {
        "images": 600,
        "train2014_twins": 160,
        "val2014_twins": 60,
        "detector_val": 40,
        "detector_test": 40,
        "phrases": 1,
        "questions": 4,
    },
    # Images per split: val from VG (the rest is train), the others from COCO test2015; then balanced
    # questions per image.
    "gqa": {"val": 90, "testdev": 70, "test": 25, "challenge": 25, "questions": 14, "train_shards": 2},
    # Sets of eight images per split; sentences per set; folders of the train images.
    "nlvr2": {
        "train_sets": 150,
        "dev_sets": 20,
        "test1_sets": 20,
        "train_sentences": 10,
        "sentences": 4,
        "directories": 10,
    },
}


def _whole(value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SpecError(f"world spec: {path}: {value!r} is not a whole number of 0 or more.")
    return value


def resolve(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with every default filled in.

    Raises:
        SpecError: an unknown key, a value that is no whole number, or parts larger than their whole.
    """
    if not isinstance(spec, Mapping):
        raise SpecError("world spec: must be a JSON object with the keys " + ", ".join(DEFAULTS) + ".")
    for key in spec:
        if key not in DEFAULTS:
            raise SpecError(f"world spec: {key}: unknown setting.{suggest(key, DEFAULTS)}")
    out: dict[str, Any] = {"seed": _whole(spec.get("seed", DEFAULTS["seed"]), "seed")}
    for part, known in DEFAULTS.items():
        if part == "seed":
            continue
        given = spec.get(part, {})
        if not isinstance(given, Mapping):
            raise SpecError(f"world spec: {part}: must be an object with the keys {', '.join(known)}.")
        for key in given:
            if key not in known:
                raise SpecError(f"world spec: {part}/{key}: unknown setting.{suggest(key, known)}")
        out[part] = {key: _whole(given.get(key, default), f"{part}/{key}") for key, default in known.items()}
    _check_parts(out)
    return out


def _check_parts(spec: Mapping[str, Any]) -> None:
    """Parts must fit into their whole, and one image must not need more ids than there are."""
    coco, vg, gqa, nlvr2 = spec["coco"], spec["vg"], spec["gqa"], spec["nlvr2"]
    limits = [
        ("coco/minival", coco["minival"], coco["val2014"], "coco/val2014"),
        ("vg/train2014_twins", vg["train2014_twins"], coco["train2014"], "coco/train2014"),
        ("vg/val2014_twins", vg["val2014_twins"], coco["val2014"], "coco/val2014"),
        ("vg: both kinds of twins", vg["train2014_twins"] + vg["val2014_twins"], vg["images"], "vg/images"),
        (
            "vg: detector_val + detector_test",
            vg["detector_val"] + vg["detector_test"],
            vg["images"],
            "vg/images",
        ),
        ("gqa/val", gqa["val"], vg["images"], "vg/images"),
        (
            "gqa: testdev + test + challenge",
            gqa["testdev"] + gqa["test"] + gqa["challenge"],
            coco["test2015"],
            "coco/test2015",
        ),
        ("vg/images", vg["images"], 50_000, "the limit"),
        ("vqa/questions", spec["vqa"]["questions"], 100, "the limit"),
        ("gqa/questions", gqa["questions"], 100, "the limit"),
        ("nlvr2/directories", nlvr2["directories"], 100, "the limit"),
        ("nlvr2/train_sentences", nlvr2["train_sentences"], 12, "the limit"),
        ("nlvr2/sentences", nlvr2["sentences"], 12, "the limit"),
    ]
    for name, part, whole, of in limits:
        if part > whole:
            raise SpecError(
                f"world spec: {name} is {part}, more than {of} ({whole}). Lower it or raise the other."
            )
    for part, key in (("gqa", "train_shards"), ("nlvr2", "directories"), ("coco", "captions")):
        if spec[part][key] < 1:
            raise SpecError(f"world spec: {part}/{key} must be 1 or more.")
