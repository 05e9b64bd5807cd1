"""Two processes train as one does, and meet faults alike; what they tell each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranks_job import CPU, FAULTS, SPOILT_EXAMPLE, SPOILT_STEP, train_with_fault
from tiny_task import TinyTask, curve_spec, pretrain_inputs

from lxmert.training.pretrain import pretrain
from lxmert.training.ranks import Ranks

HERE = Path(__file__).parent
TOLERANCES = {"fp64": 1e-9, "fp32": 1e-4}


@pytest.fixture(scope="module")
def two(tiny: TinyTask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of everything that two ranks are asked here, in one start of them."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(HERE / "ranks_job.py"), str(tiny.folder), str(folder), "cpu", *TOLERANCES, *FAULTS]
    paths = os.pathsep.join([str(HERE.parents[2]), str(HERE)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    torch.set_num_threads(1)
    return folder


def curve(state: Path) -> np.ndarray:
    records = [json.loads(line) for line in (state / "history.jsonl").read_text().splitlines()]
    return np.array([record["loss"] for record in records if "losses" in record])


@pytest.mark.parametrize("precision", TOLERANCES)
def test_two_ranks_give_the_curve_of_one(tiny: TinyTask, two: Path, tmp_path: Path, precision: str) -> None:
    """100 steps, dropout off: 1e-9 in float64, 1e-4 in float32; regions and words are padded and masked."""
    pretrain(curve_spec(tiny, precision), pretrain_inputs(tiny), tmp_path, CPU, 0)
    expected, found = curve(tmp_path), curve(two / precision)
    assert len(expected) == len(found) == 100
    difference = float(np.abs(expected - found).max())
    print(f"two ranks against one, {precision}: losses differ by {difference:.1e} at most")
    assert difference <= TOLERANCES[precision]
    assert expected[-10:].mean() < 0.9 * expected[:10].mean()
    assert not np.array_equal(expected, found) or precision == "fp32"


@pytest.mark.parametrize("fault", FAULTS)
def test_two_ranks_meet_a_fault_alike_and_as_one_does(
    tiny: TinyTask, two: Path, tmp_path: Path, fault: str
) -> None:
    """A batch or weights that are not finite, or too little memory on one of the two; with dropout."""

    def found(folder: Path, rank: int) -> dict[str, Any]:
        return json.loads((folder / f"{fault}.{rank}.json").read_text())

    train_with_fault(tiny, fault, tmp_path, Ranks())
    one, first, second = found(tmp_path, 0), found(two, 0), found(two, 1)
    assert first["weights"] == second["weights"] and first["step"] == second["step"] == one["step"] == 12
    assert first["bad"] == second["bad"] == one["bad"]
    for name, value in one["weights"].items():
        np.testing.assert_allclose(first["weights"][name], value, rtol=0, atol=1e-9, err_msg=name)
    limits = (first["micro_batch"], second["micro_batch"])
    assert limits == ((None, 2) if fault == "memory" else (None, None))
    named = {"batch": 1, "weights": 8}.get(fault, 0)  # one example by its own loss, or the whole batch
    assert [len(names) for names in one["bad"].values()] == [named] * bool(named)
    assert list(one["bad"]) == [str(SPOILT_STEP)] * bool(named) and SPOILT_EXAMPLE < 8


def test_one_process_needs_nobody() -> None:
    ranks = Ranks()
    values = torch.tensor([1.0, 2.0])
    ranks.add_up(values)
    ranks.add_up_gradients([values])
    with ranks.one_by_one():
        ranks.wait()
    assert values.tolist() == [1.0, 2.0] and ranks.first and ranks.count == 1
    assert ranks.any_of(True) and not ranks.any_of(False)
