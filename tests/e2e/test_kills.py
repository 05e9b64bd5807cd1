"""Training and answering, killed with SIGKILL at several moments, end with the bytes of an unbroken run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit" / "training"))

from tiny_task import TinyTask  # noqa: E402

SAVE_OFTEN = {"save_every_seconds": 0, "log_every_steps": 5}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TinyTask:
    return TinyTask(tmp_path_factory.mktemp("tiny"))


def command(task: TinyTask, verb: str, folder: Path, weights: Path | None) -> list[str]:
    """A verb as a user types it, with its outputs in `folder`."""
    features = [str(path) for path in task.features]
    arguments: dict[str, list[str]] = {
        "pretrain": [
            *("--spec", json.dumps(task.pretrain_spec(max_epochs=12, **SAVE_OFTEN))),
            *("--train", f"{task.folder}/pretrain/train.safetensors"),
            *("--valid", f"{task.folder}/pretrain/valid.safetensors"),
            *("--answers", str(task.pretrain_answers), "--vocabulary", str(task.vocabulary)),
            *("--out-weights", f"{folder}/weights.safetensors"),
        ],
        "finetune": [
            *("--spec", json.dumps(task.spec(recipe={"max_epochs": 10, **SAVE_OFTEN}))),
            *("--examples", f"{task.folder}/single", "--vocabulary", str(task.vocabulary)),
            *("--out-weights", f"{folder}/weights.safetensors", "--out-last", f"{folder}/last.safetensors"),
            *("--out-spec", f"{folder}/spec.json"),
        ],
        "predict": [
            *("--spec", json.dumps(task.spec(recipe={"evaluate_batch": 1, **SAVE_OFTEN}))),
            *("--examples", f"{task.folder}/single", "--split", "long", "--weights", str(weights)),
            *("--out", f"{folder}/long_predict.json"),
        ],
    }
    measured = ["--out-metrics", f"{folder}/metrics.json", "--out-history", f"{folder}/history.jsonl"]
    return [
        *(sys.executable, "-m", "lxmert", "--threads", "1", verb, "--features", *features),
        *arguments[verb],
        *("--state", f"{folder}/state"),
        *(measured if verb != "predict" else []),
    ]


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)


def kill_once(arguments: list[str], folder: Path, draw: random.Random) -> bool:
    """Starts the job and kills it some time after its state has moved; False if it was done before."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    job = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)
    state = folder / "state" / "state.safetensors"
    before = state.stat().st_mtime_ns if state.exists() else 0
    while job.poll() is None and not (state.exists() and state.stat().st_mtime_ns != before):
        time.sleep(0.002)
    time.sleep(draw.random() * 0.4)
    job.send_signal(signal.SIGKILL)
    return job.wait() == -signal.SIGKILL


def outputs(folder: Path) -> dict[str, bytes]:
    """What must be equal: weights, answers, spec; not seconds."""
    names = ("weights.safetensors", "last.safetensors", "spec.json", "long_predict.json")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "predict"])
def test_killed_jobs_end_with_the_same_bytes(task: TinyTask, tmp_path: Path, verb: str) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    weights = None
    if verb == "predict":
        weights = tmp_path / "run" / "weights.safetensors"
        trained = run(command(task, "finetune", weights.parent, None))
        assert trained.returncode == 0, trained.stderr
    finished = run(command(task, verb, whole, weights))
    assert finished.returncode == 0, finished.stderr
    draw = random.Random(verb)
    kills = sum(kill_once(command(task, verb, broken, weights), broken, draw) for _ in range(4))
    assert kills >= 2, "the job is too short to be killed twice; give it more epochs"
    assert not outputs(broken), "a killed job left a file under a final name"
    finished = run(command(task, verb, broken, weights))
    assert finished.returncode == 0, finished.stderr
    assert "going on at " in finished.stderr
    assert outputs(whole) == outputs(broken) and outputs(whole)
    left = {path.name for path in broken.rglob("*") if "tmp-" in path.name}
    assert not left, left


def test_term_saves_and_exits_with_its_own_status(task: TinyTask, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = command(task, "finetune", tmp_path, None)
    job = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)
    while job.poll() is None and not (tmp_path / "state" / "state.safetensors").exists():
        time.sleep(0.005)
    job.terminate()
    _, stderr = job.communicate()
    assert job.returncode == 75, stderr
    assert "Run the same command again to go on" in stderr and "Traceback" not in stderr


def test_wrong_input_is_one_line_and_status_2(task: TinyTask, tmp_path: Path) -> None:
    arguments = command(task, "finetune", tmp_path, None)
    arguments[arguments.index("--examples") + 1] = str(tmp_path / "nowhere")
    failed = run(arguments)
    assert failed.returncode == 2 and "Traceback" not in failed.stderr
    message = [line for line in failed.stderr.splitlines() if " INFO " not in line]
    assert len(message) == 1 and "nowhere" in message[0] and "no such file" in message[0]
