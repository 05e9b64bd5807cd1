"""Trains the bottom-up-attention detector on Visual Genome's boxes and attributes."""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import torch

from lxmert.detector.batches import BatchMaker
from lxmert.detector.documents import DetectorSize, Recipe, parse_recipe, parse_size
from lxmert.detector.evaluate import evaluate
from lxmert.detector.model import (
    Detector,
    build_detector,
    count_parameters,
    load_detector,
    save_detector,
    with_classes,
)
from lxmert.detector.train import Trainer, summary
from lxmert.detector.vg_data import Vocabulary, load_rows, read_vocabulary
from lxmert.detector.weights.imagenet import backbone_names
from lxmert.devices import pick_device
from lxmert.errors import SpecError, WeightsError
from lxmert.files import atomic_write_json, atomic_write_text, fingerprint
from lxmert.specs.jobs import read_job_spec
from lxmert.state import JobState

log = logging.getLogger(__name__)

_INPUTS = (
    "scene_graphs.json",
    "attributes.json",
    "objects_vocab.txt",
    "attributes_vocab.txt",
    "splits/train.txt",
)

USES_WORKERS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `train-detector`."""
    parser.add_argument("--spec", required=True, help="JSON, or @file: size, recipe, seed")
    parser.add_argument(
        "--raw", type=Path, required=True, help="folder of raw files; Visual Genome is in its vg"
    )
    parser.add_argument("--listing", type=Path, required=True, help="image listing of Visual Genome")
    parser.add_argument("--init", type=Path, help="weights to start from")
    parser.add_argument("--state", type=Path, required=True, help="folder for unfinished work")
    parser.add_argument("--out-weights", type=Path, required=True)
    parser.add_argument("--out-metrics", type=Path, required=True)
    parser.add_argument("--out-history", type=Path, required=True)


def run(args: argparse.Namespace) -> None:
    """Trains, evaluates on the val split, and writes weights, metrics and history."""
    spec = read_job_spec(args.spec)
    size, recipe, seed = read_spec(spec)
    objects, attributes = vocabularies(args.raw)
    size = with_classes(size, len(objects), len(attributes), str(args.raw / "vg"))
    device = set_up(args)
    state = JobState(args.state, {"spec": spec, "inputs": _fingerprints(args)})
    rows = load_rows(args.raw, "train", args.listing, objects, attributes)
    model = _first_weights(size, recipe, seed, args.init).to(device)
    log.info("%d images, %d boxes, %d parameters", len(rows), len(rows.classes), count_parameters(model))
    batches = BatchMaker(rows, size, recipe.images_per_step, recipe.flip, seed, recipe.cache_mb)
    began = time.monotonic()
    Trainer(model, recipe, batches, state, seed, args.workers).run()
    seconds = time.monotonic() - began
    save_detector(args.out_weights, model, weights_meta(spec, objects, attributes))
    history = state.history_path.read_text(encoding="utf-8")
    val = load_rows(args.raw, "val", args.listing, objects, attributes)
    metrics = evaluate(model, val, objects.names, attributes.names, args.workers).metrics
    losses = summary([json.loads(line) for line in history.splitlines()])
    metrics |= {"losses": losses, "steps": recipe.steps, "parameters": count_parameters(model)}
    metrics["train_seconds_last_attempt"] = round(seconds, 1)
    atomic_write_text(args.out_history, history)
    atomic_write_json(args.out_metrics, metrics)
    state.clear()
    log.info(
        "mAP@0.5 %.1f %%, attribute accuracy %.1f %%",
        100 * metrics["objects"]["map"],
        100 * metrics["attribute_accuracy"],
    )


def read_spec(spec: dict[str, Any]) -> tuple[DetectorSize, Recipe, int]:
    """Size, recipe and seed of a job spec.

    Raises:
        SpecError: one is missing or wrong.
    """
    for name in ("size", "recipe"):
        if name not in spec:
            raise SpecError(f"--spec: {name} is missing; give the document.")
    return parse_size(spec["size"]), parse_recipe(spec["recipe"]), int(spec.get("seed", 0))


def vocabularies(raw: Path) -> tuple[Vocabulary, Vocabulary]:
    """Object and attribute vocabulary of a raw folder."""
    return read_vocabulary(raw / "vg" / "objects_vocab.txt"), read_vocabulary(
        raw / "vg" / "attributes_vocab.txt"
    )


def weights_meta(spec: dict[str, Any], objects: Vocabulary, attributes: Vocabulary) -> dict[str, Any]:
    """What weights carry beside tensors: how they came about, and what their classes mean."""
    return {
        "spec": spec,
        "objects": list(objects.names),
        "attributes": list(attributes.names),
        "objects_sha256": objects.sha256,
        "attributes_sha256": attributes.sha256,
    }


def set_up(args: argparse.Namespace) -> torch.device:
    """Threads and device; products in full float32, as features are compared across machines.

    Raises:
        SpecError: more devices are asked for than are visible.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return pick_device(args.gpus, args.threads)


def _first_weights(size: DetectorSize, recipe: Recipe, seed: int, init: Path | None) -> Detector:
    if init is not None:
        model, meta = load_detector(init)
        if meta.get("backbone"):
            return _with_backbone(model, size, recipe, seed, init)
        if model.size != size:
            raise WeightsError(
                f"{init}: holds a detector of another size than {size.size}; choose other weights."
            )
        return model
    if recipe.init.backbone == "weights":
        raise SpecError(f"recipe/init/backbone: {recipe.recipe} starts from weights; give them with --init.")
    return build_detector(size, seed, recipe.init.head_std, recipe.init.residual_gain)


def _with_backbone(given: Detector, size: DetectorSize, recipe: Recipe, seed: int, init: Path) -> Detector:
    """A detector with a given backbone, and the rest drawn for this seed and these classes."""
    model = build_detector(size, seed, recipe.init.head_std, recipe.init.residual_gain)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    tensors = given.state_dict()
    names = backbone_names(size)
    wrong = [name for name in names if name not in tensors or tensors[name].shape != shapes[name]]
    if wrong:
        raise WeightsError(
            f"{init}: holds the backbone of another size than {size.size}, first: {wrong[0]}; convert one for"
            f" it: lxmert convert-detector --backbone --size {size.size}."
        )
    model.load_state_dict({name: tensors[name] for name in names}, strict=False)
    return model


def _fingerprints(args: argparse.Namespace) -> dict[str, Any]:
    found = {name: fingerprint(args.raw / "vg" / name) for name in _INPUTS}
    found["listing"] = fingerprint(args.listing)
    if args.init is not None:
        found["init"] = fingerprint(args.init)
    return found
