"""Several processes that train one model together, each on its share of the global batch.

Every rank holds the whole model. A step's losses and gradients are sums over the shares, divided by
counts of the global batch, so they are those of one process but for the order of additions. Numbers
go over NCCL between GPUs and over gloo between CPUs; gloo also carries what ranks tell each other.
"""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from lxmert.errors import LxmertError
from lxmert.state import StopSignal

log = logging.getLogger(__name__)

_BUCKET_ELEMENTS = 1 << 23  # of gradients sent at once: 32 MB of float32
# Ranks wait while rank 0 evaluates or saves. One that dies is noticed by its closed connection.
_PATIENCE = datetime.timedelta(days=7)


class PeerLost(LxmertError):
    """Another rank is gone, so this one cannot go on; the launcher says what became of that one."""


class Ranks:
    """One process alone; :class:`ProcessGroup` is one of several.

    Attributes:
        rank: number of this process.
        count: how many there are.
    """

    rank = 0
    count = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def stop_signal(self) -> StopSignal:
        """Notices the signals that ask to stop."""
        return StopSignal()

    def add_up(self, values: Tensor) -> None:
        """Replaces numbers, float64 [n], by their sums over all ranks."""

    def add_up_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Replaces gradients by their sums over all ranks; every rank names the same ones in one order."""

    def wait(self) -> None:
        """Returns when every rank has come here."""

    def any_of(self, mine: bool) -> bool:
        """Whether it is so on any rank."""
        return mine

    def all_come(self, seconds: float) -> bool:
        """Whether every rank comes here in time."""
        return True

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        """Rank 0 runs the block before all others do; all leave it together."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()
        self.wait()


class _PatientStop(StopSignal):
    """A scheduler signals every process of a job, and so does the launcher: twice is not impatience."""

    def _note(self, number: int, frame: object) -> None:
        self._seen.clear()
        super()._note(number, frame)  # type: ignore[arg-type]


class ProcessGroup(Ranks):
    """One of several processes that `torchrun` started.

    Args:
        device: where this rank computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=_PATIENCE)
        self.rank, self.count = dist.get_rank(), dist.get_world_size()

    def close(self) -> None:
        """Leaves the group."""
        dist.destroy_process_group()

    def stop_signal(self) -> StopSignal:
        """Notices the signals that ask to stop, however often they come."""
        return _PatientStop()

    def add_up(self, values: Tensor) -> None:
        """Replaces numbers, float64 [n], by their sums over all ranks."""
        with _peers():
            dist.all_reduce(values)

    def add_up_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Replaces gradients by their sums over all ranks, some megabytes at a time."""
        bucket: list[Tensor] = []
        for number, gradient in enumerate(gradients):
            bucket.append(gradient)
            full = sum(part.numel() for part in bucket) >= _BUCKET_ELEMENTS
            if full or number == len(gradients) - 1:
                flat = torch.cat([part.reshape(-1) for part in bucket])
                self.add_up(flat)
                pieces = flat.split([part.numel() for part in bucket])
                for part, piece in zip(bucket, pieces, strict=True):
                    part.copy_(piece.view_as(part))
                bucket = []

    def wait(self) -> None:
        """Returns when every rank has come here."""
        self.add_up(torch.zeros(1))

    def any_of(self, mine: bool) -> bool:
        """Whether it is so on any rank."""
        votes = torch.tensor([float(mine)])
        self.add_up(votes)
        return bool(votes.item() > 0)

    def all_come(self, seconds: float) -> bool:
        """Whether every rank comes here in time; afterwards no other call will do."""
        try:
            dist.monitored_barrier(timeout=datetime.timedelta(seconds=seconds))
        except RuntimeError:
            return False
        return True


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL know no finer class
        log.debug("a collective failed", exc_info=True)
        raise PeerLost("another rank is gone; see its message. Run the same command again.") from error


def is_rank() -> bool:
    """Whether `torchrun` started this process as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1
