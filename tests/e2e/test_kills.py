"""Training and answering, killed with SIGKILL at several moments, end with the bytes of an unbroken run."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from job_commands import TinyTask, command, outputs, run, start, told


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TinyTask:
    return TinyTask(tmp_path_factory.mktemp("tiny"))


def moment(path: Path) -> int:
    """When a file was last replaced; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def kill_once(arguments: list[str], folder: Path, draw: random.Random) -> bool:
    """Starts the job and kills it some time after its state has moved on; False if it was done before."""
    job = start(arguments)
    state = folder / "state" / "state.safetensors"
    seen = {moment(state)}
    while job.poll() is None and len(seen) < 3:  # the first save of training is of step 0
        seen.add(moment(state))
        time.sleep(0.002)
    time.sleep(draw.random() * 0.4)
    job.send_signal(signal.SIGKILL)
    return job.wait() == -signal.SIGKILL


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "predict"])
def test_killed_jobs_end_with_the_same_bytes(task: TinyTask, tmp_path: Path, verb: str) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    weights = None
    if verb == "predict":
        weights = tmp_path / "run" / "weights.safetensors"
        trained = run(command(task, "finetune", weights.parent))
        assert trained.returncode == 0, trained.stderr
    finished = run(command(task, verb, whole, weights))
    assert finished.returncode == 0, finished.stderr
    draw = random.Random(verb)
    kills = sum(kill_once(command(task, verb, broken, weights), broken, draw) for _ in range(4))
    assert kills >= 2, "the job is too short to be killed twice; give it more epochs"
    early, right = outputs(broken), outputs(whole)  # a kill may fall between two of the last files
    assert all(right[name] == content for name, content in early.items()), "half a file under a final name"
    finished = run(command(task, verb, broken, weights))
    assert finished.returncode == 0, finished.stderr
    assert "going on at " in finished.stderr
    assert outputs(whole) == outputs(broken) and outputs(whole)
    left = {path.name for path in broken.rglob("*") if "tmp-" in path.name}
    assert not left, left


def test_term_saves_and_exits_with_its_own_status(task: TinyTask, tmp_path: Path) -> None:
    job = start(command(task, "finetune", tmp_path))
    while job.poll() is None and not (tmp_path / "state" / "state.safetensors").exists():
        time.sleep(0.005)
    job.terminate()
    _, stderr = job.communicate()
    assert job.returncode == 75, stderr
    assert "Run the same command again to go on" in stderr and "Traceback" not in stderr


def test_term_to_all_processes_of_a_job_saves_too(task: TinyTask, tmp_path: Path) -> None:
    """As a scheduler signals: the processes that load data must outlive it, or the step has no batch."""
    job = start([*command(task, "finetune", tmp_path), "--workers", "2"], group=True)
    state = tmp_path / "state" / "state.safetensors"
    first = 0
    while job.poll() is None and (not first or moment(state) == first):  # beyond the save of step 0
        first = first or moment(state)
        time.sleep(0.005)
    os.killpg(job.pid, signal.SIGTERM)
    _, stderr = job.communicate()
    assert job.returncode == 75 and "Traceback" not in stderr, stderr


def test_wrong_input_is_one_line_and_status_2(task: TinyTask, tmp_path: Path) -> None:
    arguments = command(task, "finetune", tmp_path)
    arguments[arguments.index("--examples") + 1] = str(tmp_path / "nowhere")
    failed = run(arguments)
    assert failed.returncode == 2 and "Traceback" not in failed.stderr
    message = told(failed.stderr)
    assert len(message) == 1 and "nowhere" in message[0] and "no such file" in message[0]
