"""Which scene every image of the world shows, and under which ids.

A scene depends on (seed, image set, index) only, so making one set larger leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lxmert.world.nlvr2 import Theme, sample_theme
from lxmert.world.rng import Stream, digest_number
from lxmert.world.scenes import Scene, sample_scene

T = TypeVar("T")

# COCO ids of the three splits interleave, as the published ones do.
_COCO_OFFSETS = {"train2014": 1, "val2014": 11, "test2015": 21}


@dataclass(frozen=True)
class CocoImage:
    """An image of COCO; ``index`` counts within its split."""

    split: str
    index: int
    id: int
    scene: Scene

    @property
    def file_name(self) -> str:
        """COCO_<split>_<id in twelve digits>.jpg."""
        return f"COCO_{self.split}_{self.id:012d}.jpg"


@dataclass(frozen=True)
class GenomeImage:
    """An image of Visual Genome, or of GQA under another name; object ids run from ``first_object``."""

    id: str
    scene: Scene
    first_object: int
    coco: CocoImage | None
    folder: str
    serial: int


@dataclass(frozen=True)
class PairSet:
    """Eight NLVR2 images: four pairs of one theme."""

    id: int
    theme: Theme
    pairs: tuple[tuple[Scene, Scene], ...]
    directory: int


@dataclass(frozen=True)
class World:
    """Every image of the corpus with its scene."""

    spec: Mapping[str, Any]
    coco: Mapping[str, list[CocoImage]]
    minival: frozenset[int]
    genome: list[GenomeImage]
    gqa: Mapping[str, list[GenomeImage]]
    detector: Mapping[str, list[GenomeImage]]
    nlvr2: Mapping[str, list[PairSet]]


def pick(items: Sequence[T], count: int, seed: int, purpose: str, key: Callable[[T], object]) -> list[T]:
    """``count`` of the items, chosen by a hash of their key and not by their order."""
    return sorted(items, key=lambda item: digest_number(seed, purpose, key(item)))[:count]


def _coco(seed: int, split: str, count: int) -> list[CocoImage]:
    images = []
    for index in range(count):
        number = 30 * index + _COCO_OFFSETS[split] + Stream(seed, "coco id", split, index).below(9)
        images.append(CocoImage(split, index, number, sample_scene(Stream(seed, "coco", split, index))))
    return images


def _genome(seed: int, sizes: Mapping[str, int], coco: Mapping[str, list[CocoImage]]) -> list[GenomeImage]:
    """VG images: first the twins of COCO scenes in another resolution, then scenes of their own."""
    twins = coco["train2014"][: sizes["train2014_twins"]] + coco["val2014"][: sizes["val2014_twins"]]
    images = []
    for index in range(sizes["images"]):
        stream = Stream(seed, "vg", index)
        twin = twins[index] if index < len(twins) else None
        scene = sample_scene(stream) if twin is None else twin.scene.scaled(stream.between(1.04, 1.16))
        # Half of the numbers follow the old folder, half the new one; only the url tells which.
        number = 2310000 + 7 * index + stream.below(7)
        folder = stream.choice(("VG_100K", "VG_100K_2"))
        images.append(GenomeImage(str(number), scene, 1_000_000 + 20 * index, twin, folder, index))
    return images


def _detector_splits(
    seed: int, images: list[GenomeImage], spec: Mapping[str, Any], minival: frozenset[int]
) -> dict[str, list[GenomeImage]]:
    """train, val and test of the detector; twins of minival images go to val and test first."""

    def is_held_out(image: GenomeImage) -> bool:
        return image.coco is not None and image.coco.split == "val2014" and image.coco.id in minival

    order = pick(images, len(images), seed, "detector split", lambda image: image.id)
    order.sort(key=lambda image: not is_held_out(image))
    val, test = spec["vg"]["detector_val"], spec["vg"]["detector_test"]
    parts = {"val": order[:val], "test": order[val : val + test], "train": order[val + test :]}
    return {name: sorted(part, key=lambda image: image.serial) for name, part in parts.items()}


def _gqa(
    seed: int, genome: list[GenomeImage], tests: list[CocoImage], sizes: Mapping[str, int]
) -> dict[str, list[GenomeImage]]:
    """Images of the five GQA splits; testdev, test and challenge are renamed COCO test images."""
    held_out = {image.id for image in pick(genome, sizes["val"], seed, "gqa val", lambda image: image.id)}
    out = {
        "train": [image for image in genome if image.id not in held_out],
        "val": [image for image in genome if image.id in held_out],
    }
    order = pick(tests, len(tests), seed, "gqa test", lambda image: image.id)
    for split in ("testdev", "test", "challenge"):
        chosen, order = order[: sizes[split]], order[sizes[split] :]
        out[split] = [
            GenomeImage(
                f"n{image.id}", image.scene, 9_000_000 + 20 * image.index, image, "", 50_000 + image.index
            )
            for image in sorted(chosen, key=lambda image: image.id)
        ]
    return out


def _pair_sets(seed: int, split: str, count: int, directories: int) -> list[PairSet]:
    sets = []
    for index in range(count):
        stream = Stream(seed, "nlvr2", split, index)
        theme = sample_theme(stream)
        scenes = [
            sample_scene(Stream(seed, "nlvr2", split, index, at), theme.favourites()) for at in range(8)
        ]
        pairs = tuple((scenes[2 * at], scenes[2 * at + 1]) for at in range(4))
        number = 3 * index + stream.below(3)
        sets.append(PairSet(number, theme, pairs, stream.below(directories)))
    return sets


def plan_world(spec: Mapping[str, Any]) -> World:
    """The whole world of a resolved spec, before anything is drawn or written."""
    seed, coco_sizes, pair_sizes = spec["seed"], spec["coco"], spec["nlvr2"]
    coco = {split: _coco(seed, split, coco_sizes[split]) for split in _COCO_OFFSETS}
    chosen = pick(coco["val2014"], coco_sizes["minival"], seed, "minival", lambda image: image.id)
    minival = frozenset(image.id for image in chosen)
    genome = _genome(seed, spec["vg"], coco)
    return World(
        spec=spec,
        coco=coco,
        minival=minival,
        genome=genome,
        gqa=_gqa(seed, genome, coco["test2015"], spec["gqa"]),
        detector=_detector_splits(seed, genome, spec, minival),
        nlvr2={
            split: _pair_sets(seed, split, pair_sizes[f"{split}_sets"], pair_sizes["directories"])
            for split in ("train", "dev", "test1")
        },
    )
