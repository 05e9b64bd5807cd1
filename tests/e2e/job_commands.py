"""Verbs on the tiny task as a user types them, and what of their outputs must be equal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit" / "training"))

from tiny_task import TinyTask  # noqa: E402

SAVE_OFTEN = {"save_every_seconds": 0, "log_every_steps": 5}
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def command(
    task: TinyTask, verb: str, folder: Path, weights: Path | None = None, ranks: int = 1, **recipe: Any
) -> list[str]:
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
            *("--spec", json.dumps(task.spec(recipe={"max_epochs": 10, **SAVE_OFTEN, **recipe}))),
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
        *(["--ranks", str(ranks)] if ranks > 1 else []),
    ]


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def start(arguments: list[str], group: bool = False, **more: str) -> subprocess.Popen[str]:
    """The command, going on by itself, as the first of a process group or not; `more` of the environment."""
    environment = {**ENVIRONMENT, **more}
    return subprocess.Popen(
        arguments, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=group
    )


def outputs(folder: Path) -> dict[str, bytes]:
    """What must be equal: weights, answers, spec; not seconds."""
    names = ("weights.safetensors", "last.safetensors", "spec.json", "long_predict.json")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def told(stderr: str) -> list[str]:
    """What a command says besides its log."""
    return [line for line in stderr.splitlines() if line and " INFO " not in line]
