"""A training verb that cannot read its data says so before PyTorch, which takes seconds, is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SPEC: dict[str, Any] = {
    "run": "r", "kind": "finetune", "seed": 1, "vision": True, "init": "scratch",
    "system": {"system": "lxmert", "encoder": "lxmert.models.lxmert:LxmertEncoder"}, "size": {"hidden": 8},
    "task": {"head": "classification", "train_on": ["train"], "select_on": "valid"},
    "recipe": {
        "loss": {"name": "bce_times_answers"}, "objectives": {"qa": 1.0}, "global_batch": 4, "max_epochs": 1,
        "max_steps": None, "evaluate_batch": 4, "optimizer": {"name": "adamw", "lr": 1e-3}, "clip_norm": None,
        "schedule": {"name": "constant"}, "log_every_steps": 1, "save_every_seconds": 60,
        "word_mask_rate": 0.1, "region_mask_rate": 0.1, "mismatch_rate": 0.5,
    },
}  # fmt: skip
FILES = {
    "finetune": ("examples", "vocabulary", "out-weights", "out-last", "out-spec"),
    "pretrain": ("train", "valid", "answers", "vocabulary", "out-weights"),
}


def run(verb: str, spec: dict[str, Any], folder: Path) -> tuple[list[str], list[str]]:
    """What is printed of status and PyTorch, and the lines of errors."""
    arguments = [verb, "--spec", json.dumps(spec), "--features", str(folder / "absent.lmdb")]
    for name in (*FILES[verb], "state", "out-metrics", "out-history"):
        arguments += [f"--{name}", str(folder / name)]
    code = "import sys; from lxmert.cli import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split(), [line for line in done.stderr.splitlines() if " INFO " not in line]


@pytest.mark.parametrize("verb", FILES)
def test_a_missing_store_is_said_before_pytorch_is_imported(verb: str, tmp_path: Path) -> None:
    printed, (line,) = run(verb, SPEC, tmp_path)
    assert printed == ["2", "False"]
    assert line.startswith(str(tmp_path / "absent.lmdb")), line


@pytest.mark.parametrize("verb", FILES)
def test_a_recipe_that_lacks_a_word_is_said(verb: str, tmp_path: Path) -> None:
    recipe = {name: value for name, value in SPEC["recipe"].items() if name != "global_batch"}
    printed, (line,) = run(verb, {**SPEC, "recipe": recipe}, tmp_path)
    assert printed == ["2", "False"] and line.startswith("--spec: lacks recipe/global_batch."), line
