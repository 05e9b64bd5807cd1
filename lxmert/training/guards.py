"""What stops or steers a run that goes wrong: batches without a finite loss, scores at chance."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from lxmert import kernels
from lxmert.errors import LxmertError, SpecError, suggest

log = logging.getLogger(__name__)

_NAMED = 8  # examples that a message names


@dataclass
class BadBatches:
    """Steps that make no update because their loss or gradient is not finite.

    Attributes:
        limit: the run ends when there are so many.
        steps: their examples by step.
    """

    limit: int
    steps: dict[int, list[str]] = field(default_factory=dict)

    def add(self, step: int, names: Sequence[str], folder: object) -> None:
        """Leaves a step out from now on.

        Raises:
            LxmertError: there are too many by now.
        """
        self.steps[step] = list(names)
        text = f"step {step}: the loss or its gradient is not finite, examples {name_some(names)}"
        if len(self.steps) >= self.limit:
            raise LxmertError(
                f"{text}; {len(self.steps)} such batches are as many as recipe/max_bad_batches allows."
                f" Lower optimizer/lr or check these inputs; the state before them is kept in {folder}."
            )
        log.warning("%s; no update is made with this batch", text)

    def state(self) -> dict[str, list[str]]:
        """What a saved state keeps."""
        return {str(step): names for step, names in self.steps.items()}

    def restore(self, state: Mapping[str, list[str]]) -> None:
        """Takes over a saved state; steps found since stay."""
        self.steps = {int(step): names for step, names in state.items()} | self.steps


def name_some(names: Sequence[str]) -> str:
    """Some of many names, and how many more there are."""
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown


@torch.no_grad()
def are_finite(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether all numbers of all tensors are finite; reads each once."""
    largest = kernels.norms(tensors, float("inf"))
    return bool(torch.isfinite(torch.stack(largest)).all())


@dataclass(frozen=True)
class Tripwire:
    """Stops a run whose score is that of guessing after it should have learnt something.

    One too short for that, or that falls back to guessing later, keeps its results and is told of at its end.

    Attributes:
        metric: a figure of the evaluations.
        chance: its value where nothing is learnt.
        margin: how far from that it must be.
        after_epochs: whole epochs before the look.
        after_steps: updates before the look; short schedules learn late.
        causes: what is known to lead there.
    """

    metric: str
    chance: float
    margin: float
    after_epochs: float = 1
    after_steps: int = 0
    causes: tuple[str, ...] = ()

    @classmethod
    def of(cls, document: Mapping[str, Any] | None) -> Tripwire | None:
        """The tripwire of a recipe; None for none."""
        if document is None:
            return None
        return cls(**{**document, "causes": tuple(document.get("causes", ()))})

    def check(self, evaluations: Sequence[Mapping[str, float]], folder: object) -> None:
        """Looks at the first evaluation that is late enough.

        Raises:
            LxmertError: it is at chance.
            SpecError: the evaluations know no such metric.
        """
        for record in evaluations:
            complaint = self._complaint(record)
            if record["epoch"] >= self.after_epochs and record["step"] >= self.after_steps:
                if complaint:
                    raise LxmertError(
                        f"{complaint} Mend the cause and remove {folder}, or set recipe/tripwire: null"
                        " to go on."
                    )
                return

    def complaint_of_end(self, evaluations: Sequence[Mapping[str, float]]) -> str | None:
        """What is to be said of a run that ended at chance, short ones too; None of others."""
        return self._complaint(evaluations[-1]) if evaluations else None

    def _complaint(self, record: Mapping[str, float]) -> str | None:
        if self.metric not in record:
            known = [name for name in record if name not in ("step", "epoch")]
            raise SpecError(
                f'recipe/tripwire/metric: no figure "{self.metric}".{suggest(self.metric, known)}'
            )
        if abs(record[self.metric] - self.chance) > self.margin:
            return None
        causes = "; ".join(f"({number}) {cause}" for number, cause in enumerate(self.causes, 1))
        return (
            f"{self.metric} {record[self.metric]:.4f} at step {record['step']:.0f} (epoch"
            f" {record['epoch']:.3g}) is within {self.margin:g} of chance, {self.chance:g}: nothing was"
            f" learnt. Known causes: {causes or 'none given'}."
        )
