"""On GPUs: a step is that of the processor, and two ranks over NCCL are one. Skipped where there are none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_model import batch, model, step_of
from tiny_task import TinyTask, curve_spec, pretrain_inputs

from lxmert.training.pretrain import pretrain

HERE = Path(__file__).parent
pytestmark = pytest.mark.gpu


def require_gpus(count: int) -> None:
    found = torch.cuda.device_count()
    if found < count:
        pytest.skip(f"needs {count} CUDA device(s), PyTorch {torch.__version__} sees {found}")


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.02), ("fp16", 0.02)])
def test_a_step_is_that_of_the_processor(precision: str, tolerance: float) -> None:
    """Eight updates with dropout, whose noise does not depend on the device."""
    require_gpus(1)
    losses = {}
    for name in ("cpu", "cuda"):
        training = step_of(model(), precision if name == "cuda" else "fp32", lr=1e-3, device=name)
        losses[name] = [training.run(batch(), 3, step, 1.0).loss for step in range(8)]
        assert all(value.device.type == name for value in training.optimizer.first.values())
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=tolerance)
    assert losses["cuda"][-1] < losses["cuda"][0]


def test_two_ranks_over_nccl_give_the_curve_of_one(tiny: TinyTask, tmp_path: Path) -> None:
    require_gpus(2)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(HERE / "ranks_job.py"), str(tiny.folder), str(tmp_path / "two"), "cuda", "fp32"]
    paths = os.pathsep.join([str(HERE.parents[2]), str(HERE)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    one = tmp_path / "one"
    pretrain(curve_spec(tiny, "fp32"), pretrain_inputs(tiny), one, torch.device("cuda", 0), 0)
    expected, found = curve(one), curve(tmp_path / "two" / "fp32")
    assert len(expected) == len(found) == 100 and np.abs(expected - found).max() <= 1e-3


def curve(state: Path) -> np.ndarray:
    records = [json.loads(line) for line in (state / "history.jsonl").read_text().splitlines()]
    return np.array([record["loss"] for record in records if "losses" in record])
