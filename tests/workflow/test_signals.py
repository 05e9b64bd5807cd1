"""A signal to everything that belongs to a job, as schedulers send it, leaves the job time to save."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

# Stands in for `python -m lxmert VERB ...`: saves when it is told to stop, which takes a while.
SAVER = """#!{python} -SE
import signal, sys, time
def save(number, frame):
    time.sleep(4)
    open("saved.txt", "w").close()
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
open("begun.txt", "w").close()
time.sleep(60)
sys.exit(1)
"""


def test_snakemake_and_the_shell_wait_for_a_job_that_saves(root: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text(SAVER.format(python=sys.executable))
    program.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key != "SNAKEMAKE_PROFILE"}
    environment["PATH"] = f"{program.parent}{os.pathsep}{environment['PATH']}"
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--directory",
        str(tmp_path),
        "--",
        "data/sample/raw/world.json",
    ]
    with (tmp_path / "output.txt").open("wb") as output:
        engine = subprocess.Popen(
            command, cwd=root, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        while engine.poll() is None and not (tmp_path / "begun.txt").exists():
            time.sleep(0.02)
        os.killpg(engine.pid, signal.SIGTERM)
        status = engine.wait(60)
    # Not a moment later: what a scheduler finds running when the job's first process has ended, it kills.
    saved = (tmp_path / "saved.txt").exists()
    assert status == 1 and saved, (tmp_path / "output.txt").read_text()
