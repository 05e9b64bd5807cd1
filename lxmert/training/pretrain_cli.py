"""Pretrain a system; stopped or killed, the same command goes on where it was."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lxmert.files import atomic_write_json
from lxmert.specs.jobs import read_job_spec
from lxmert.training import launch
from lxmert.training.pretrain_data import PretrainData, PretrainInputs

if TYPE_CHECKING:
    import torch

    from lxmert.training.ranks import Ranks

NEEDS = (
    *launch.NEEDS,
    *("recipe/word_mask_rate", "recipe/region_mask_rate", "recipe/mismatch_rate", "recipe/objectives"),
)

USES_WORKERS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `pretrain`."""
    parser.add_argument("--spec", required=True, help="job spec: JSON, or @file.json")
    parser.add_argument("--features", required=True, nargs="+", type=Path, help="region stores")
    parser.add_argument("--train", required=True, type=Path, help="examples of the aggregated corpus")
    parser.add_argument("--valid", required=True, type=Path, help="examples of its held-out part")
    parser.add_argument("--answers", required=True, type=Path, help="joint answer table")
    parser.add_argument("--vocabulary", required=True, type=Path, help="vocab.txt")
    parser.add_argument("--init", type=Path, help="BERT's weights, where the recipe says init: bert")
    parser.add_argument("--state", required=True, type=Path, help="folder for unfinished work")
    parser.add_argument("--out-weights", required=True, type=Path, help="last weights, as published runs use")
    parser.add_argument("--out-metrics", required=True, type=Path, help="losses and seconds, as JSON")
    parser.add_argument("--out-history", required=True, type=Path, help="training curve, JSON lines")
    launch.add_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Trains and writes the outputs, in one process or in several."""
    spec = read_job_spec(args.spec, needs=NEEDS)
    inputs = PretrainInputs(args.features, args.train, args.valid, args.answers, args.vocabulary, args.init)
    data = PretrainData.open(spec, inputs)
    launch.run_on_ranks(args, "pretrain", partial(_train, spec, inputs, data))


def _train(
    spec: dict[str, Any],
    inputs: PretrainInputs,
    data: PretrainData,
    args: argparse.Namespace,
    device: torch.device,
    ranks: Ranks,
) -> None:
    from lxmert.models.weights import model_tensors, save_weights
    from lxmert.training.curve import copy_history
    from lxmert.training.pretrain import pretrain

    tensorboard = args.tensorboard and args.tensorboard / spec["run"]
    trainer, meta = pretrain(spec, inputs, args.state, device, args.workers, ranks, tensorboard, data)
    if not ranks.first:
        return
    save_weights(args.out_weights, model_tensors(trainer.job.model), meta)
    copy_history(trainer.job.state, args.out_history)
    atomic_write_json(
        args.out_metrics,
        {
            "run": spec["run"],
            "split": "valid",
            "steps": trainer.total_steps,
            "evaluations": trainer.evaluations,
            "seconds": trainer.seconds(),
        },
    )
    trainer.job.state.clear()
