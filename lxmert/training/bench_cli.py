"""Measure a run: `bench loader`, examples a second of its loader against its model's appetite.

Takes the inputs of `finetune` (--examples) or of `pretrain` (--train, --answers) and the same --workers,
--threads and --gpus; writes nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lxmert.errors import SpecError
from lxmert.specs.jobs import read_job_spec
from lxmert.training import finetune_cli, pretrain_cli

if TYPE_CHECKING:
    from lxmert.training.step import Task

NEEDS = {"finetune": finetune_cli.NEEDS, "pretrain": pretrain_cli.NEEDS}  # by kind of job

USES_WORKERS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bench`."""
    parser.add_argument(
        "what",
        choices=("loader",),
        help="examples a second of the loader and of the model, and which of them is the bottleneck",
    )
    parser.add_argument("--spec", required=True, help="job spec: JSON, or @file.json")
    parser.add_argument("--features", required=True, nargs="+", type=Path, help="region stores")
    parser.add_argument("--vocabulary", required=True, type=Path, help="vocab.txt")
    parser.add_argument("--examples", type=Path, help="fine-tuning: folder of the task's examples")
    parser.add_argument("--train", type=Path, help="pretraining: examples of the aggregated corpus")
    parser.add_argument("--answers", type=Path, help="pretraining: joint answer table")
    parser.add_argument("--steps", type=int, default=20, help="batches of each measurement (default 20)")


def run(args: argparse.Namespace) -> None:
    """Measures and prints.

    Raises:
        LxmertError: an input does not fit.
    """
    from lxmert.devices import pick_device
    from lxmert.training.loader_speed import measure_loader

    if args.steps < 2:
        raise SpecError(f"--steps: {args.steps} is too few to measure; give 2 or more.")
    spec = read_job_spec(args.spec, needs=("kind",))
    if spec["kind"] not in NEEDS:
        raise SpecError(f"--spec: kind is {spec['kind']!r}, and must be {' or '.join(NEEDS)}.")
    read_job_spec(args.spec, needs=NEEDS[spec["kind"]])
    device = pick_device(args.gpus, args.threads)
    task, batches = _finetuning(args, spec) if spec["kind"] == "finetune" else _pretraining(args, spec)
    task.model.to(device)
    speed = measure_loader(task, batches, spec["recipe"], device, args.workers, args.steps)
    print("\n".join(speed.lines()))


def _finetuning(args: argparse.Namespace, spec: dict[str, Any]) -> tuple[Task, Any]:
    from lxmert.training.building import build_task_model
    from lxmert.training.finetune_data import FinetuneData, FinetuneInputs
    from lxmert.training.task_loss import task_loss

    _require(args, spec, "examples")
    data = FinetuneData.open(spec, FinetuneInputs(args.features, args.examples, args.vocabulary))
    model = build_task_model(spec, data.words, data.regions.feature_width, len(data.answers))
    return task_loss(spec["recipe"]["loss"]["name"]).task(model), data.batches


def _pretraining(args: argparse.Namespace, spec: dict[str, Any]) -> tuple[Task, Any]:
    from lxmert.data.answers import read_answer_table
    from lxmert.data.batching import PretrainBatches
    from lxmert.data.regions import RegionSource
    from lxmert.data.wordpiece import read_vocabulary
    from lxmert.training.building import build_pretraining_model
    from lxmert.training.step import Task

    _require(args, spec, "train", "answers")
    regions = RegionSource(args.features, spec["recipe"].get("cut"))
    vocabulary = read_vocabulary(args.vocabulary)
    answers = len(read_answer_table(args.answers))
    model = build_pretraining_model(spec, len(vocabulary), regions, answers)
    batches = PretrainBatches(args.train, regions, spec["recipe"], vocabulary, spec["seed"])
    return Task(model, model.encoder.noise, model, model.denominators, model.weights), batches


def _require(args: argparse.Namespace, spec: dict[str, Any], *names: str) -> None:
    absent = [f"--{name}" for name in names if getattr(args, name) is None]
    if absent:
        raise SpecError(f"bench loader: a spec of kind {spec['kind']} needs {' and '.join(absent)}; add it.")
