"""The curve of a run: its losses, rates and scores by step, as JSON lines and as scalars of TensorBoard."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lxmert.files import atomic_path
from lxmert.state import JobState
from lxmert.training.job import TrainingJob
from lxmert.training.scalars import Scalars


@dataclass
class Window:
    """What was measured since the last record."""

    first_step: int
    began: float = field(default_factory=time.monotonic)
    data_seconds: float = 0.0


class Curve:
    """Writes the records of a run; of several ranks the first one does.

    Args:
        job: the run, its history cut back to where it goes on.
    """

    def __init__(self, job: TrainingJob) -> None:
        self._job = job
        self._scalars = self._open_scalars()

    def add(self, record: dict[str, Any]) -> None:
        """One record, which names its `step`."""
        if not self._job.ranks.first:
            return
        self._job.state.log(record)
        if self._scalars is not None:
            self._scalars.add(record)

    def add_window(
        self, window: Window, step: int, examples: int, means: Mapping[str, float], rate: float
    ) -> None:
        """The steps of a window.

        Args:
            window: when it began, and what it waited for data.
            step: the last one of it.
            examples: of one step.
            means: mean of each loss over the window.
            rate: the learning rate of its last step.
        """
        spent = max(time.monotonic() - window.began, 1e-9)
        steps = step - window.first_step
        self.add(
            {
                "step": step,
                "epoch": step / self._job.batches.steps_per_epoch,
                "loss": self._job.task.total(means),
                "losses": dict(means),
                "lr": rate,
                "examples_per_second": steps * examples / spent,
                "data_seconds": window.data_seconds / max(steps, 1),
                "memory_mb": self._memory_mb(),
            }
        )

    def reopen(self) -> None:
        """Makes the scalars anew from the history, which was cut back."""
        self.close()
        self._scalars = self._open_scalars()

    def close(self) -> None:
        """Writes what is left."""
        if self._scalars is not None:
            self._scalars.close()

    def _open_scalars(self) -> Scalars | None:
        job = self._job
        if job.tensorboard is None or not job.ranks.first:
            return None
        return Scalars(job.tensorboard, job.state.history_path, job.state.digest)

    def _memory_mb(self) -> float:
        if self._job.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._job.device) / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def copy_history(state: JobState, out: Path) -> None:
    """The history as a declared output."""
    with atomic_path(out) as temporary:
        temporary.write_bytes(state.history_path.read_bytes() if state.history_path.exists() else b"")
