"""Snakemake as a user runs it, and a graph whose jobs only write their outputs."""

from __future__ import annotations

import os
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Stands in for `python -m lxmert VERB ...`: writes a line to each file that an option --out... names.
WRITER = """#!/bin/bash
set -eu
echo "$*" >> verbs.txt
env | grep ^LXMERT_ > settings.txt
while [ $# -gt 0 ]; do
  case "$1" in
    --out-folder|--out-panels|--out-figures) mkdir -p "$2"; echo made > "$2/made.png"; shift;;
    --out-root) mkdir -p "$2"; shift;;
    --out*) mkdir -p "$(dirname "$2")"; echo made > "$2"
      case "$2" in *_predict.*) echo made > "$2.meta.json";; esac; shift;;
  esac
  shift
done
"""


@dataclass
class Outcome:
    """What a call of Snakemake gave."""

    status: int
    text: str
    errors: str
    cpu_seconds: float  # its own and its children's, which do not grow where others share the machine

    @property
    def jobs(self) -> list[str]:
        """Jobs of a dry run, as `rule` or `rule value,value` of the wildcards."""
        blocks = re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", self.text, flags=re.M)
        found = []
        for rule, body in dict.fromkeys(blocks):
            wildcards = re.search(r"^    wildcards: (.*)$", body, flags=re.M)
            values = [item.split("=", 1)[1] for item in wildcards.group(1).split(", ")] if wildcards else []
            found.append(f"{rule} {','.join(values)}".strip())
        return sorted(found)

    @property
    def counts(self) -> dict[str, int]:
        """Number of jobs of each rule."""
        rules = [job.split(" ")[0] for job in self.jobs]
        return {rule: rules.count(rule) for rule in rules}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


Caller = Callable[..., Outcome]


@pytest.fixture(scope="session")
def snakemake() -> Caller:
    """Calls Snakemake on this checkout: `snakemake(folder, *arguments, path=...)`."""

    def call(folder: Path | None, *arguments: str, path: Path | None = None) -> Outcome:
        environment = {key: value for key, value in os.environ.items() if key != "SNAKEMAKE_PROFILE"}
        environment["PATH"] = os.pathsep.join(
            [*([str(path)] if path else []), str(Path(sys.executable).parent), environment["PATH"]]
        )
        place = ["--directory", str(folder)] if folder else []
        command = [sys.executable, "-m", "snakemake", *place, *arguments]
        before = _cpu_seconds()
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        return Outcome(done.returncode, done.stdout + done.stderr, done.stderr, _cpu_seconds() - before)

    return call


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `python` writes outputs and does nothing else."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "python"
    program.write_text(WRITER)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.fixture
def overlay(tmp_path: Path) -> Callable[[str], str]:
    """Writes a configuration overlay and returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "overlay.yaml"
        path.write_text(text)
        return str(path)

    return write
