"""Trains the tiny task on several ranks, once for each job named; started by `torchrun`.

Arguments: the folder of the tiny task, a folder for states, `cpu` or `cuda`, then jobs: a precision, whose
curve is wanted, or a fault of `FAULTS`, which leaves `FAULT.RANK.json` with what that rank made of it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from tiny_task import TinyTask, curve_spec, finetune_inputs, pretrain_inputs
from tiny_task import fault_spec as spec_of

from lxmert.models.weights import model_tensors
from lxmert.training import loop
from lxmert.training.finetune import finetune
from lxmert.training.pretrain import pretrain
from lxmert.training.ranks import ProcessGroup, Ranks
from lxmert.types import Batch

CPU = torch.device("cpu")
SPOILT_STEP, SPOILT_EXAMPLE = 3, 6  # of the second rank's half
PLAIN_STREAM, PLAIN_LOSSES = loop.stream, loop.TrainingStep.run


def spoil_a_batch(rank: int) -> None:
    """One feature of one example is no number."""

    def stream(*arguments):  # noqa: ANN002, ANN202
        for step, batch in PLAIN_STREAM(*arguments):
            if step == SPOILT_STEP:
                batch.features[SPOILT_EXAMPLE] = float("nan")
            yield step, batch

    loop.stream = stream


def spoil_the_weights(rank: int) -> None:
    """An update of one rank spoils a weight once: the same update everywhere, so the same on all."""

    def run(self, batch: Batch, seed: int, step: int, *rest):  # noqa: ANN001, ANN002, ANN202
        outcome = PLAIN_LOSSES(self, batch, seed, step, *rest)
        if step == SPOILT_STEP and outcome.updated:
            self.optimizer.parameters["head.outer.bias"].data[0] = float("inf")
        return outcome

    loop.TrainingStep.run = run


def run_short(rank: int) -> None:
    """The second rank's device holds two examples, the first one's all."""

    def run(self, *arguments):  # noqa: ANN001, ANN002, ANN202
        plain = self.task.losses

        def losses(piece: Batch) -> dict:
            if rank == 1 and len(piece) > 2:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return plain(piece)

        self.task.losses = losses
        try:
            return PLAIN_LOSSES(self, *arguments)
        finally:
            self.task.losses = plain

    loop.TrainingStep.run = run


FAULTS: dict[str, Callable[[int], None]] = {
    "none": lambda rank: None,
    "batch": spoil_a_batch,
    "weights": spoil_the_weights,
    "memory": run_short,
}


def train_with_fault(tiny: TinyTask, fault: str, folder: Path, ranks: Ranks) -> None:
    """Fine-tunes with a fault, and writes what this rank found."""
    FAULTS[fault](ranks.rank)
    try:
        trainer, _ = finetune(spec_of(tiny), finetune_inputs(tiny), folder / fault, CPU, 0, ranks)
    finally:
        loop.stream, loop.TrainingStep.run = PLAIN_STREAM, PLAIN_LOSSES
    found = {
        "step": trainer.step,
        "bad": trainer.bad.state(),
        "micro_batch": trainer.training.micro_batch,
        "weights": {name: value.tolist() for name, value in model_tensors(trainer.job.model).items()},
    }
    (folder / f"{fault}.{ranks.rank}.json").write_text(json.dumps(found))


def main(task: str, states: str, kind: str, *jobs: str) -> None:
    torch.set_num_threads(1)
    tiny = TinyTask(Path(task), make=False)
    device = torch.device(kind, int(os.environ["LOCAL_RANK"])) if kind == "cuda" else CPU
    if kind == "cuda":
        torch.cuda.set_device(device)
    ranks = ProcessGroup(device)
    for job in jobs:
        if job in FAULTS:
            train_with_fault(tiny, job, Path(states), ranks)
        else:
            pretrain(curve_spec(tiny, job), pretrain_inputs(tiny), Path(states) / job, device, 0, ranks)
    ranks.wait()
    ranks.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
