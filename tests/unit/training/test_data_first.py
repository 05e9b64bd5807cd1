"""A training verb that cannot read its data says so before PyTorch, which takes seconds, is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SPEC = {
    "run": "r", "kind": "finetune", "seed": 1, "vision": True, "init": "scratch",
    "system": {"system": "lxmert", "encoder": "lxmert.models.lxmert:LxmertEncoder"}, "size": {"hidden": 8},
    "task": {"head": "classification", "train_on": ["train"], "select_on": "valid"},
    "recipe": {"loss": {"name": "bce_times_answers"}, "global_batch": 4, "objectives": {"qa": 1.0}},
}  # fmt: skip
FILES = {
    "finetune": ("examples", "vocabulary", "out-weights", "out-last", "out-spec"),
    "pretrain": ("train", "valid", "answers", "vocabulary", "out-weights"),
}


@pytest.mark.parametrize("verb", FILES)
def test_a_missing_store_is_said_before_pytorch_is_imported(verb: str, tmp_path: Path) -> None:
    arguments = [verb, "--spec", json.dumps(SPEC), "--features", str(tmp_path / "absent.lmdb")]
    for name in (*FILES[verb], "state", "out-metrics", "out-history"):
        arguments += [f"--{name}", str(tmp_path / name)]
    code = "import sys; from lxmert.cli import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2", "False"], done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "absent.lmdb" in line]
    assert line.startswith(str(tmp_path / "absent.lmdb")), line
