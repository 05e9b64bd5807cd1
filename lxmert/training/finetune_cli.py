"""Fine-tune a system on one task; stopped or killed, the same command goes on where it was."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lxmert.files import atomic_write_json
from lxmert.specs.jobs import read_job_spec
from lxmert.training import launch
from lxmert.training.finetune_data import FinetuneData, FinetuneInputs

if TYPE_CHECKING:
    import torch

    from lxmert.training.ranks import Ranks

NEEDS = (
    *launch.NEEDS,
    *("vision", "init", "task/head", "task/train_on", "task/select_on", "recipe/loss/name"),
)

USES_WORKERS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `finetune`."""
    parser.add_argument("--spec", required=True, help="job spec: JSON, or @file.json")
    parser.add_argument("--features", required=True, nargs="+", type=Path, help="region stores")
    parser.add_argument("--examples", required=True, type=Path, help="folder of the task's examples")
    parser.add_argument("--vocabulary", required=True, type=Path, help="vocab.txt")
    parser.add_argument("--init", type=Path, help="pretrained weights")
    parser.add_argument("--pretrain-answers", type=Path, help="answer table of the pretrained weights")
    parser.add_argument("--state", required=True, type=Path, help="folder for unfinished work")
    parser.add_argument("--out-weights", required=True, type=Path, help="best weights")
    parser.add_argument("--out-last", required=True, type=Path, help="last weights")
    parser.add_argument("--out-spec", required=True, type=Path, help="the spec, as JSON")
    parser.add_argument("--out-metrics", required=True, type=Path, help="scores and seconds, as JSON")
    parser.add_argument("--out-history", required=True, type=Path, help="training curve, JSON lines")
    launch.add_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Trains and writes the outputs, in one process or in several."""
    spec = read_job_spec(args.spec, needs=NEEDS)
    inputs = FinetuneInputs(args.features, args.examples, args.vocabulary, args.init, args.pretrain_answers)
    data = FinetuneData.open(spec, inputs)
    launch.run_on_ranks(args, "finetune", partial(_train, spec, inputs, data))


def _train(
    spec: dict[str, Any],
    inputs: FinetuneInputs,
    data: FinetuneData,
    args: argparse.Namespace,
    device: torch.device,
    ranks: Ranks,
) -> None:
    from lxmert.models.weights import model_tensors, save_weights
    from lxmert.training.curve import copy_history
    from lxmert.training.finetune import finetune

    tensorboard = args.tensorboard and args.tensorboard / spec["run"]
    trainer, meta = finetune(spec, inputs, args.state, device, args.workers, ranks, tensorboard, data)
    if not ranks.first:
        return
    save_weights(args.out_last, model_tensors(trainer.job.model), meta)
    trainer.load_best()
    save_weights(args.out_weights, model_tensors(trainer.job.model), meta)
    atomic_write_json(args.out_spec, spec)
    copy_history(trainer.job.state, args.out_history)
    atomic_write_json(
        args.out_metrics,
        {
            "run": spec["run"],
            "split": spec["task"]["select_on"],
            "score": trainer.best,
            "best_step": trainer.best_step,
            "steps": trainer.total_steps,
            "evaluations": trainer.evaluations,
            "seconds": trainer.seconds(),
            "answer_rows": meta["answer_rows"],
            "at_chance": trainer.at_chance,
        },
    )
    trainer.job.state.clear()
