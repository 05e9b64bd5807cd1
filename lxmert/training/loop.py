"""The training loop: steps, logs, evaluations, and a state from which a killed job goes on.

Everything a step does follows from (weights, optimiser state, seed, step): the batch, the masks and
dropout. So the state is weights, optimiser and counters, and a resumed run equals an unbroken one
bit for bit on the CPU.
"""

from __future__ import annotations

import logging
import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from lxmert.errors import Interrupted, LxmertError
from lxmert.files import atomic_path, save_tensors
from lxmert.models.layers import DropoutNoise
from lxmert.models.weights import load_tensors, model_tensors
from lxmert.objectives import Loss
from lxmert.progress import Progress
from lxmert.state import JobState, StopSignal
from lxmert.training.optimizers import build_optimizer, clip_scale
from lxmert.training.schedules import build_schedule
from lxmert.training.stream import StepBatches, stream
from lxmert.types import Batch

log = logging.getLogger(__name__)

Losses = Callable[[Batch], dict[str, Loss]]


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
        model: on its device.
        losses: losses of a batch by name; their weighted means are added up.
        weights: weight of each loss; 1 where none is given.
        batches: builds the batch of each step.
        recipe: the recipe document.
        seed: decides the order, the masks and dropout.
        state: where unfinished work lives.
        noise: the model's dropout.
        evaluate: called after each epoch and after the last step; None for no held-out split.
        device: where the model is.
        workers: processes that build batches.
        evaluate_first: also look at the untrained model, so that curves begin at step 0.
        began: when this attempt began, by the monotonic clock.
    """

    model: torch.nn.Module
    losses: Losses
    weights: dict[str, float]
    batches: StepBatches
    recipe: dict[str, Any]
    seed: int
    state: JobState
    noise: DropoutNoise
    evaluate: Callable[[], Evaluation] | None
    device: torch.device
    workers: int = 0
    evaluate_first: bool = False
    began: float = field(default_factory=time.monotonic)


class Trainer:
    """Runs a `TrainingJob` from its state to its end."""

    def __init__(self, job: TrainingJob) -> None:
        self.job, recipe = job, job.recipe
        self.total_steps = planned_steps(recipe, job.batches.steps_per_epoch)
        self.optimizer = build_optimizer(recipe["optimizer"], job.model.named_parameters())
        self.schedule = build_schedule(recipe["schedule"], self.total_steps)
        self.best_path = job.state.folder / "best.safetensors"
        self.step = 0
        self.best: float | None = None
        self.best_step = 0
        self.evaluations: list[dict[str, float]] = []
        self._earlier_seconds = 0.0
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}
        self._restore()

    def seconds(self) -> float:
        """Time spent so far, with earlier attempts up to their last save."""
        return self._earlier_seconds + time.monotonic() - self.job.began

    def run(self) -> None:
        """Trains to the last step.

        Raises:
            Interrupted: a signal asked to stop; the state is saved.
            LxmertError: a loss is not finite.
        """
        job, recipe = self.job, self.job.recipe
        progress = Progress(self.total_steps, "steps", "training", start=self.step)
        with StopSignal() as stop:
            if job.evaluate_first and self.step == 0 and not self.evaluations:
                self._evaluate()
            saved = window = wait = time.monotonic()
            window_step, data_seconds = self.step, 0.0
            for step, batch in stream(job.batches, self.step, self.total_steps, job.workers):
                data_seconds += time.monotonic() - wait
                loss = self._train_step(step, batch)
                self.step = step + 1
                progress.advance(note=f"loss {loss:.3f}")
                if self.step % recipe["log_every_steps"] == 0 or self.step == self.total_steps:
                    spent = max(time.monotonic() - window, 1e-9)
                    self._log_window(self.step - window_step, spent, data_seconds, len(batch))
                    window, window_step, data_seconds = time.monotonic(), self.step, 0.0
                if self._epoch_ends() and job.evaluate is not None:
                    began = time.monotonic()
                    self._evaluate()
                    self._save()
                    saved = time.monotonic()
                    window += saved - began  # the window's speed is that of its steps
                if stop.requested or time.monotonic() - saved >= recipe["save_every_seconds"]:
                    self._save()
                    saved = time.monotonic()
                if stop.requested and self.step < self.total_steps:
                    raise Interrupted(
                        f"saved at step {self.step} of {self.total_steps} in {job.state.folder}"
                    )
                wait = time.monotonic()
        progress.close()

    def _train_step(self, step: int, batch: Batch) -> float:
        job = self.job
        job.model.train()
        job.noise.begin(job.seed, step)
        losses = job.losses(batch.to(job.device))
        total = sum(job.weights.get(name, 1.0) * loss.mean() for name, loss in losses.items())
        assert isinstance(total, torch.Tensor), "a training step needs at least one loss"
        value = float(total.detach())
        if not math.isfinite(value):
            parts = ", ".join(f"{name} {float(loss.mean().detach()):.3g}" for name, loss in losses.items())
            raise LxmertError(
                f"step {step}: the loss is not finite ({parts}). The state before it is kept in"
                f" {job.state.folder}; lower optimizer/lr or check the inputs, then run again."
            )
        total.backward()
        scale = clip_scale(self.optimizer.grad_norm(), job.recipe["clip_norm"])
        self.optimizer.step(self.schedule(step), grad_scale=scale)
        self.optimizer.zero_grad()
        for name, loss in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(loss.sum.detach())
            self._counts[name] = self._counts.get(name, 0.0) + float(loss.denominator)
        return value

    def _log_window(self, steps: int, spent: float, data_seconds: float, examples: int) -> None:
        # In one order, whether the sums were counted here or read from a state: additions round.
        means = {name: self._sums[name] / max(self._counts[name], 1e-12) for name in sorted(self._sums)}
        record: dict[str, Any] = {
            "step": self.step,
            "epoch": self.step / self.job.batches.steps_per_epoch,
            "loss": sum(self.job.weights.get(name, 1.0) * mean for name, mean in means.items()),
            "losses": means,
            "lr": self.job.recipe["optimizer"]["lr"] * self.schedule(self.step - 1),
            "examples_per_second": steps * examples / spent,
            "data_seconds": data_seconds / max(steps, 1),
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        self.job.state.log(record)
        self._sums, self._counts = {}, {}

    def _epoch_ends(self) -> bool:
        return self.step % self.job.batches.steps_per_epoch == 0 or self.step == self.total_steps

    def _evaluate(self) -> None:
        assert self.job.evaluate is not None
        self.job.model.eval()
        evaluation = self.job.evaluate()
        record = {
            "step": self.step,
            "epoch": self.step / self.job.batches.steps_per_epoch,
            **evaluation.figures,
        }
        self.evaluations.append(record)
        self.job.state.log({"evaluation": True, **record})
        figures = ", ".join(f"{name} {value:.4f}" for name, value in evaluation.figures.items())
        log.info("epoch %.3g/%d: %s", record["epoch"], self.job.recipe["max_epochs"], figures)
        if self.best is None or evaluation.select_by > self.best:  # strictly better, as the reference
            self.best, self.best_step = evaluation.select_by, self.step
            save_tensors(self.best_path, model_tensors(self.job.model))

    def load_best(self) -> None:
        """Puts the best weights into the model; the last ones where nothing was evaluated."""
        if self.best is not None:
            load_tensors(self.job.model, load_file(str(self.best_path)), str(self.best_path))

    def _save(self) -> None:
        tensors = {f"model.{name}": value for name, value in model_tensors(self.job.model).items()}
        tensors |= {f"optimizer.{name}": value for name, value in self.optimizer.state_dict().items()}
        self.job.state.save(
            tensors,
            {
                "step": self.step,
                "best": self.best,
                "best_step": self.best_step,
                "evaluations": self.evaluations,
                "seconds": self.seconds(),
                "sums": self._sums,
                "counts": self._counts,
            },
        )

    def _restore(self) -> None:
        loaded = self.job.state.load()
        if loaded is None:
            return
        tensors, meta = loaded
        load_tensors(self.job.model, _with_prefix(tensors, "model."), str(self.job.state.folder))
        self.optimizer.load_state_dict(_with_prefix(tensors, "optimizer."))
        self.step, self.best, self.best_step = meta["step"], meta["best"], meta["best_step"]
        self.evaluations, self._earlier_seconds = meta["evaluations"], meta["seconds"]
        self._sums, self._counts = meta["sums"], meta["counts"]
        log.info("going on at step %d of %d from %s", self.step, self.total_steps, self.job.state.folder)


def planned_steps(recipe: dict[str, Any], steps_per_epoch: int) -> int:
    """Steps of a whole run: `max_epochs`, or fewer where `max_steps` says so."""
    steps: int = recipe["max_epochs"] * steps_per_epoch
    return min(steps, recipe["max_steps"]) if recipe.get("max_steps") else steps


def _with_prefix(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def copy_history(state: JobState, out: Path) -> None:
    """The history as a declared output."""
    with atomic_path(out) as temporary:
        temporary.write_bytes(state.history_path.read_bytes() if state.history_path.exists() else b"")
