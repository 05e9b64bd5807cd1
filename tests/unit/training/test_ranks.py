"""Two processes train as one does; what they tell each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from tiny_task import TinyTask, curve_spec

from lxmert.training.pretrain import PretrainInputs, pretrain
from lxmert.training.ranks import Ranks

HERE = Path(__file__).parent


def curve(state: Path) -> np.ndarray:
    records = [json.loads(line) for line in (state / "history.jsonl").read_text().splitlines()]
    return np.array([record["loss"] for record in records if "losses" in record])


def test_two_ranks_give_the_curve_of_one(tiny: TinyTask, tmp_path: Path) -> None:
    """100 steps, dropout off: 1e-9 in float64, 1e-4 in float32; regions and words are padded and masked."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(HERE / "ranks_job.py"), str(tiny.folder), str(tmp_path / "two"), "fp64", "fp32"]
    paths = os.pathsep.join([str(HERE.parents[2]), str(HERE)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    torch.set_num_threads(1)
    folder = tiny.folder / "pretrain"
    inputs = PretrainInputs(
        tiny.features,
        folder / "train.safetensors",
        folder / "valid.safetensors",
        tiny.pretrain_answers,
        tiny.vocabulary,
    )
    for precision, tolerance in (("fp64", 1e-9), ("fp32", 1e-4)):
        one = tmp_path / "one" / precision
        pretrain(curve_spec(tiny, precision), inputs, one, torch.device("cpu"), 0)
        expected, found = curve(one), curve(tmp_path / "two" / precision)
        assert len(expected) == len(found) == 100
        assert np.abs(expected - found).max() <= tolerance
        assert expected[-10:].mean() < 0.9 * expected[:10].mean()
        assert not np.array_equal(expected, found) or precision == "fp32"


def test_one_process_needs_nobody() -> None:
    ranks = Ranks()
    values = torch.tensor([1.0, 2.0])
    ranks.add_up(values)
    ranks.add_up_gradients([values])
    with ranks.one_by_one():
        ranks.wait()
    assert values.tolist() == [1.0, 2.0] and ranks.first and ranks.count == 1
    assert ranks.any_of(True) and not ranks.any_of(False)
