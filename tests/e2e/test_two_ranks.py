"""Two ranks as a user starts them: the weights of one, signals, a killed rank, one line for what is wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from job_commands import TinyTask, command, outputs, run, start, told
from safetensors.torch import load_file

RECIPE = {"max_epochs": 12, "precision": "fp64", "log_every_steps": 1}
STEPS = 12 * 6  # whole batches of 8, of 51 examples


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TinyTask:
    return TinyTask(tmp_path_factory.mktemp("tiny"))


def steps_on_record(folder: Path) -> int:
    history = folder / "state" / "history.jsonl"
    return history.read_text().count('"losses"') if history.exists() else 0


def start_and_get_ahead(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    """Two ranks at work, some steps beyond where they began."""
    before = steps_on_record(folder)
    job = start(arguments, TMPDIR=str(folder))  # so that this test finds the ranks
    while job.poll() is None and steps_on_record(folder) < before + 3:
        time.sleep(0.005)
    return job


def test_two_ranks_stopped_killed_and_started_again_end_as_unbroken_ones(
    task: TinyTask, tmp_path: Path
) -> None:
    """With dropout. In float64 the order of additions, all that ranks change, is seen at 1e-15."""
    one, two, broken = (tmp_path / name for name in ("one", "two", "broken"))
    for folder, ranks in ((one, 1), (two, 2)):
        done = run(command(task, "finetune", folder, ranks=ranks, **RECIPE))
        assert done.returncode == 0, done.stderr
        assert not told(done.stderr)
    assert done.stderr.count(f"answers, {STEPS} steps") == 1, "one rank speaks for all"
    alone, together = (load_file(folder / "last.safetensors") for folder in (one, two))
    assert alone.keys() == together.keys()
    assert max(float((together[name] - value).abs().max()) for name, value in alone.items()) < 1e-9

    broken.mkdir()
    again = command(task, "finetune", broken, ranks=2, **RECIPE)
    job = start_and_get_ahead(again, broken)
    job.terminate()
    _, stderr = job.communicate()
    assert job.returncode == 75 and not told(stderr), stderr
    assert "finetune: stopped: saved at step" in stderr and not outputs(broken)

    job = start_and_get_ahead(again, broken)
    (number,) = broken.glob("lxmert-ranks-*/1.pid")
    os.kill(int(number.read_text()), signal.SIGKILL)
    _, stderr = job.communicate()
    (line,) = told(stderr)
    assert job.returncode == 2 and not outputs(broken)
    assert "rank 1 was killed by SIGKILL" in line and f"What was saved is in {broken / 'state'}" in line

    done = run(again)
    assert done.returncode == 0 and "going on at step" in done.stderr, done.stderr
    assert outputs(two) == outputs(broken) and len(outputs(two)) == 3
    assert not list(broken.glob("lxmert-ranks-*"))


@pytest.mark.parametrize("where", ["before the ranks start", "in every rank"])
def test_wrong_input_of_two_ranks_is_one_line(task: TinyTask, tmp_path: Path, where: str) -> None:
    wrong = {"loss": {"name": "hinge"}} if where == "in every rank" else {}
    arguments = command(task, "finetune", tmp_path, ranks=2, **wrong)
    if not wrong:
        arguments[arguments.index("--examples") + 1] = str(tmp_path / "nowhere")
    failed = run(arguments)
    (line,) = told(failed.stderr)
    assert failed.returncode == 2 and ("unknown loss" if wrong else "nowhere") in line
    assert ("starting 2 ranks" in failed.stderr) == bool(wrong) and not outputs(tmp_path)
