"""One verb in one process, or in several that start themselves under `torchrun`.

The command a user typed stays in front: it takes the devices, starts `torchrun`, hands on signals,
and says in one line how the ranks ended. Ranks leave that line in a folder that only this run knows.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lxmert.errors import Interrupted, LxmertError, SpecError
from lxmert.files import explain_os_error
from lxmert.memory import explained
from lxmert.state import STOP_SIGNALS
from lxmert.training.agent import ENDED, FOLDER

log = logging.getLogger(__name__)

# What the spec of every verb that trains must state.
NEEDS = (
    *("run", "seed", "system/system", "system/encoder", "size/hidden"),
    *("recipe/global_batch", "recipe/max_epochs", "recipe/max_steps", "recipe/evaluate_batch"),
    *("recipe/optimizer/name", "recipe/optimizer/lr", "recipe/schedule/name", "recipe/clip_norm"),
    *("recipe/log_every_steps", "recipe/save_every_seconds"),
)
SCALARS = "LXMERT_TENSORBOARD"  # how the graph says --tensorboard, which is no parameter of its jobs
_LOOK_SECONDS = 0.05
_ALL_FAILED_SECONDS = 5.0  # ranks fail alike within this time, or one of them failed alone
_PR_SET_PDEATHSIG = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of verbs that train."""
    parser.add_argument(
        "--ranks",
        type=int,
        default=1,
        help="processes that share the training on the CPU; on GPUs --gpus says how many",
    )
    parser.add_argument(
        "--tensorboard",
        type=Path,
        default=os.environ.get(SCALARS) or None,
        help="folder for TensorBoard scalars, in a folder named by the run",
    )


def run_on_ranks(args: argparse.Namespace, verb: str, body: Callable[..., None]) -> None:
    """Runs `body(args, device, ranks)` here, or in as many ranks as the options ask for.

    Args:
        args: the verb's options.
        verb: its name.
        body: its work.

    Raises:
        LxmertError: the work, or a rank, failed.
        Interrupted: a signal asked to stop; the state is saved.
    """
    from lxmert.devices import pick_device, shared_threads
    from lxmert.training.ranks import Ranks, is_rank

    if args.ranks < 1 or (args.gpus and args.ranks > 1):
        raise SpecError(f"--ranks {args.ranks}: give 1 or more, without --gpus, which counts its own ranks.")
    count = args.gpus or args.ranks
    if is_rank():
        _run_rank(args, body)
    elif count > 1:
        _start(verb, args, count, shared_threads(args.threads, count))
    else:
        body(args, pick_device(args.gpus, args.threads), Ranks())


def _run_rank(args: argparse.Namespace, body: Callable[..., None]) -> None:
    """One rank; what it raises goes to the folder of the launcher, if there is one."""
    from lxmert.devices import rank_device, shared_threads
    from lxmert.training.ranks import PeerLost, ProcessGroup

    folder = Path(os.environ[FOLDER]) if FOLDER in os.environ else None
    _die_with_parent(signal.SIGTERM)
    # torchrun hands on the signal by which it learns that the command is gone; it means: save and stop.
    signal.signal(signal.SIGQUIT, lambda *_: signal.raise_signal(signal.SIGTERM))
    local, locals_ = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    device = rank_device(args.gpus, shared_threads(args.threads, locals_), local)
    ranks = ProcessGroup(device)
    if folder is not None:
        (folder / f"{ranks.rank}.pid").write_text(str(os.getpid()))
    try:
        _one_line(args, device, ranks, body)
        ranks.wait()
        ranks.close()
    except (LxmertError, Interrupted) as error:
        if folder is None:
            raise
        if not isinstance(error, PeerLost):
            _leave_word(folder, ranks.rank, error)
        alike = isinstance(error, Interrupted) or ranks.all_come(_ALL_FAILED_SECONDS)
        # Where all ranks ended alike, torchrun has nothing to report.
        sys.stderr.flush()
        os._exit(0 if alike else 1)


def _one_line(args: argparse.Namespace, device: Any, ranks: Any, body: Callable[..., None]) -> None:
    """The work; a full disk and too little memory are errors a user can mend, as everywhere."""
    try:
        body(args, device, ranks)
    except OSError as error:
        raise explain_os_error(error, error.filename or f"rank {ranks.rank}") from error
    except (RuntimeError, MemoryError) as error:
        told = explained(error, f"rank {ranks.rank}")
        if told is None:
            raise
        raise told from error


def _leave_word(folder: Path, rank: int, error: Exception) -> None:
    kind = "interrupted" if isinstance(error, Interrupted) else "error"
    temporary = folder / f"{rank}.tmp"
    temporary.write_text(json.dumps({"kind": kind, "text": str(error)}))
    temporary.rename(folder / f"{rank}.word")


def _start(verb: str, args: argparse.Namespace, count: int, threads: int) -> None:
    """Starts `torchrun` and stays with it to the end."""
    if args.gpus:
        from lxmert.devices import take_devices

        take_devices(count)
    command = [sys.executable, "-m", "lxmert.training.agent", "--standalone", f"--nproc-per-node={count}"]
    command += ["-m", "lxmert", *sys.argv[1:]]
    log.info("%s: starting %d ranks", verb, count)
    with tempfile.TemporaryDirectory(prefix="lxmert-ranks-") as name:
        folder = Path(name)
        environment = {**os.environ, FOLDER: name, "OMP_NUM_THREADS": str(threads)}
        # A session of its own: a terminal's Ctrl-C comes here, and goes on from here, once.
        ranks = subprocess.Popen(
            command, env=environment, start_new_session=True, preexec_fn=_prepare_launcher
        )
        status = _attend(ranks, folder)
        words = [json.loads(path.read_text()) for path in sorted(folder.glob("*.word"))]
        how = _how_ended(folder, status)
    for word in words:
        if word["kind"] == "error":
            raise LxmertError(word["text"])
    if words:
        raise Interrupted(words[0]["text"])
    if status != 0:
        raise LxmertError(
            f"{verb}: {how}. What was saved is in {args.state}; run the same command again to go on."
        )


def _how_ended(folder: Path, status: int) -> str:
    """What became of ranks that left no word."""
    path = folder / ENDED
    ended: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    killed = [(rank, -code) for rank, code in ended.items() if code < 0]
    if killed:
        rank, number = killed[0]
        why = ", as the system does where memory runs out" if number == signal.SIGKILL else ""
        return f"rank {rank} was killed by {signal.Signals(number).name}{why}"
    return f"a rank ended without a word (torchrun: status {status}); see what it printed before"


def _attend(ranks: subprocess.Popen[bytes], folder: Path) -> int:
    """Waits for the ranks; a signal goes to one of them, which tells the others."""
    pending: list[int] = []
    before = {number: signal.signal(number, lambda got, _: pending.append(got)) for number in STOP_SIGNALS}
    try:
        while (status := ranks.poll()) is None:
            address = folder / "0.pid"
            if pending and address.exists() and (text := address.read_text()):
                try:
                    os.kill(int(text), pending.pop(0))
                except ProcessLookupError:
                    pass
            time.sleep(_LOOK_SECONDS)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status


def _prepare_launcher() -> None:
    # A scheduler signals every process of a job. torchrun would die of USR1, and on TERM would give the
    # ranks half a minute; it inherits that these wait, and so do the ranks, until they can save.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    _die_with_parent(signal.SIGQUIT)  # which torchrun heeds


def _die_with_parent(number: signal.Signals) -> None:
    """Asks the kernel for a signal when the parent ends, so that no rank outlives a killed command."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
