"""Whether batches come as fast as the model takes them, and what holds them up if not.

Four measurements on a run's own inputs: batches built in this process, with the share that reading regions
takes; batches as training gets them, from worker processes; steps of the model on a batch in memory, its
appetite; and both together, where each second the model waits for a batch is a second lost.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lxmert.data.regions import RegionBatch, RegionSource
from lxmert.training.engine import Engine
from lxmert.training.optimizers import build_optimizer
from lxmert.training.pieces import count_examples
from lxmert.training.precision import Precision
from lxmert.training.ranks import Ranks
from lxmert.training.step import Task, TrainingStep
from lxmert.training.stream import StepBatches, stream

AMPLE = 3.0  # a loader this many times as fast as the model hides every hiccup
_IDLE = 0.05  # a model that waits longer is starved
_WARM_UP = 2  # steps


@dataclass(frozen=True)
class LoaderSpeed:
    """What was measured; speeds in examples per second.

    Attributes:
        alone: batches built one after the other in this process.
        regions: share of that time spent reading regions.
        disk_reads: pages a batch that had to come from the disk.
        loader: batches from the worker processes, as training gets them.
        workers: how many.
        model: steps on a batch that is in memory already.
        together: training.
        idle: share of the time in which the model waited for a batch.
        first_batch_seconds: until the first batch of the workers.
    """

    alone: float
    regions: float
    disk_reads: float
    loader: float
    workers: int
    model: float
    together: float
    idle: float
    first_batch_seconds: float

    @property
    def starved(self) -> bool:
        """Whether the model waits."""
        return self.loader < self.model or self.idle > _IDLE

    def bottleneck(self) -> str:
        """What to hasten first, in words."""
        times = self.loader / self.model
        if not self.starved:
            spare = "enough" if times >= AMPLE else f"below {AMPLE:g} times, so a slow disk would show"
            return f"the model; the loader brings {times:.1f} times what it takes, {spare}"
        if self.workers and self.loader < 0.5 * self.alone:
            return (
                "the loader: handing batches over from worker processes costs more than building them;"
                " fewer --workers, or 0, are faster here"
            )
        more = "--workers above 0" if not self.workers else f"more --workers than {self.workers}"
        if self.regions >= 0.5:
            if self.disk_reads >= 1:
                return (
                    f"the loader: regions come from the disk, {self.disk_reads:.0f} pages a batch;"
                    f" put the stores on a faster disk or into memory, or give {more}"
                )
            return f"the loader: copying regions, {self.regions:.0%} of a batch's time; give {more}"
        return f"the loader: words and targets, {1 - self.regions:.0%} of a batch's time; give {more}"

    def lines(self) -> list[str]:
        """What `lxmert bench loader` prints."""
        text = 1 - self.regions
        return [
            f"building    {self.alone:10.1f} examples/s in one process: regions {self.regions:.0%}, words and"
            f" targets {text:.0%}, {self.disk_reads:.0f} pages from the disk a batch",
            f"loader      {self.loader:10.1f} examples/s with {self.workers} workers, first batch after"
            f" {self.first_batch_seconds:.2f} s",
            f"model       {self.model:10.1f} examples/s, its appetite",
            f"together    {self.together:10.1f} examples/s, the model waits {self.idle:.1%} of the time",
            f"bottleneck: {self.bottleneck()}",
        ]


class _Clocked:
    """A region source that counts the seconds spent in it."""

    def __init__(self, source: RegionSource) -> None:
        self.source, self.seconds = source, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def read(self, images: Any, labels: bool = False) -> RegionBatch:
        began = time.perf_counter()
        try:
            return self.source.read(images, labels)
        finally:
            self.seconds += time.perf_counter() - began

    def random_features(self, images: Any, lots: np.ndarray) -> np.ndarray:
        began = time.perf_counter()
        try:
            return self.source.random_features(images, lots)
        finally:
            self.seconds += time.perf_counter() - began


def measure_loader(
    task: Task, batches: Any, recipe: dict[str, Any], device: torch.device, workers: int, steps: int
) -> LoaderSpeed:
    """Runs the four measurements.

    Args:
        task: the model, on its device, with its losses; it is trained a few steps and thrown away.
        batches: `FinetuneBatches` or `PretrainBatches`.
        recipe: the run's.
        device: where the model is.
        workers: processes that build batches.
        steps: batches of each measurement; each has batches of its own, so that none finds them in memory.
    """
    alone, regions, faults = _build_alone(batches, steps)
    loader, first = _drain(batches, steps, 2 * steps, workers)
    training = _training(task, recipe, device)
    model = _feed(training, batches, min(steps, 8), 2 * steps)
    together, idle = _train(training, batches, 3 * steps, 4 * steps, workers)
    return LoaderSpeed(alone, regions, faults, loader, workers, model, together, idle, first)


def _build_alone(batches: Any, steps: int) -> tuple[float, float, float]:
    """Examples per second, share of reading regions, pages from the disk a batch."""
    owner = getattr(batches, "examples", batches)
    plain = owner.regions
    clocked = _Clocked(plain) if plain is not None else None
    if clocked is not None:
        owner.regions = clocked
    try:
        batches.batch(0)  # opens the files
        before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        seconds = clocked.seconds if clocked is not None else 0.0
        began, examples = time.perf_counter(), 0
        for step in range(1, steps):
            examples += count_examples(batches.batch(step))
        spent = time.perf_counter() - began
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before
        reading = (clocked.seconds - seconds) / spent if clocked is not None else 0.0
    finally:
        owner.regions = plain
    return examples / spent, reading, faults / (steps - 1)


def _drain(batches: StepBatches, start: int, stop: int, workers: int) -> tuple[float, float]:
    """Examples per second of the stream after its first batch, and the seconds until that."""
    began = time.perf_counter()
    first, examples = 0.0, 0
    for step, batch in stream(batches, start, stop, workers):
        if step == start:
            first = time.perf_counter() - began
        else:
            examples += count_examples(batch)
    return examples / (time.perf_counter() - began - first), first


def _training(task: Task, recipe: dict[str, Any], device: torch.device) -> TrainingStep:
    engine = Engine.of(recipe)
    engine.prepare(task.model, device)
    return TrainingStep(
        task,
        build_optimizer(recipe["optimizer"], task.model.named_parameters()),
        recipe["clip_norm"],
        Precision(engine.precision, device),
        Ranks(),
        device,
        engine.micro_batch,
    )


def _feed(training: TrainingStep, batches: StepBatches, steps: int, at: int) -> float:
    """Examples per second of steps on batches that are built before."""
    ready = [batches.batch(at + number) for number in range(min(steps, 3))]
    for number in range(_WARM_UP):
        training.run(ready[number % len(ready)], 0, number, 0.0)
    began, examples = time.perf_counter(), 0
    for number in range(steps):
        batch = ready[number % len(ready)]
        training.run(batch, 0, number, 0.0)  # at rate 0: the work of a step, and no other weights
        examples += count_examples(batch)
    return examples / (time.perf_counter() - began)


def _train(
    training: TrainingStep, batches: StepBatches, start: int, stop: int, workers: int
) -> tuple[float, float]:
    """Examples per second of training, and the share of the time spent waiting for batches."""
    examples, waited, began = 0, 0.0, 0.0
    wait = time.perf_counter()
    for step, batch in stream(batches, start, stop, workers):
        came = time.perf_counter()
        if step == start:
            began = came  # the workers' start is not the loader's speed
        else:
            waited += came - wait
        training.run(batch, 0, step, 0.0)
        examples += count_examples(batch)
        wait = time.perf_counter()
    spent = wait - began
    return examples / spent, waited / spent
