"""Jobs that Slurm stops for time go back into its queue; cancelled ones, and those elsewhere, do not."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lxmert import cli
from lxmert.errors import Interrupted
from lxmert.slurm import requeue


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Stand-ins for Slurm's commands: sets what they answer, and gives what was asked of `scontrol`."""
    asked = tmp_path / "asked.txt"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.delenv("RANK", raising=False)

    def answer(state: str, status: int = 0) -> None:
        programs = {"squeue": f"echo {state}", "scontrol": f'echo "$*" >> {asked}; exit {status}'}
        for name, body in programs.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
            (tmp_path / name).chmod(0o755)

    def calls(state: str | None = None, status: int = 0) -> list[str]:
        if state is not None:
            answer(state, status)
        return asked.read_text().splitlines() if asked.exists() else []

    return calls


def test_a_running_job_goes_back_into_the_queue(slurm) -> None:
    slurm("RUNNING")
    assert requeue() and slurm() == ["requeue 17"]


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING", ""])
def test_a_cancelled_job_stays_cancelled(slurm, state) -> None:
    slurm(state)
    assert not requeue() and slurm() == []


def test_elsewhere_slurm_is_not_asked(slurm, monkeypatch) -> None:
    slurm("RUNNING")
    monkeypatch.setenv("RANK", "1")  # the first of several ranks speaks for them
    assert not requeue()
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("SLURM_JOB_ID")
    assert not requeue() and slurm() == []


def test_a_refusal_is_said(slurm, caplog) -> None:
    slurm("RUNNING", status=1)
    assert not requeue()
    assert "does not put job 17 back into the queue" in caplog.text


def test_without_its_commands_nothing_fails(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not requeue()


def test_stopped_work_is_put_back_and_keeps_its_status(slurm) -> None:
    def stopped(args: argparse.Namespace) -> None:
        raise Interrupted("saved at step 3")

    slurm("RUNNING")
    assert cli._run(stopped, argparse.Namespace(threads=1, debug=False), "pretrain") == cli.STOPPED
    assert slurm() == ["requeue 17"]


def test_term_while_a_job_starts_is_a_stop(slurm) -> None:
    slurm("RUNNING")
    script = (
        "import os, signal, sys; from lxmert import cli\n"
        "def importing(name): os.kill(os.getpid(), signal.SIGTERM)\n"
        "cli.importlib.import_module = importing; sys.exit(cli.main(['pretrain']))"
    )
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-c", script]
    stopped = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert stopped.returncode == cli.STOPPED, stopped.stderr
    assert "pretrain: stopped: a signal came" in stopped.stderr and slurm() == ["requeue 17"]
    del environment["SLURM_JOB_ID"]  # elsewhere TERM is what it always was
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGTERM
