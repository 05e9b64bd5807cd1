"""The tutorial of docs/own_data.md as it is typed: from its images and questions to a test score."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BAR, BLIND_BELOW = 0.90, 0.20  # of the test score; how far the blind baseline must lie below it


def typed_commands() -> list[str]:
    """The commands that the page tells to type, after the installation."""
    blocks = re.findall(r"```\n(.*?)```", (ROOT / "docs/own_data.md").read_text(), flags=re.DOTALL)
    lines = next(block for block in blocks if "docs/easy_vqa/export.py" in block).splitlines()
    return [line for line in lines if not line.startswith("pip ")]


def test_make_runs_the_same_commands() -> None:
    export, graph, show = typed_commands()
    recipe = (ROOT / "Makefile").read_text().split("\neasy-vqa:")[1].split("\n\n")[0]
    said = recipe.replace("\\\n\t", "").replace("$(EASY_VQA)", "easy_vqa")
    assert export in said and show in said
    assert "--directory easy_vqa --configfile docs/easy_vqa/config.yaml -- report" in said
    assert graph.endswith("--directory easy_vqa --configfile docs/easy_vqa/config.yaml -- report")


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_easy_vqa_reaches_its_bar(tmp_path: Path) -> None:
    if importlib.util.find_spec("easy_vqa") is None:
        pytest.skip("easy-vqa is not installed; in the checkout, run: pip install -e '.[easy-vqa]'")
    environment = {name: value for name, value in os.environ.items() if name != "SNAKEMAKE_PROFILE"}
    environment.pop("OMP_NUM_THREADS", None)  # as a user has it
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    began = time.monotonic()
    for line in typed_commands():
        words = [str(tmp_path / word) if word.startswith("easy_vqa") else word for word in line.split()]
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stderr[-4000:]}"
    minutes = (time.monotonic() - began) / 60
    print(done.stdout)
    folder = tmp_path / "easy_vqa/results"
    score, blind = (
        json.loads((folder / run / "test_score.json").read_text())["official"]["accuracy"]
        for run in ("custom_qa", "custom_qa_blind")
    )
    print(f"easy-vqa: test {100 * score:.1f} %, blind {100 * blind:.1f} %, {minutes:.1f} minutes")
    assert score >= BAR
    assert blind < score - BLIND_BELOW
