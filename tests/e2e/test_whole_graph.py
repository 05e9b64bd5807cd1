"""The whole graph on the embedded corpus at its smallest: real jobs, from pixels to submission files."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_slurm import LoopbackSlurm, slurm_for_tests

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = """
tasks: [vqa, gqa, nlvr2]
blind_baselines: false
sample: {scale: 0.06}
overrides:
  detector: {recipe: {steps: 12}}
  lxmert:
    size: {hidden: 16, intermediate: 32}
    pretrain: {max_steps: 60, global_batch: 16, log_every_steps: 20}
    vqa: {max_steps: 8, global_batch: 16, log_every_steps: 4}
    gqa: {max_steps: 8, global_batch: 16, log_every_steps: 4}
    nlvr2: {max_steps: 8, global_batch: 16, log_every_steps: 4}
"""
# The runs from scratch belong to the demonstration.
RUNS = "runs: {vqa_scratch: null, gqa_scratch: null}\n"
BASE = "corpus: sample\nseed: 9595\nsystems: [lxmert]\nsubset: null\n" + RUNS
SUBMISSIONS = [
    "results/vqa/test_predict.json",
    "results/gqa/submit_predict.json",
    "results/nlvr2/test_predict.csv",
]
TARGETS = [*SUBMISSIONS, "report"]


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
    for name in ("Snakefile", "workflow", "lxmert", "envs", "profiles", "slurm"):
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
    questions = json.loads((raw / "gqa/submission_all_questions.json").read_text())
    answers = json.loads((finished / "results/gqa/submit_predict.json").read_text())
    assert {record["questionId"] for record in answers} == set(questions) and len(answers) > 20
    assert all(sorted(record) == ["prediction", "questionId"] for record in answers)
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


def test_shards_loader_workers_and_job_order_change_no_byte(checkout: Path, finished: Path) -> None:
    kept = {
        name: (finished / name).read_bytes()
        for name in ("results/vqa/weights.safetensors", *SUBMISSIONS, "features/sample/nlvr2_test.lmdb")
    }
    outcome = snakemake(
        checkout,
        *("--set-scatter", "shard=3", "--prioritize", SUBMISSIONS[-1]),
        *("--set-resources", "finetune_run:loader_workers=2", "pretrain_system:loader_workers=1"),
        *("--forcerun", "extract", "pretrain_system", "finetune_run", "--rerun-triggers", "mtime"),
        *("--", *reversed(SUBMISSIONS)),
    )
    assert outcome.returncode == 0, outcome.stderr[-4000:]
    assert len(list((finished / "logs/extract").glob("*nlvr2_test_*-of-3.log"))) == 3
    for name, content in kept.items():
        assert (finished / name).read_bytes() == content, name


# On a real Slurm, started on loopback. Its node has no GPU that computes, and its controller is asked often.
ON_THE_CPU = ("pretrain_system:gpu=0", "finetune_run:gpu=0", "extract:gpu=0")
ON_SLURM = (
    *("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "1", "--rerun-triggers", "mtime"),
    *("--set-resources", *ON_THE_CPU, "--set-threads", "pretrain_system=1", "finetune_run=1", "extract=1"),
)
REMADE = ("results/pretrain", "results/vqa", "features/sample/nlvr2_test.lmdb", "logs")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackSlurm]:
    """A Slurm of one node; the reason where there is none."""
    with slurm_for_tests() as running:
        yield running


@pytest.fixture
def half(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run without what training and one extraction made."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder, symlinks=True)
    for name in REMADE:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    return folder


def start(cluster: LoopbackSlurm, checkout: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`snakemake --profile slurm`, from the root of the checkout, as a user types it."""
    path = os.pathsep.join([str(Path(sys.executable).parent), cluster.environment["PATH"]])
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--directory", str(folder), *ON_SLURM, *arguments],
        cwd=checkout,
        env={**cluster.environment, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_step(history: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Waits until a training has logged a step."""
    while process.poll() is None:
        if history.exists() and f'"step": {step}}}' in history.read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"{history}: step {step} never came\n{process.stdout.read()[-4000:]}")


def job_of(cluster: LoopbackSlurm, rule: str) -> str:
    """The number of the running job of a rule."""
    return next(job for job, state, comment in cluster.jobs("running") if rule in comment)


def test_jobs_on_slurm_end_with_the_same_bytes(
    checkout: Path, finished: Path, half: Path, cluster: LoopbackSlurm
) -> None:
    store = "features/sample/nlvr2_test.lmdb"
    first = start(
        cluster,
        checkout,
        half,
        "--retries",
        "0",
        "--keep-going",
        "--set-scatter",
        "shard=2",
        "--",
        "pretrain",
        store,
    )
    wait_for_step(half / "state/pretrain/history.jsonl", 20, first)
    cluster.call("scancel", job_of(cluster, "pretrain_system"))
    text, _ = first.communicate()
    assert first.returncode == 1, text
    assert "Submitted array job" in text, text
    assert (half / store).read_bytes() == (finished / store).read_bytes()
    assert not (half / "results/pretrain").exists()
    log = (half / "logs/pretrain/pretrain.log").read_text()
    assert "signal SIGTERM: saving, then stopping" in log and "stopped: saved at step" in log, log
    assert "signal SIGTERM: saving, then stopping" in text  # shown where a person looks first

    # On again; and stopped as ahead of a wall-time limit, which is no failure and takes no retry.
    second = start(cluster, checkout, half, "--retries", "0", "--", "results/vqa/weights.safetensors")
    wait_for_step(half / "state/pretrain/history.jsonl", 40, second)
    stopped = job_of(cluster, "pretrain_system")
    cluster.call("scancel", "--signal=TERM", stopped)
    text, _ = second.communicate()
    assert second.returncode == 0, text
    assert "Restarts=1 " in cluster.call("scontrol", "show", "job", stopped)
    assert "going on at step" in (half / "logs/pretrain/pretrain.log").read_text()
    for name in ("results/pretrain/weights.safetensors", "results/vqa/weights.safetensors"):
        assert (half / name).read_bytes() == (finished / name).read_bytes(), name


# As a user asks for them; on GPUs their number says it.
TWO_RANKS = ("pretrain_system:ranks=2", "pretrain_system:gpu=0")


@pytest.mark.slow
def test_two_ranks_of_a_slurm_job_are_cancelled_requeued_and_end_with_the_same_bytes(
    checkout: Path, half: Path, cluster: LoopbackSlurm, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(half, whole, symlinks=True)
    again = ("--set-threads", "pretrain_system=2", "--retries", "0", "--", "pretrain")
    unbroken = snakemake(
        checkout,
        *("--directory", str(whole), "--rerun-triggers", "mtime", "--set-resources", *TWO_RANKS, *again),
    )
    assert unbroken.returncode == 0, unbroken.stderr[-4000:]
    history, log = half / "state/pretrain/history.jsonl", half / "logs/pretrain/pretrain.log"

    first = start(cluster, checkout, half, "--set-resources", *TWO_RANKS, *again)
    wait_for_step(history, 20, first)
    cluster.call("scancel", job_of(cluster, "pretrain_system"))
    text, _ = first.communicate()
    assert first.returncode == 1 and not (half / "results/pretrain").exists(), text
    assert "starting 2 ranks" in log.read_text() and "stopped: saved at step" in log.read_text()

    second = start(cluster, checkout, half, "--set-resources", *TWO_RANKS, *again)
    wait_for_step(history, 40, second)
    stopped = job_of(cluster, "pretrain_system")
    cluster.call("scancel", "--signal=TERM", stopped)  # reaches every rank, and the command that started them
    text, _ = second.communicate()
    assert second.returncode == 0, text
    assert "Restarts=1 " in cluster.call("scontrol", "show", "job", stopped)
    assert log.read_text().count("starting 2 ranks") == 1 and "going on at step" in log.read_text()
    name = "results/pretrain/weights.safetensors"
    assert (half / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
def test_wall_time_cuts_a_job_in_pieces_and_changes_no_byte(
    checkout: Path, half: Path, cluster: LoopbackSlurm, tmp_path: Path
) -> None:
    longer = tmp_path / "longer.yaml"
    longer.write_text("overrides: {lxmert: {pretrain: {max_steps: 1500, log_every_steps: 500}}}\n")
    whole = tmp_path / "whole"
    shutil.copytree(half, whole, symlinks=True)
    arguments = ("--configfile", str(longer), "--set-threads", "pretrain_system=1", "--", "pretrain")
    unbroken = snakemake(checkout, *("--directory", str(whole), "--rerun-triggers", "mtime", *arguments))
    assert unbroken.returncode == 0, unbroken.stderr[-4000:]
    # A minute is Slurm's shortest limit, and it looks twice a minute: the signal comes amid the training.
    minute = ("pretrain_system:runtime=1", "pretrain_system:slurm_extra='--signal=TERM@45'")
    cut = start(cluster, checkout, half, "--set-resources", *ON_THE_CPU, *minute, *arguments)
    text, _ = cut.communicate()
    assert cut.returncode == 0, text
    pieces = [cluster.call("scontrol", "show", "job", job) for job, _, comment in cluster.jobs()]
    assert any("pretrain_system" in piece and "Restarts=0 " not in piece for piece in pieces), pieces
    name = "results/pretrain/weights.safetensors"
    assert (half / name).read_bytes() == (whole / name).read_bytes()
