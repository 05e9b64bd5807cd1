"""The training loop: steps, logs, evaluations, and a state from which a killed job goes on.

Everything a step does follows from (weights, optimiser state, seed, step): the batch, the masks and
dropout. So the state is weights, optimiser and counters, and a resumed run equals an unbroken one
bit for bit on the CPU, if it goes on with as many ranks.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import torch
from safetensors.torch import load_file

from lxmert.errors import Interrupted, LxmertError
from lxmert.files import save_tensors
from lxmert.models.weights import load_tensors, model_tensors
from lxmert.progress import Progress
from lxmert.state import StopSignal
from lxmert.training.curve import Curve, Window
from lxmert.training.engine import Engine
from lxmert.training.guards import BadBatches, are_finite
from lxmert.training.job import TrainingJob
from lxmert.training.optimizers import build_optimizer
from lxmert.training.pieces import count_examples
from lxmert.training.precision import Precision
from lxmert.training.schedules import build_schedule
from lxmert.training.step import Outcome, TrainingStep
from lxmert.training.stream import stream
from lxmert.types import Batch

log = logging.getLogger(__name__)


class _RollBack(Exception):
    """The weights are not finite: the run goes on from its saved state, with care up to this step."""


class Trainer:
    """Runs a `TrainingJob` from its state to its end.

    Attributes:
        at_chance: of a run that ended: what is to be said where its last score is that of guessing.
    """

    def __init__(self, job: TrainingJob) -> None:
        self.job, recipe = job, job.recipe
        engine = Engine.of(recipe)
        engine.prepare(job.model, job.device)
        self.total_steps = planned_steps(recipe, job.batches.steps_per_epoch)
        self.optimizer = build_optimizer(recipe["optimizer"], job.model.named_parameters())
        self.schedule = build_schedule(recipe["schedule"], self.total_steps)
        self.precision = Precision(engine.precision, job.device)
        self.training = TrainingStep(
            job.task,
            self.optimizer,
            recipe["clip_norm"],
            self.precision,
            job.ranks,
            job.device,
            engine.micro_batch,
        )
        self._asked_micro_batch = engine.micro_batch
        self.best_path = job.state.folder / "best.safetensors"
        self.step = 0
        self.best: float | None = None
        self.best_step = 0
        self.evaluations: list[dict[str, float]] = []
        self.bad = BadBatches(engine.max_bad_batches)
        self._careful_until = 0
        self._earlier_seconds = 0.0
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}
        self._restore()
        self.at_chance: str | None = None
        self.curve = Curve(job)

    def seconds(self) -> float:
        """Time spent so far, with earlier attempts up to their last save."""
        return self._earlier_seconds + time.monotonic() - self.job.began

    def run(self) -> None:
        """Trains to the last step.

        Raises:
            Interrupted: a signal asked to stop; the state is saved.
            LxmertError: too many batches without a finite loss, or a score at chance.
        """
        with self.job.ranks.stop_signal() as stop:
            self._check_tripwire()
            if self.job.evaluate_first and self.step == 0 and not self.evaluations:
                self._evaluate()
            if self.step == 0:
                self._require_finite("the weights that the run begins with")
                self._save()  # what a run rolls back to before its first save
            while self.step < self.total_steps:
                try:
                    self._go_on(stop)
                except _RollBack:
                    self._roll_back()
        self.curve.close()
        self._look_back()

    def _go_on(self, stop: StopSignal) -> None:
        job, recipe = self.job, self.job.recipe
        progress = Progress(self.total_steps, "steps", "training", start=self.step)
        saved = wait = time.monotonic()
        window = Window(self.step)
        for step, batch in stream(job.batches, self.step, self.total_steps, job.workers):
            window.data_seconds += time.monotonic() - wait
            due = job.ranks.first and time.monotonic() - saved >= recipe["save_every_seconds"]
            outcome = self._train(step, batch, (stop.requested, due))
            self.step = step + 1
            if job.ranks.first:
                progress.advance(note=f"loss {outcome.loss:.3f}")
            if self.step % recipe["log_every_steps"] == 0 or self.step == self.total_steps:
                self._log_window(window, count_examples(batch))
                window = Window(self.step)
            stopping, saving = (votes > 0 for votes in outcome.flags)
            if self._epoch_ends() and job.evaluate is not None:
                began = time.monotonic()
                self._check_weights()
                self._evaluate()
                self._save()
                self._check_tripwire()
                saved = time.monotonic()
                window.began += saved - began  # the window's speed is that of its steps
            elif stopping or saving:
                self._check_weights()
                self._save()
                saved = time.monotonic()
            if stopping and self.step < self.total_steps:
                job.ranks.wait()
                raise Interrupted(f"saved at step {self.step} of {self.total_steps} in {job.state.folder}")
            wait = time.monotonic()
        self._check_weights()
        if job.ranks.first:
            progress.close()

    def _train(self, step: int, batch: Batch, flags: tuple[bool, ...]) -> Outcome:
        """One step; it makes no update with a batch that is known, or now turns out, to be bad."""
        if step in self.bad.steps:
            return self._pass_over(step, flags)
        outcome = self.training.run(batch, self.job.seed, step, self.schedule(step), flags)
        if not outcome.updated:
            self._check_weights()  # if it is they that are at fault, any batch looks bad
            self._note_bad(step, batch)
            self._log_bad(step)
            return outcome
        if step < self._careful_until and not are_finite(list(self.optimizer.parameters.values())):
            self._note_bad(step, batch)
            raise _RollBack
        for name, value in outcome.sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0.0) + outcome.counts[name]
        return outcome

    def _pass_over(self, step: int, flags: tuple[bool, ...]) -> Outcome:
        self._log_bad(step)
        votes = torch.tensor(flags, dtype=torch.float64, device=self.job.device)
        self.job.ranks.add_up(votes)
        return Outcome({}, {}, float("nan"), False, votes.tolist())

    def _note_bad(self, step: int, batch: Batch) -> None:
        names = self._names(step, batch)
        self.bad.add(step, names, self.job.state.folder)

    def _names(self, step: int, batch: Batch) -> list[str]:
        """The examples of a batch, or those whose own loss is not finite."""
        find = getattr(self.job.batches, "names", None)
        names = find(step) if find else [f"{place} of the batch" for place in range(count_examples(batch))]
        alone = [
            name
            for place, name in enumerate(names)
            if not abs(self.training.loss_of(batch, (place, place + 1))) < float("inf")
        ]
        return alone or names

    def _log_bad(self, step: int) -> None:
        self.curve.add({"step": step + 1, "left_out": self.bad.steps[step]})

    def _check_weights(self) -> None:
        """Rolls back where an update spoilt the weights; every rank has the same."""
        if not are_finite(list(self.optimizer.parameters.values())):
            raise _RollBack

    def _require_finite(self, whose: str) -> None:
        """Refuses to go on from weights that no step can mend; every rank has the same."""
        for name, parameter in self.optimizer.parameters.items():
            if not are_finite([parameter]):
                raise LxmertError(
                    f"{whose}: {name} holds numbers that are not finite. Begin with other weights; for a run"
                    f" of its own, remove {self.job.state.folder} first."
                )

    def _roll_back(self) -> None:
        """Goes on from the last good state; the updates after it are checked one by one."""
        self._careful_until = max(self._careful_until, self.step + 1)
        log.warning("the weights are no longer finite; going back from step %d to the saved state", self.step)
        before, earlier = self.step, self._earlier_seconds
        self.optimizer.zero_grad()
        if not self._restore():
            raise LxmertError(
                f"step {before}: the weights are not finite, and {self.job.state.folder} holds no earlier"
                " ones. Lower optimizer/lr, then run again."
            )
        self._require_finite(f"the weights saved in {self.job.state.folder}")
        self._earlier_seconds = earlier  # this attempt's own are in the saved ones, too
        self.curve.reopen()  # without the steps that are made again

    def _log_window(self, window: Window, examples: int) -> None:
        # In one order, whether the sums were counted here or read from a state: additions round.
        asked = [name for name in sorted(self._sums) if self._counts[name]]
        means = {name: self._sums[name] / self._counts[name] for name in asked}
        if means:
            rate = self.job.recipe["optimizer"]["lr"] * self.schedule(self.step - 1)
            self.curve.add_window(window, self.step, examples, means, rate)
        self._sums, self._counts = {}, {}

    def _epoch_ends(self) -> bool:
        return self.step % self.job.batches.steps_per_epoch == 0 or self.step == self.total_steps

    def _evaluate(self) -> None:
        assert self.job.evaluate is not None
        if not self.job.ranks.first:
            return
        self.job.model.eval()
        with self.precision.lowered():
            evaluation = self.job.evaluate()
        # JSON has no word for what is not finite; a curve with a gap says the same.
        finite = {name: value for name, value in evaluation.figures.items() if math.isfinite(value)}
        if len(finite) < len(evaluation.figures):
            odd = ", ".join(sorted(evaluation.figures.keys() - finite.keys()))
            log.warning("step %d: %s of the held-out part is not finite and is left out", self.step, odd)
        record = {"step": self.step, "epoch": self.step / self.job.batches.steps_per_epoch, **finite}
        self.evaluations.append(record)
        self.curve.add({"evaluation": True, **record})
        figures = ", ".join(f"{name} {value:.4f}" for name, value in finite.items())
        log.info("epoch %.3g/%d: %s", record["epoch"], self.job.recipe["max_epochs"], figures)
        if not math.isfinite(evaluation.select_by):
            return
        if self.best is None or evaluation.select_by > self.best:  # strictly better, as the reference
            self.best, self.best_step = evaluation.select_by, self.step
            save_tensors(self.best_path, model_tensors(self.job.model))

    def _check_tripwire(self) -> None:
        if self.job.tripwire is None:
            return
        complaint: LxmertError | None = None
        if self.job.ranks.first:
            try:
                self.job.tripwire.check(self.evaluations, self.job.state.folder)
            except LxmertError as error:
                complaint = error
        if self.job.ranks.any_of(complaint is not None):
            raise complaint or LxmertError("rank 0 stopped the run")

    def _look_back(self) -> None:
        """Says so where a run ends at chance; its results stand."""
        if self.job.tripwire is not None and self.job.ranks.first:
            self.at_chance = self.job.tripwire.complaint_of_end(self.evaluations)
            if self.at_chance:
                log.warning("%s", self.at_chance)

    def load_best(self) -> None:
        """Puts the best weights into the model; the last ones where nothing was evaluated."""
        if self.best is not None:
            load_tensors(self.job.model, load_file(str(self.best_path)), str(self.best_path))

    def _save(self) -> None:
        if not self.job.ranks.first:
            return
        tensors = {f"model.{name}": value for name, value in model_tensors(self.job.model).items()}
        tensors |= {f"optimizer.{name}": value for name, value in self.optimizer.state_dict().items()}
        scale = self.precision.scale
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
                "bad_batches": self.bad.state(),
                "micro_batch": {"asked": self._asked_micro_batch, "used": self.training.micro_batch},
                "loss_scale": None if scale is None else scale.state(),
            },
        )

    def _restore(self) -> bool:
        """Takes over the saved state; False where there is none."""
        with self.job.ranks.one_by_one():
            loaded = self.job.state.load()
        if loaded is None:
            return False
        tensors, meta = loaded
        load_tensors(self.job.model, _with_prefix(tensors, "model."), str(self.job.state.folder))
        self.optimizer.load_state_dict(_with_prefix(tensors, "optimizer."))
        self.step, self.best, self.best_step = meta["step"], meta["best"], meta["best_step"]
        self.evaluations, self._earlier_seconds = meta["evaluations"], meta["seconds"]
        self._sums, self._counts = meta["sums"], meta["counts"]
        self.bad.restore(meta["bad_batches"])
        held = meta["micro_batch"]
        if held["asked"] == self._asked_micro_batch:  # halved when memory ran out; another wish counts anew
            self.training.micro_batch = held["used"]
        if self.precision.scale is not None and meta["loss_scale"] is not None:
            self.precision.scale.restore(meta["loss_scale"])
        if self.step:
            log.info("going on at step %d of %d from %s", self.step, self.total_steps, self.job.state.folder)
        return True


def planned_steps(recipe: dict[str, Any], steps_per_epoch: int) -> int:
    """Steps of a whole run: `max_epochs`, or fewer where `max_steps` says so."""
    steps: int = recipe["max_epochs"] * steps_per_epoch
    return min(steps, recipe["max_steps"]) if recipe.get("max_steps") else steps


def _with_prefix(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
