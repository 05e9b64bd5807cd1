"""Published fine-tuned weights in the place of a run's own, which then answers without training."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from lxmert.errors import WeightsError
from lxmert.files import atomic_write_json, atomic_write_text, sha256_file
from lxmert.specs.jobs import read_job_spec

log = logging.getLogger(__name__)

NEEDS = ("run", "size", "task/head", "task/select_on")
# What no tensor shows; the rest of the size must be that of the run.
_FREE = ("hidden_dropout", "attention_dropout", "initial_std")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `take-finetuned`."""
    parser.add_argument("--spec", required=True, help="job spec of the run: JSON, or @file.json")
    parser.add_argument("--weights", required=True, type=Path, help="file, or folder of transformers")
    parser.add_argument(
        "--answers", required=True, type=Path, help="answers of the head, position = label id"
    )
    parser.add_argument("--out-weights", required=True, type=Path, help="the weights, in this project's form")
    parser.add_argument("--out-spec", required=True, type=Path, help="the spec, as JSON")
    parser.add_argument("--out-metrics", required=True, type=Path, help="where the weights are from, as JSON")
    parser.add_argument("--out-history", required=True, type=Path, help="an empty training curve")


def run(args: argparse.Namespace) -> None:
    """Converts and writes what a run leaves."""
    from lxmert.convert.converting import Wish, convert
    from lxmert.convert.reading import read_any

    spec = read_job_spec(args.spec, needs=NEEDS)
    heads = spec["size"]["heads"]
    _check(read_any(args.weights, heads=heads).description, spec, args.weights)
    for line in convert(args.weights, args.out_weights, Wish(answers=args.answers, heads=heads)):
        log.info("%s", line)
    taken = {"file": args.weights.name, "sha256": sha256_file(args.weights)} if args.weights.is_file() else {}
    atomic_write_json(args.out_spec, spec)
    atomic_write_json(
        args.out_metrics,
        {
            "run": spec["run"],
            "split": spec["task"]["select_on"],
            "steps": 0,
            "evaluations": [],
            "taken": taken,
        },
    )
    atomic_write_text(args.out_history, "")


def _check(found: Any, spec: dict[str, Any], source: Path) -> None:
    """Refuses weights of another kind or size than the run's.

    Raises:
        WeightsError: they are.
    """
    pair = spec["task"]["head"] == "pair_classification"
    if found.kind != "task" or found.pair != pair:
        raise WeightsError(
            f"{source}: holds no head of the kind {spec['task']['head']}."
            " Give weights that were fine-tuned on this task."
        )
    for name, value in spec["size"].items():
        if name not in _FREE and found.size[name] != value:
            raise WeightsError(
                f"{source}: {name} is {found.size[name]}, but the run's is {value}."
                f" Set overrides/lxmert/size/{name}: {found.size[name]}."
            )
