"""One optimiser step: the global batch in shares and micro-batches, its gradient, and one update.

Losses are sums, and what they are divided by is counted over the global batch before the first forward
pass. So gradients of micro-batches and of ranks add up to those of the whole batch.
"""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lxmert.errors import LxmertError
from lxmert.memory import is_out_of_memory
from lxmert.models.dropout import DropoutNoise
from lxmert.objectives import Loss
from lxmert.training.optimizers import Optimizer, clip_scale
from lxmert.training.pieces import Span, before, count_examples, cut, piece_of, share_of
from lxmert.training.precision import Precision
from lxmert.training.ranks import Ranks
from lxmert.types import Batch

log = logging.getLogger(__name__)

Losses = Callable[[Batch], dict[str, Loss]]
Denominators = Callable[[Batch], Mapping[str, Tensor]]


@dataclass
class Task:
    """What a step asks of a model.

    Attributes:
        model: on its device.
        noise: the model's dropout.
        losses: losses of a batch by name.
        denominators: what each loss of a batch is divided by, by name; needs no forward pass.
        weights: weight of each loss; 1 where none is given.
    """

    model: torch.nn.Module
    noise: DropoutNoise
    losses: Losses
    denominators: Denominators
    weights: Mapping[str, float]

    def total(self, means: Mapping[str, float]) -> float:
        """The weighted sum of mean losses."""
        return sum(self.weights.get(name, 1.0) * mean for name, mean in means.items())


@dataclass
class Outcome:
    """What a step found, the same on every rank.

    Attributes:
        sums: sum of each loss over the global batch.
        counts: what each is divided by.
        loss: weighted sum of the means.
        updated: whether the model changed; it does not where a loss or the gradient is not finite.
        flags: how many ranks raised each of the flags they came with.
    """

    sums: dict[str, float]
    counts: dict[str, float]
    loss: float
    updated: bool
    flags: list[float]


class TrainingStep:
    """Runs steps of one task.

    Args:
        task: what to learn.
        optimizer: changes the model.
        clip_norm: largest global L2 norm of the gradient; None for no limit.
        precision: number format.
        ranks: the processes that share the work.
        device: where the model is.
        micro_batch: examples to hold at once; None: all of this rank's share.
    """

    def __init__(
        self,
        task: Task,
        optimizer: Optimizer,
        clip_norm: float | None,
        precision: Precision,
        ranks: Ranks,
        device: torch.device,
        micro_batch: int | None = None,
    ) -> None:
        self.task, self.optimizer, self.clip_norm = task, optimizer, clip_norm
        self.precision, self.ranks, self.device = precision, ranks, device
        self.micro_batch = micro_batch
        self._trained: list[str] | None = None  # parameters that get a gradient, agreed on once

    def run(self, batch: Batch, seed: int, step: int, factor: float, flags: tuple[bool, ...] = ()) -> Outcome:
        """One update from a global batch.

        Args:
            batch: the global batch, on the CPU; every rank has it.
            seed: the run's seed, for dropout.
            step: the step's number, for dropout.
            factor: the schedule's share of the peak rate.
            flags: what this rank wants the others to know.

        Raises:
            LxmertError: not even one example fits into memory.
        """
        self.task.model.train()
        denominators = dict(self.task.denominators(batch))
        counts = {name: float(value) for name, value in denominators.items()}
        share = share_of(count_examples(batch), self.ranks.rank, self.ranks.count)
        moved = {name: value.to(self.device) for name, value in denominators.items()}
        scale = self.precision.scale
        held = None if scale is None else scale.state()
        while True:
            summed = self._gradients(batch, share, moved, seed, step)
            numbers = torch.cat([summed, torch.tensor(flags, dtype=torch.float64, device=self.device)])
            self.ranks.add_up(numbers)
            norm = self._unscaled(self._shared_norm())
            found = torch.cat([numbers, norm.double().reshape(1).to(numbers.device)]).tolist()
            sums = dict(zip(denominators, found, strict=False))
            losses_finite = all(map(math.isfinite, sums.values()))
            finite = losses_finite and math.isfinite(found[-1])
            if finite or not losses_finite or not self._try_lower_scale(step):
                break
        if finite:
            self._update(factor, self._grad_scale(norm), step)
            if scale is not None:
                scale.succeeded()
        elif scale is not None and held is not None:
            scale.restore(held)  # it was not the scale that was wrong
        self.optimizer.zero_grad()
        loss = self.task.total({name: sums[name] / max(counts[name], 1e-12) for name in sums})
        return Outcome(sums, counts, loss, finite, found[len(sums) : -1])

    def loss_of(self, batch: Batch, span: Span) -> float:
        """The loss of some examples by themselves, without dropout and gradient."""
        self.task.model.eval()
        piece = piece_of(batch, span).to(self.device)
        with torch.inference_mode(), self.precision.lowered():
            losses = self.task.losses(piece)
        return self.task.total({name: float(loss.mean()) for name, loss in losses.items()})

    def _gradients(
        self, batch: Batch, share: Span, denominators: dict[str, Tensor], seed: int, step: int
    ) -> Tensor:
        """Gradients of this rank's share, left in the parameters; sums of its losses, float64 [losses]."""
        while True:
            try:
                return self._accumulate(batch, share, denominators, seed, step)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the handler, whose traceback would keep the tensors of the failed pass.
            self._halve_micro_batch(share[1] - share[0], step)

    def _accumulate(
        self, batch: Batch, share: Span, denominators: dict[str, Tensor], seed: int, step: int
    ) -> Tensor:
        task, scale = self.task, self.precision.scale
        sums = torch.zeros(len(denominators), dtype=torch.float64, device=self.device)
        for span in cut(share, self.micro_batch):
            task.noise.begin(seed, step, before=before(batch, span))
            with self.precision.lowered():
                losses = task.losses(piece_of(batch, span).to(self.device))
            total = sum(
                task.weights.get(name, 1.0) * loss.mean(denominators[name]) for name, loss in losses.items()
            )
            assert isinstance(total, Tensor), "a training step needs at least one loss"
            (total if scale is None else total * scale.value).backward()
            sums += torch.stack([losses[name].sum.detach().double() for name in denominators])
        return sums

    def _shared_norm(self) -> Tensor:
        """Adds up the gradients of all ranks; their global norm."""
        if self.ranks.count > 1:
            if self._trained is None:
                self._trained = self._agree_on_trained()
            for name in self._trained:  # a rank without examples has none
                parameter = self.optimizer.parameters[name]
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            self.ranks.add_up_gradients(self.optimizer.gradients())
        return self.optimizer.grad_norm().to(self.device)

    def _agree_on_trained(self) -> list[str]:
        parameters = self.optimizer.parameters
        present = [float(parameter.grad is not None) for parameter in parameters.values()]
        votes = torch.tensor(present, dtype=torch.float64, device=self.device)
        self.ranks.add_up(votes)
        return [name for name, vote in zip(parameters, votes.tolist(), strict=True) if vote > 0]

    def _unscaled(self, norm: Tensor) -> Tensor:
        return norm if self.precision.scale is None else norm / self.precision.scale.value

    def _grad_scale(self, norm: Tensor) -> Tensor | None:
        clip = clip_scale(norm, self.clip_norm)
        if self.precision.scale is None:
            return clip
        inverse = torch.full((), 1.0 / self.precision.scale.value, device=norm.device)
        return inverse if clip is None else clip * inverse

    def _try_lower_scale(self, step: int) -> bool:
        scale = self.precision.scale
        if scale is None or not scale.overflowed():
            return False
        log.debug("step %d: a gradient overflowed; loss scale %g", step, scale.value)
        self.optimizer.zero_grad()
        return True

    def _update(self, factor: float, grad_scale: Tensor | None, step: int) -> None:
        try:
            self.optimizer.step(factor, grad_scale)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # The pass is over and holds nothing, so that a smaller one would not help.
            raise LxmertError(
                f"step {step}: out of memory on {self.device} for the optimiser's two moments, each as large"
                " as the model. Use a device with more memory, or a smaller size of the system."
            ) from error

    def _halve_micro_batch(self, share: int, step: int) -> None:
        self.optimizer.zero_grad()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        held = min(self.micro_batch or share, share)
        if held <= 1:
            raise LxmertError(
                f"step {step}: out of memory on {self.device} with one example at a time. Set the recipe's"
                " checkpoint_layers: true or precision: bf16, or use a device with more memory."
            )
        self.micro_batch = held // 2
        log.warning(
            "step %d: out of memory with %d examples at once; going on with %d, to the same result but for"
            " rounding",
            step,
            held,
            self.micro_batch,
        )
