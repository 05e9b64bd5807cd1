"""The splits of a plan as sets of photographs, read from its examples and official lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lxmert.data.columns import Columns
from lxmert.splits.overlap import DETECTOR, FINE_TUNING, PRETRAINING, Evaluated, Seen
from lxmert.splits.photographs import GENOME_SETS, Photographs, is_gqa_test_image, read_detector_list
from lxmert.tasks.vqa import read_image_ids


def read_splits(
    spec: Mapping[str, Any], examples: Mapping[str, Path], raw: Path, photographs: Photographs
) -> list[Evaluated]:
    """Every split of the fine-tuned tasks, with what their weights have seen.

    Args:
        spec: `tasks`: name -> {"train_on", "headline", "splits"}; `pretraining`: "here", "published", a list
            of both or null; `minival_ids`, `pretrain_sets` with the published one; `detector`: {"list",
            "image_set"} or null.
        examples: task -> folder of its examples; `pretrain` among them if it was done here.
        raw: folder of the raw files.
        photographs: names of photographs.

    Raises:
        DataError: a file is faulty.
    """
    stages = [_detector(spec["detector"], raw, photographs)] if spec["detector"] else []
    done = spec["pretraining"] if isinstance(spec["pretraining"], list) else [spec["pretraining"]]
    pretrainings = []
    if "here" in done:
        pretrainings.append(_pretraining_here(examples["pretrain"], photographs))
    if "published" in done:
        pretrainings.append(_published_pretraining(spec, raw, photographs))
    if pretrainings:
        stages.append(_either(pretrainings))
    found = []
    for task, roles in spec["tasks"].items():
        keys = {
            split: _distinct(examples[task] / f"{split}.safetensors", photographs)
            for split in roles["splits"]
        }
        tuned = frozenset[str]().union(*(keys[split] for split in roles["train_on"]))
        fine_tuning = Seen(
            FINE_TUNING,
            f"{task}: {', '.join(roles['train_on'])}",
            lambda key, tuned=tuned: photographs.of(key) in tuned,  # type: ignore[misc]
        )
        for split, images in keys.items():
            found.append(
                Evaluated(
                    task, split, list(images.values()), split in roles["headline"], [*stages, fine_tuning]
                )
            )
    return found


def _distinct(path: Path, photographs: Photographs) -> dict[str, str]:
    """Photograph -> an image key, of the examples of a split."""
    return {photographs.of(key): key for key in Columns(path).strings("images")}


def _detector(settings: Mapping[str, str], raw: Path, photographs: Photographs) -> Seen:
    trained = photographs.all_of(read_detector_list(raw / settings["list"], settings["image_set"]))
    return Seen(
        DETECTOR,
        f"boxes of {len(trained)} photographs ({settings['list']})",
        lambda key: photographs.of(key) in trained,
    )


def _either(stages: list[Seen]) -> Seen:
    """What one or another of some stages of a kind has seen."""
    what = "; and ".join(seen.what for seen in stages)
    return Seen(stages[0].stage, what, lambda key: any(seen.has(key) for seen in stages))


def _pretraining_here(folder: Path, photographs: Photographs) -> Seen:
    trained = photographs.all_of(Columns(folder / "train.safetensors").strings("images"))
    return Seen(
        PRETRAINING,
        f"sentences about {len(trained)} photographs, done here",
        lambda key: photographs.of(key) in trained,
    )


def _published_pretraining(spec: Mapping[str, Any], raw: Path, photographs: Photographs) -> Seen:
    """LXMERT's published weights: all of COCO train and val without minival, and of Visual Genome likewise.

    Source: Tan & Bansal 2019, section 3.1; the splits are those of its published files.
    """
    # Without the list, all of val2014 counts as seen.
    minival = {f"coco {number}" for number in read_image_ids(raw, spec["minival_ids"]) or ()}
    sets = set(spec["pretrain_sets"])

    def has(key: str) -> bool:
        image_set, _, stem = key.partition("/")
        trained = image_set in sets or image_set in GENOME_SETS
        return trained and not is_gqa_test_image(stem) and photographs.of(key) not in minival

    return Seen(
        PRETRAINING,
        "the published weights: all photographs of COCO train2014 and val2014 and of Visual Genome, those of"
        f" minival ({len(minival)}) left out",
        has,
    )
