"""A real Slurm of one node on loopback: munged, slurmctld, slurmd; ports, keys and folders of their own.

Nothing of an installed cluster is read or changed. Everything started here ends with the `with` block, by
process id, whatever happened inside.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "srun")
# Where Debian puts what only root calls, which is not on every PATH.
PLACES = (*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/sbin")
CPUS, MEMORY_MB, GPUS = (
    64,
    500_000,
    4,
)  # what the node says it has; jobs ask for what a cluster would give them
REQUEUE_SECONDS = 5

# No control groups, no accounting, no job scripts of a site: what any machine with root can run.
CONFIGURATION = r"""
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={requeue_seconds}
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=10
GresTypes=gpu
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} \
  CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus}
PartitionName=main Nodes=node Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """The reason why no Slurm can be started here; None where one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a Slurm on loopback needs Linux and root"
    missing = [name for name in PROGRAMS if _program(name) is None]
    if missing:
        absent = ", ".join(missing)
        return f"Slurm is not installed ({absent} missing); on Debian: apt-get install slurm-wlm munge"
    return None


# Set where Slurm could have been installed: a test that needs it then fails without it.
REQUIRED = "LXMERT_REQUIRE_SLURM"


class LoopbackSlurm:
    """A running cluster.

    Attributes:
        folder: its configuration, state and logs.
        environment: variables with which Slurm's commands, and Snakemake, talk to it.
        gpus_are_devices: whether jobs are told which of its GPUs are theirs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = os.pathsep.join(dict.fromkeys([str(folder / "bin"), *PLACES]))
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SLURM_", "SBATCH_", "SRUN_", "SNAKEMAKE_"))
        }
        self.environment = {**kept, "PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}
        self.gpus_are_devices = False
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Starts the three daemons and waits for an idle node.

        Raises:
            RuntimeError: they did not come up; the message has the ends of their logs.
        """
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o400)
        self.gpus_are_devices = all(_make_device(self.folder / f"gpu{name}") for name in range(GPUS))
        (self.folder / "gres.conf").write_text(
            f"NodeName=node Name=gpu File={self.folder}/gpu[0-{GPUS - 1}]\n"
        )
        controller_port, node_port = _free_ports(2)
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=socket.gethostname().split(".")[0],
                folder=self.folder,
                controller_port=controller_port,
                node_port=node_port,
                requeue_seconds=REQUEUE_SECONDS,
                cpus=CPUS,
                memory=MEMORY_MB,
                gpus=GPUS,
            )
        )
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir()
        # The executor's job step drops SLURM_CONF from its environment; a cluster has its file in /etc.
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {_program("srun")} "$@"\n')
        srun.chmod(0o755)
        munge = [f"--{what}={self.folder}/munge.{what.split('-')[0]}" for what in ("socket", "key-file")]
        munge += [f"--{what}={self.folder}/munge.{what.split('-')[0]}" for what in ("pid-file", "seed-file")]
        self._daemon("munged", "--foreground", "--force", "--num-threads=2", *munge)
        self._wait((self.folder / "munge.socket").exists, 10, "munged opened no socket")
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D", "-N", "node")
        self._wait(lambda: "idle" in self.call("sinfo", "-h"), 20, "the node did not become idle")

    def call(self, *command: str) -> str:
        """What one of Slurm's commands prints; nothing where it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else ""

    def jobs(self, states: str = "all") -> list[tuple[str, str, str]]:
        """Id, state and comment of the jobs that Slurm knows; the comment names the rule."""
        lines = self.call("squeue", "-h", "-t", states, "-o", "%i|%T|%k", "-r").splitlines()
        return [tuple(line.split("|", 2)) for line in lines]  # type: ignore[misc]

    def stop(self) -> None:
        """Ends every job, then the daemons, then whatever is left of a job."""
        if self._daemons:
            self.call("scancel", "--full", "--user=root")
            self._quietly_wait(lambda: not self.jobs("running,completing,suspended"), 8)
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()
        for process in self._left():
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _daemon(self, name: str, *arguments: str) -> None:
        program = _program(name)
        assert program is not None
        with (self.folder / f"{name}.log").open("wb") as log:
            self._daemons.append(
                subprocess.Popen(
                    [program, *arguments],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=_end_with_parent,
                )
            )

    def _wait(self, happened: Callable[[], bool], seconds: float, complaint: str) -> None:
        if not self._quietly_wait(happened, seconds):
            logs = sorted(self.folder.glob("*.log"))
            ends = "\n".join(f"{log.name}: {log.read_text(errors='replace')[-800:]}" for log in logs)
            raise RuntimeError(f"{complaint}\n{ends}")

    @staticmethod
    def _quietly_wait(happened: Callable[[], bool], seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not (there := happened()) and time.monotonic() < until:
            time.sleep(0.05)
        return there

    def _left(self) -> list[int]:
        """Processes that jobs of this cluster left, told by its configuration in their environment."""
        mark = f"SLURM_CONF={self.folder}/slurm.conf".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # it ended while we looked
                continue
        return found


@contextmanager
def loopback_slurm() -> Iterator[LoopbackSlurm]:
    """A cluster for the length of a `with` block."""
    # Not below pytest's own folder: munged's socket must be reachable, and its path short.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    cluster = LoopbackSlurm(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def slurm_for_tests() -> Iterator[LoopbackSlurm]:
    """The same; where there can be none the test skips with the reason, or fails if one is required."""
    reason = why_not()
    if reason is not None and os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{REQUIRED}=1 says that these tests must run here, but {reason}")
    if reason is not None:
        pytest.skip(reason)
    with loopback_slurm() as running:
        yield running


def _make_device(path: Path) -> bool:
    """Something that Slurm takes for a GPU, and tells jobs of; False where it may only be counted."""
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except OSError:  # containers may forbid it
        path.touch()
        return False
    return True


def _end_with_parent() -> None:
    """Asks the kernel for TERM when the tests are killed, which no `finally` sees."""
    ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join(PLACES))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
