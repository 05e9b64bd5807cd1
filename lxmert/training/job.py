"""What a training run is given, and what a look at its held-out split gives back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lxmert.state import JobState
from lxmert.training.guards import Tripwire
from lxmert.training.ranks import Ranks
from lxmert.training.step import Task
from lxmert.training.stream import StepBatches


@dataclass
class Evaluation:
    """What one look at the held-out split gave.

    Attributes:
        figures: what to log, by name.
        select_by: the figure that chooses the best weights; larger is better.
    """

    figures: dict[str, float]
    select_by: float


@dataclass
class TrainingJob:
    """One training run.

    Attributes:
        task: model and losses.
        batches: builds the batch of each step.
        recipe: the recipe document.
        seed: decides the order, the masks and dropout.
        state: where unfinished work lives.
        evaluate: called after each epoch and after the last step; None for no held-out split.
        device: where the model is.
        workers: processes that build batches.
        evaluate_first: also look at the untrained model, so that curves begin at step 0.
        tripwire: stops a run that learns nothing; None for a run that need not learn.
        ranks: the processes that train together.
        tensorboard: folder of scalars; None for none.
        began: when this attempt began, by the monotonic clock.
    """

    task: Task
    batches: StepBatches
    recipe: dict[str, Any]
    seed: int
    state: JobState
    evaluate: Callable[[], Evaluation] | None
    device: torch.device
    workers: int = 0
    evaluate_first: bool = False
    tripwire: Tripwire | None = None
    ranks: Ranks = field(default_factory=Ranks)
    tensorboard: Path | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def model(self) -> torch.nn.Module:
        """The model that is trained."""
        return self.task.model
