"""GPUs asked of a real Slurm, in both spellings: it grants the request, and the job sees as many."""

from __future__ import annotations

import importlib.util
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_slurm import LoopbackSlurm, slurm_for_tests
from slurm_profile import TWO_GPUS, own_profile

# Jobs write down what Slurm gave them, then their outputs.
SEEN = r"""
case "$*" in *" pretrain "*) echo "${SLURM_GPUS_ON_NODE-} ${CUDA_VISIBLE_DEVICES-} $*" >> gpus.txt;; esac
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_slurm") is None,
    reason="snakemake-executor-plugin-slurm is not installed",
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackSlurm]:
    """A Slurm whose node says that it has four GPUs."""
    with slurm_for_tests() as running:
        yield running


@pytest.fixture
def jobs(writer: Path, tmp_path: Path) -> Path:
    """A folder whose `python` is the writer's, and tells which GPUs it saw."""
    program = tmp_path / "bin/python"
    program.parent.mkdir()
    lines = (writer / "python").read_text().splitlines(keepends=True)
    program.write_text("".join([lines[0], SEEN, *lines[1:]]))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program.parent


@pytest.mark.parametrize(
    ("edits", "asked"),
    [({}, "--gpus=2"), ({'GPUS_AS = "gpus"': 'GPUS_AS = "gres"'}, "--gres=gpu:2")],
    ids=["gpus", "gres"],
)
def test_two_gpus_of_four(
    cluster: LoopbackSlurm,
    snakemake,
    jobs: Path,
    root: Path,
    tmp_path: Path,
    edits: dict[str, str],
    asked: str,
) -> None:
    profile, folder = tmp_path / "profile", tmp_path / "run"
    profile.mkdir()
    before = snakemake(folder, "pretrain", path=jobs)  # so that one job is left
    assert before.status == 0, before.text
    own_profile(root, profile, {**TWO_GPUS, **edits})
    path = os.pathsep.join([str(jobs), str(Path(sys.executable).parent), cluster.environment["PATH"]])
    quick = ("--slurm-init-seconds-before-status-checks", "1", "--retries", "0", "--verbose")
    one = ("--forcerun", "pretrain_system", "--", "pretrain")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--directory", str(folder), "--profile", str(profile)),
            *quick, *one,
        ],
        cwd=root,
        env={**cluster.environment, "PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert asked in done.stdout + done.stderr
    number, names, command = (folder / "gpus.txt").read_text().splitlines()[-1].split(" ", 2)
    assert number == "2" and "--gpus 2 " in command
    if cluster.gpus_are_devices:
        assert len(set(names.split(","))) == 2
    job = next(number for number, _, comment in cluster.jobs() if "pretrain_system" in comment)
    shown = cluster.call("scontrol", "show", "job", job)
    assert "=gres:gpu:2" in shown and "JobState=COMPLETED" in shown, shown
