"""Pretrains the tiny task on several ranks, once for each precision named; started by `torchrun`.

Arguments: the folder of the tiny task, a folder for states, then precisions.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tiny_task import TinyTask, curve_spec

from lxmert.training.pretrain import PretrainInputs, pretrain
from lxmert.training.ranks import ProcessGroup


def main(task: str, states: str, *precisions: str) -> None:
    torch.set_num_threads(1)
    tiny, device = TinyTask(Path(task), make=False), torch.device("cpu")
    ranks = ProcessGroup(device)
    folder = tiny.folder / "pretrain"
    inputs = PretrainInputs(
        tiny.features,
        folder / "train.safetensors",
        folder / "valid.safetensors",
        tiny.pretrain_answers,
        tiny.vocabulary,
    )
    for precision in precisions:
        pretrain(curve_spec(tiny, precision), inputs, Path(states) / precision, device, 0, ranks)
    ranks.wait()
    ranks.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
