"""Batches of consecutive steps, built here or ahead of time in worker processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from lxmert.errors import LxmertError
from lxmert.state import STOP_SIGNALS
from lxmert.types import Batch

_PREFETCH = 4


class StepBatches(Protocol):
    """Anything that builds the batch of a step from the step's number alone."""

    steps_per_epoch: int

    def batch(self, step: int) -> Batch:
        """The batch of one step."""


class _BySteps(Dataset):  # type: ignore[type-arg]
    def __init__(self, batches: StepBatches) -> None:
        self._batches = batches

    def __getitem__(self, step: int) -> Batch | LxmertError:
        try:
            return self._batches.batch(step)
        except LxmertError as error:  # the loader would fold a traceback into its message
            return error


def stream(batches: StepBatches, start: int, stop: int, workers: int) -> Iterator[tuple[int, Batch]]:
    """Steps start … stop-1 with their batches, in order; workers change the speed and nothing else.

    Raises:
        LxmertError: what building a batch raises, here or in a worker.
    """
    steps = range(start, stop)
    if workers == 0:
        for step in steps:
            yield step, batches.batch(step)
        return
    loader = DataLoader(
        _BySteps(batches),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=_PREFETCH,
        worker_init_fn=_prepare_worker,
        pin_memory=torch.cuda.is_available(),
    )
    for step, batch in zip(steps, loader, strict=True):
        if isinstance(batch, LxmertError):
            raise batch
        yield step, batch


def _prepare_worker(worker: int) -> None:
    torch.set_num_threads(1)
    # A scheduler signals every process of a job. The one that trains saves and then ends its workers.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
