"""Answer a split and write its submission file, validated before it takes its name."""

from __future__ import annotations

import argparse
from pathlib import Path

from lxmert.files import fingerprint, sha256_file
from lxmert.specs.jobs import read_job_spec

NEEDS = (
    *(
        "run",
        "system/system",
        "system/encoder",
        "size/hidden",
        "vision",
        "task/task",
        "task/head",
        "task/submission",
    ),
    "recipe/evaluate_batch",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `predict`."""
    parser.add_argument(
        "--spec",
        required=True,
        help="job spec of the run: JSON, or @file.json; its recipe's precision counts",
    )
    parser.add_argument("--features", required=True, nargs="+", type=Path, help="region stores")
    parser.add_argument("--examples", required=True, type=Path, help="folder of the task's examples")
    parser.add_argument("--split", required=True, help="split to answer, for example test")
    parser.add_argument("--weights", required=True, type=Path, help="the run's weights")
    parser.add_argument("--state", required=True, type=Path, help="folder for unfinished work")
    parser.add_argument(
        "--quantize",
        choices=("none", "int8"),
        help="int8: matrices as 8-bit integers, on the CPU; faster, and a few answers change. Left out: what"
        " the spec says, or none",
    )
    parser.add_argument("--out", required=True, type=Path, help="submission file")


def run(args: argparse.Namespace) -> None:
    """Predicts and writes."""
    from lxmert.data.columns import Columns
    from lxmert.devices import pick_device
    from lxmert.tasks.submission import write_submission
    from lxmert.training.predict import answers_of, predict

    spec = read_job_spec(args.spec, needs=NEEDS)
    device = pick_device(args.gpus, args.threads)
    quantize = args.quantize or spec.get("quantize", "none")
    predicted, state = predict(
        spec, args.features, args.examples, args.split, args.weights, args.state, device, quantize
    )
    write_submission(
        spec["task"],
        Columns(args.examples / f"{args.split}.safetensors"),
        answers_of(args.weights, args.examples),
        predicted,
        args.out,
        {
            "run": spec["run"],
            "weights_sha256": sha256_file(args.weights),
            "features": {path.stem: fingerprint(path)["sha256"] for path in args.features},
            "subset": spec.get("subset"),
            "precision": spec["recipe"].get("precision", "fp32"),
            "quantize": quantize,
        },
    )
    state.clear()
