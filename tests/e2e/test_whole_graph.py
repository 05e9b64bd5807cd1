"""The whole graph on the embedded corpus at its smallest: real jobs, from pixels to submission files."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = """
tasks: [vqa, nlvr2]
blind_baselines: false
sample: {scale: 0.06}
overrides:
  detector: {recipe: {steps: 12}}
  lxmert:
    size: {hidden: 16, intermediate: 32}
    pretrain: {max_steps: 12, global_batch: 16, log_every_steps: 4}
    vqa: {max_steps: 8, global_batch: 16, log_every_steps: 4}
    nlvr2: {max_steps: 8, global_batch: 16, log_every_steps: 4}
"""
# The run from scratch belongs to the demonstration.
BASE = "corpus: sample\nseed: 9595\nsystems: [lxmert]\nsubset: null\nruns: {vqa_scratch: null}\n"
TARGETS = ["results/vqa/test_predict.json", "results/nlvr2/test_predict.csv", "report"]


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The graph of this checkout, run in `folder` with a configuration of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "SNAKEMAKE_PROFILE"}
    return subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(folder / "Snakefile")),
            *("--directory", str(folder / "run"), "--cores", "2", "--quiet", "rules", *arguments),
        ],
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with links to everything but config.yaml."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("Snakefile", "workflow", "lxmert", "envs", "profiles"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "config.yaml").write_text(BASE + SETTINGS)
    return folder


@pytest.fixture(scope="module")
def finished(checkout: Path) -> Path:
    """The folder of a finished run."""
    outcome = snakemake(checkout, "--", *TARGETS)
    assert outcome.returncode == 0, outcome.stderr[-4000:]
    return checkout / "run"


def test_submissions_have_the_official_forms(finished: Path) -> None:
    raw = finished / "data/sample/raw"
    questions = json.loads((raw / "vqa/v2_OpenEnded_mscoco_test2015_questions.json").read_text())
    answers = json.loads((finished / "results/vqa/test_predict.json").read_text())
    assert {record["question_id"] for record in answers} == {q["question_id"] for q in questions["questions"]}
    assert all(sorted(record) == ["answer", "question_id"] for record in answers) and len(answers) > 20
    lines = (raw / "nlvr2/data/test1.json").read_text().splitlines()
    rows = list(csv.reader((finished / "results/nlvr2/test_predict.csv").open()))
    assert [row[0] for row in rows] == [json.loads(line)["identifier"] for line in lines]
    assert {row[1] for row in rows} <= {"True", "False"}


def test_the_report_and_the_table_are_there(finished: Path) -> None:
    table = (finished / "results/report/summary.tsv").read_text()
    assert "vqa" in table and "minival" in table and "nlvr2" in table
    assert (finished / "results/report/index.html").stat().st_size > 10_000


def test_a_second_run_has_nothing_to_do(checkout: Path, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "results").rglob("*")}
    outcome = snakemake(checkout, "--", *TARGETS)
    assert outcome.returncode == 0 and "Nothing to be done" in outcome.stderr + outcome.stdout
    assert before == {path: path.stat().st_mtime_ns for path in (finished / "results").rglob("*")}


def test_shards_and_loader_workers_change_no_byte(checkout: Path, finished: Path) -> None:
    kept = {
        name: (finished / name).read_bytes()
        for name in ("results/vqa/weights.safetensors", *TARGETS[:2], "features/sample/nlvr2_test.lmdb")
    }
    outcome = snakemake(
        checkout,
        *("--set-scatter", "shard=3"),
        *("--set-resources", "finetune_run:loader_workers=2", "pretrain_system:loader_workers=1"),
        *("--forcerun", "extract", "pretrain_system", "finetune_run", "--rerun-triggers", "mtime"),
        *("--", *TARGETS[:2]),
    )
    assert outcome.returncode == 0, outcome.stderr[-4000:]
    assert len(list((finished / "logs/extract").glob("*nlvr2_test_*-of-3.log"))) == 3
    for name, content in kept.items():
        assert (finished / name).read_bytes() == content, name
