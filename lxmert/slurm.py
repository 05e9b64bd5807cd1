"""Slurm's part in a job: one that is stopped because its time is up goes back into the queue.

So a training of a week crosses any number of wall-time limits, and no limit costs one of the retries that are
meant for failures. A job that someone cancels stays cancelled.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from types import FrameType

from lxmert.errors import Interrupted

log = logging.getLogger(__name__)

_SECONDS = 60  # a busy controller answers late


def heed_term() -> None:
    """Makes TERM a stop, not a failure, also while a Slurm job has nothing to save: as it starts, as it ends.

    Work that saves takes over while it runs. Ranks are told by the process that started them.
    """
    if "SLURM_JOB_ID" in os.environ and "RANK" not in os.environ:
        signal.signal(signal.SIGTERM, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Interrupted("a signal came when there was nothing to save")


def requeue() -> bool:
    """Puts this Slurm job back into the queue; False where there is none, or it is to end.

    For work that was stopped and saved. To Slurm a job that was signalled ahead of its limit is still
    running, and one that was cancelled is not.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if not job or os.environ.get("RANK", "0") != "0":
        return False
    if _answer("squeue", "--noheader", "--jobs", job, "--format", "%T") != "RUNNING":
        return False
    if _answer("scontrol", "requeue", job) is None:
        log.warning("Slurm does not put job %s back into the queue; start it again yourself", job)
        return False
    log.info("Slurm starts job %s again", job)
    return True


def _answer(*command: str) -> str | None:
    """What a command of Slurm prints; None where it fails or is absent."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
