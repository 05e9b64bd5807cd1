"""What the Slurm profile asks `sbatch` for: a stand-in writes down its arguments and refuses."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from slurm_profile import TWO_GPUS, own_profile

PROGRAMS = {
    "sbatch": 'printf "%s\\n" "$*" >> calls.txt; echo "refused on purpose" >&2; exit 1',
    "sinfo": 'echo "main*"',
    "scontrol": 'echo "MinJobAge = 300 sec"; echo "MaxArraySize = 1001"',
    "squeue": "exit 0",
    "sacct": "exit 1",
}
PRETRAIN = "python -m lxmert --gpus {gpus} --threads 8 --workers 7 pretrain --ranks 1"
QUICK = ("--retries", "0", "--slurm-init-seconds-before-status-checks", "1")

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_slurm") is None,
    reason="snakemake-executor-plugin-slurm is not installed",
)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, writer: Path) -> Path:
    """A folder of stand-ins for Slurm's commands, and for the jobs that run here."""
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "python").symlink_to(writer / "python")
    for name, body in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod((folder / name).stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, snakemake, writer: Path) -> Path:
    """A folder where a run is finished, of files that say nothing."""
    folder = tmp_path_factory.mktemp("prepared")
    outcome = snakemake(folder, "results/vqa/weights.safetensors", path=writer)
    assert outcome.status == 0, outcome.text
    return folder


@pytest.fixture
def prepared(finished: Path, tmp_path: Path) -> Path:
    """A copy of it: a job that is refused loses its outputs."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def calls(snakemake, commands: Path, prepared: Path) -> Callable[..., list[list[str]]]:
    """The arguments of each call of `sbatch` that a call of Snakemake leads to."""

    def ask(target: str, *options: str, profile: str = "slurm") -> list[list[str]]:
        outcome = snakemake(prepared, "--profile", profile, *QUICK, *options, "--", target, path=commands)
        assert "refused on purpose" in outcome.text, outcome.text
        found = re.search(r"^ +shell:\n +(.*?) --spec", outcome.text, flags=re.M)
        (prepared / "shell.txt").write_text(found.group(1) if found else "")
        lines = (prepared / "calls.txt").read_text().splitlines()
        return [shlex.split(line.split(" --wrap=")[0]) for line in lines]

    return ask


def of_gpus(call: list[str]) -> list[str]:
    return [word for word in call if word.startswith(("--gpus", "--gres", "--ntasks", "--cpus", "--nodes"))]


def test_one_gpu_is_one_task_on_one_node(calls, prepared) -> None:
    (call,) = calls("pretrain", "--forcerun", "pretrain_system")
    assert of_gpus(call) == ["--nodes=1", "--cpus-per-gpu=8", "--gpus=1"]
    assert "--requeue" in call and "--signal=TERM@300" in call
    assert call[call.index("-t") + 1] == str(10 * 24 * 60) and call[call.index("--mem") + 1] == "32000"
    assert call[call.index("-p") + 1] == "main"
    assert call[call.index("--output") + 1] == f"{prepared}/logs/slurm/rule_pretrain_system/pretrain/%j.log"


def test_two_gpus_are_one_task_that_starts_its_own_ranks(calls, root, tmp_path, prepared) -> None:
    profile = own_profile(root, tmp_path, TWO_GPUS)
    (call,) = calls("pretrain", "--forcerun", "pretrain_system", "--verbose", profile=profile)
    assert of_gpus(call) == ["--nodes=1", "--cpus-per-gpu=8", "--gpus=2"]
    assert (prepared / "shell.txt").read_text() == PRETRAIN.format(gpus=2)


@pytest.mark.parametrize(("model", "asked"), [("", "gpu:2"), ("a100", "gpu:a100:2")])
def test_one_key_asks_for_gres(calls, root, tmp_path, prepared, model, asked) -> None:
    edits = {**TWO_GPUS, 'GPUS_AS = "gpus"': 'GPUS_AS = "gres"', 'GPU_MODEL = ""': f'GPU_MODEL = "{model}"'}
    (call,) = calls("pretrain", "--forcerun", "pretrain_system", profile=own_profile(root, tmp_path, edits))
    assert of_gpus(call) == ["--nodes=1", "--cpus-per-gpu=8", f"--gres={asked}"]
    assert (prepared / "shell.txt").read_text() == PRETRAIN.format(gpus=2)


def test_one_key_names_the_model(calls, root, tmp_path) -> None:
    profile = own_profile(root, tmp_path, {'GPU_MODEL = ""': 'GPU_MODEL = "a100"'})
    (call,) = calls("pretrain", "--forcerun", "pretrain_system", profile=profile)
    assert of_gpus(call) == ["--nodes=1", "--cpus-per-gpu=8", "--gpus=a100:1"]


def test_a_job_without_gpu_is_one_task(calls) -> None:
    (call,) = calls("examples/sample/vqa", "--forcerun", "prepare")
    assert of_gpus(call)[1] == "--ntasks=1"


def test_shards_are_one_array(calls) -> None:
    shards = ("--set-scatter", "shard=3", "--forcerun", "extract", "--rerun-triggers", "mtime")
    arrays = calls("features/sample/mscoco_train2014.lmdb", *shards)
    assert [of_gpus(call) for call in arrays] == [["--nodes=1", "--cpus-per-gpu=8", "--gpus=1"]]
    assert [word for word in arrays[0] if word.startswith("--array")] == ["--array=1-3"]


def test_a_limit_that_would_part_an_array_is_one_line(snakemake, commands, prepared) -> None:
    shards = ("--set-scatter", "shard=3", "--forcerun", "extract", "--rerun-triggers", "mtime")
    arguments = ("--profile", "slurm", "--jobs", "2", *QUICK, *shards)
    outcome = snakemake(prepared, *arguments, "--", "features/sample/mscoco_train2014.lmdb", path=commands)
    assert outcome.status == 1
    assert (
        "--jobs 2: fewer than the 3 shards to extract" in outcome.text and "--jobs 3 or more" in outcome.text
    )


def test_another_number_of_gpus_runs_nothing_again(snakemake, root, tmp_path, finished, commands) -> None:
    profile = own_profile(root, tmp_path, TWO_GPUS)
    outcome = snakemake(finished, "--profile", profile, "--dry-run", "--", "pretrain", path=commands)
    assert outcome.status == 0 and "Nothing to be done" in outcome.text, outcome.text


@pytest.mark.parametrize(("status", "command"), [(0, "sacct"), (1, "squeue")])
def test_states_come_from_where_they_are_kept(root, tmp_path, monkeypatch, status, command) -> None:
    yte = pytest.importorskip("yte")
    (tmp_path / "sacct").write_text(f"#!/bin/bash\nexit {status}\n")
    (tmp_path / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with (root / "slurm" / "profile.v9+.yaml").open() as stream:
        assert yte.process_yaml(stream, require_use_yte=True)["slurm-status-command"] == command
