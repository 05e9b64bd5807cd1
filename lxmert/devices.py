"""Where a job computes, and which GPUs are its own.

A workflow engine counts GPUs but does not hand them out, so jobs on one machine take them by lock
file. The lock is the process's: it ends with it, however it ends.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import torch

from lxmert.errors import SpecError
from lxmert.files import explain_os_error

log = logging.getLogger(__name__)

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_OURS = "LXMERT_DEVICES"  # set for child processes: devices their parent has taken for them
_LOCKS = Path(tempfile.gettempdir()) / "lxmert-devices"
_LOOK_SECONDS = 1.0
_held: list[IO[str]] = []  # open for as long as the process lives


def pick_device(gpus: int, threads: int) -> torch.device:
    """The device of a process that uses one, with its number of threads set.

    Raises:
        SpecError: more devices are asked for than are visible, or more than one.
    """
    if gpus > 1:
        raise SpecError(f"--gpus {gpus}: this verb uses one device. Ask for 1.")
    if gpus == 1 and _OURS not in os.environ:
        take_devices(1)
    return rank_device(gpus, threads, 0)


def rank_device(gpus: int, threads: int, place: int) -> torch.device:
    """The device of one of several processes of this machine, counted by `place`; taken already."""
    torch.set_num_threads(max(threads, 1))
    device = torch.device("cuda", place) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    log.info("torch %s on %s, %d threads", torch.__version__, device, torch.get_num_threads())
    return device


def take_devices(wanted: int, folder: Path = _LOCKS) -> list[str]:
    """Takes free GPUs among the visible ones, waiting for them, and makes only them visible.

    Args:
        wanted: how many.
        folder: where lock files are.

    Returns:
        Their names as `CUDA_VISIBLE_DEVICES` has them.

    Raises:
        SpecError: fewer are visible.
    """
    visible = visible_devices()
    if wanted > len(visible):
        raise SpecError(
            f"--gpus {wanted}: {len(visible)} devices are visible. Ask for fewer, or set {_VISIBLE}."
        )
    identities = _identities()
    told = False
    while True:
        taken: dict[str, IO[str]] = {}
        for name in visible:
            handle = _try_lock(folder / f"{identities.get(name, name).replace('/', '_')}.lock")
            if handle is not None:
                taken[name] = handle
            if len(taken) == wanted:
                _held.extend(taken.values())
                os.environ[_VISIBLE] = os.environ[_OURS] = ",".join(taken)
                log.info("took GPU %s of %s", ", ".join(taken), ", ".join(visible))
                return list(taken)
        # All or none, or two jobs could hold half of what each needs.
        for handle in taken.values():
            handle.close()
        if not told:
            log.info("waiting for %d of the GPUs %s, which other jobs hold", wanted, ", ".join(visible))
            told = True
        time.sleep(_LOOK_SECONDS * (0.5 + random.random()))


def visible_devices() -> list[str]:
    """GPUs this process may use: what `CUDA_VISIBLE_DEVICES` lists, or all there are."""
    listed = os.environ.get(_VISIBLE)
    if listed is None:
        return [str(number) for number in range(torch.cuda.device_count())]
    names = [name.strip() for name in listed.split(",") if name.strip()]
    ended = next((place for place, name in enumerate(names) if name.startswith("-")), len(names))
    return names[:ended]  # CUDA ignores what follows a negative number


def _identities() -> dict[str, str]:
    """Unique id of each GPU by number: in a container or a job's cage two jobs may both say 0."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    command = [tool, "--query-gpu=index,uuid", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line.split(",") for line in answer.stdout.splitlines() if answer.returncode == 0]
    return {parts[0].strip(): parts[1].strip() for parts in lines if len(parts) == 2}


def _try_lock(path: Path) -> IO[str] | None:
    """The lock file, open and locked; None where another process holds it."""
    try:
        path.parent.mkdir(mode=0o777, parents=True, exist_ok=True)
        handle = open(path, "a", encoding="utf-8")  # noqa: SIM115 - its life is the lock's
    except OSError as error:
        raise explain_os_error(error, path) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle


def shared_threads(threads: int, processes: int) -> int:
    """Threads of each of several processes that share a job's cores."""
    return max(threads // max(processes, 1), 1)


def release_devices() -> None:
    """Gives back what this process took; ending does the same."""
    while _held:
        _held.pop().close()
    os.environ.pop(_OURS, None)


__all__: Sequence[str] = (
    "pick_device",
    "rank_device",
    "release_devices",
    "shared_threads",
    "take_devices",
    "visible_devices",
)
