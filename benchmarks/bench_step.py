"""A fine-tuning step at lxr955's size, batch 32, beside a plain loop around `transformers`.

    python benchmarks/bench_step.py [--part step curve tricks compile] [--threads N]

The reference is LxmertForQuestionAnswering in training mode on questions padded to 20, from memory; binary
cross-entropy times the number of answers, PyTorch's gradient clipping at 5, and BertAdam as the original code
writes it, a loop over parameters. Ours is `lxmert finetune`'s own step, and reads its batches from disk.
Parts: `step` the ratio, with dropout; `curve` 50 steps of both without dropout, whose losses must agree to
1e-4 of their size; `tricks` what each trick gives; `compile` what `compile: true` in a recipe gives.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import lxr955
import torch
from timing import alternate, parse, pin, ratio, record
from torch import Tensor
from torch.nn import functional

from lxmert.data.batching import FinetuneBatches
from lxmert.data.sampling import step_rows
from lxmert.models.heads import TaskModel
from lxmert.models.rows import Rows
from lxmert.training.engine import Engine
from lxmert.training.optimizers import BertAdam
from lxmert.training.precision import Precision
from lxmert.training.ranks import Ranks
from lxmert.training.schedules import build_schedule
from lxmert.training.step import TrainingStep
from lxmert.training.task_loss import task_loss

CPU = torch.device("cpu")
PARTS = ("step", "curve", "tricks", "compile")
LR, DECAY, CLIP, SEED = 5e-5, 0.01, 5.0, 9595
CURVE_STEPS = 50
# A schedule long enough that its rates are those of a real run's beginning, past the warm-up.
SCHEDULE = build_schedule({"name": "linear", "warmup_fraction": 0.1}, 200)


class PlainBertAdam:
    """BertAdam as the original writes it: a loop over parameters, each update a chain of operations."""

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        self.parameters = parameters
        self.first: dict[int, Tensor] = {}
        self.second: dict[int, Tensor] = {}

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """One update of every parameter that has a gradient."""
        for number, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                continue
            if number not in self.first:
                self.first[number] = torch.zeros_like(parameter)
                self.second[number] = torch.zeros_like(parameter)
            first, second = self.first[number], self.second[number]
            first.mul_(0.9).add_(parameter.grad, alpha=0.1)
            second.mul_(0.999).addcmul_(parameter.grad, parameter.grad, value=0.001)
            update = first / (second.sqrt() + 1e-6)
            update += DECAY * parameter
            parameter.add_(-(LR * factor) * update)


class Reference:
    """The plain loop around `transformers`."""

    def __init__(self, ours: TaskModel, data: lxr955.Questions, batch: int) -> None:
        self.model = lxr955.build_theirs(ours, share=False).train()
        self.optimizer = PlainBertAdam(list(self.model.parameters()))
        self.data, self.batch = data, batch
        self.targets = torch.from_numpy(data.examples.soft_targets(range_of(data), lxr955.ANSWERS["vqa"]))

    def step(self, number: int) -> float:
        """One update; the loss."""
        rows = step_rows(len(self.data), self.batch, number, SEED, "finetune")  # what our sampler draws
        rows = torch.from_numpy(rows)
        logits = lxr955.their_logits(self.model, self.data.batch(rows))
        loss = functional.binary_cross_entropy_with_logits(logits, self.targets[rows]) * logits.shape[1]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step(SCHEDULE(number))
        self.model.zero_grad()
        return loss.item()


class Ours:
    """What `lxmert finetune` does at each step."""

    def __init__(self, model: TaskModel, data: lxr955.Questions, batch: int) -> None:
        self.batches = FinetuneBatches(data.examples, lxr955.ANSWERS["vqa"], batch, SEED)
        self.training = TrainingStep(
            task_loss("bce_times_answers").task(model),
            BertAdam(model.named_parameters(), lr=LR, weight_decay=DECAY),
            CLIP,
            Precision("fp32", CPU),
            Ranks(),
            CPU,
        )

    def step(self, number: int) -> float:
        """One update; the loss."""
        return self.training.run(self.batches.batch(number), SEED, number, SCHEDULE(number)).loss


def range_of(data: lxr955.Questions):  # noqa: ANN201 - int64 [N]
    """All rows of a split."""
    return torch.arange(len(data)).numpy()


def counted(step: Callable[[int], float]) -> Callable[[], float]:
    """A candidate that goes on to the next step each time; all candidates see the same batches."""
    number = iter(range(20, 10**9))  # past rate 0
    return lambda: step(next(number))


def part_step(data: lxr955.Questions, batch: int, repeats: int) -> None:
    """The ratio, with dropout as published."""
    model = lxr955.build_ours(lxr955.ANSWERS["vqa"])
    candidates = {
        "transformers": counted(Reference(model, data, batch).step),
        "ours": counted(Ours(model, data, batch).step),
    }
    timings = alternate(candidates, repeats)
    spread = ratio(timings, "transformers", "ours")
    record(
        "bench_step/step",
        f"VQA fine-tuning step, lxr955, float32, batch {batch}, against a plain loop around transformers",
        spread["median"],
        1.4,
        timings=timings,
        spread=spread,
        notes={"examples per second": f"{batch / timings['ours'].median:.1f}, reference"
               f" {batch / timings['transformers'].median:.1f}"},
    )  # fmt: skip


def part_curve(data: lxr955.Questions, batch: int, steps: int) -> None:
    """Losses of both over the first steps, without dropout."""
    model = lxr955.build_ours(lxr955.ANSWERS["vqa"], hidden_dropout=0.0, attention_dropout=0.0)
    theirs, ours = Reference(model, data, batch), Ours(model, data, batch)
    worst, losses = 0.0, []
    for number in range(steps):
        expected, found = theirs.step(number), ours.step(number)
        worst = max(worst, abs(found - expected) / abs(expected))
        losses.append(found)
    assert losses[-1] < losses[0], f"nothing was learnt: {losses[0]} to {losses[-1]}"
    assert worst <= 1e-4, f"losses differ by {worst:.1e} of their size"
    record(
        "bench_step/curve",
        f"Largest difference of the loss in {steps} steps without dropout, relative, batch {batch}",
        worst,
        1e-4,
        unit="",
        notes={"loss, first and last": f"{losses[0]:.3f}, {losses[-1]:.4f}"},
    )


@contextlib.contextmanager
def padded() -> Iterator[None]:
    """Sentences padded to the batch's longest, padding computed."""
    of = Rows.__dict__["of"]
    Rows.of = classmethod(lambda cls, mask, shape, *before: cls(shape, mask, None, None, *before))
    try:
        yield
    finally:
        Rows.of = of


class Padded20(FinetuneBatches):
    """Batches padded to 20."""

    def batch(self, step: int):  # noqa: ANN201 - a Batch
        """The batch of one step."""
        made = super().batch(step)
        room = 20 - made.input_ids.shape[1]
        made.input_ids = functional.pad(made.input_ids, (0, room))
        made.attention_mask = functional.pad(made.attention_mask, (0, room))
        return made


def part_tricks(data: lxr955.Questions, batch: int, repeats: int) -> None:
    """What each trick adds to those before it."""
    model = lxr955.build_ours(lxr955.ANSWERS["vqa"])
    theirs, ours = Reference(model, data, batch), Ours(model, data, batch)
    wide = Ours(model, data, batch)
    wide.training = ours.training
    wide.batches = Padded20(data.examples, lxr955.ANSWERS["vqa"], batch, SEED)
    plain = PlainBertAdam(list(model.parameters()))

    def run(of: Ours, read: str = "pooled", pad: bool = True, fused: bool = True) -> Callable[[int], float]:
        def step(number: int) -> float:
            model.head.reads = read
            training = of.training
            with padded() if pad else contextlib.nullcontext():
                if fused:
                    return of.step(number)
                update = training.optimizer.step
                training.optimizer.step = lambda factor, grad_scale: plain.step(factor)
                try:
                    return of.step(number)
                finally:
                    training.optimizer.step = update

        return step

    steps = {
        "transformers": theirs.step,
        "our layers and dropout, padded to 20": run(wide, "all", fused=False),
        "one pass of the optimiser": run(wide, "all"),
        "last cross layer: no visual side, [CLS] only": run(wide),
        "text trimmed to the batch's longest": run(ours),
        "no padding at all": run(ours, pad=False),
    }
    timings = alternate({name: counted(step) for name, step in steps.items()}, repeats)
    names = list(steps)
    notes = {
        name: f"x {ratio(timings, before, name)['median']:.2f},"
        f" together {ratio(timings, names[0], name)['median']:.2f}"
        for before, name in zip(names, names[1:], strict=False)
    }
    spread = ratio(timings, names[0], names[-1])
    record(
        "bench_step/tricks",
        "Share of each trick of the fine-tuning step, one after the other",
        spread["median"],
        None,
        timings=timings,
        spread=spread,
        notes=notes,
    )


def part_compile(data: lxr955.Questions, batch: int, repeats: int) -> None:
    """What `compile: true` gives; compiling itself is warm-up."""
    model, compiled = (lxr955.build_ours(lxr955.ANSWERS["vqa"]) for _ in range(2))
    Engine(compile=True).prepare(compiled, CPU)
    candidates = {
        "ours": counted(Ours(model, data, batch).step),
        "ours, compiled": counted(Ours(compiled, data, batch).step),
    }
    timings = alternate(candidates, repeats, warmup=3)
    spread = ratio(timings, "ours", "ours, compiled")
    record(
        "bench_step/compile",
        f"Fine-tuning step with compile: true against the same without, batch {batch}",
        spread["median"],
        None,
        timings=timings,
        spread=spread,
    )


def main() -> None:
    """Measures the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--curve-batch", type=int, default=32)
    args = parse(parser)
    pin(args.threads)
    if args.tiny:
        lxr955.shrink()
        args.repeats, args.batch, args.curve_batch = 1, 8, 8
    with tempfile.TemporaryDirectory() as name:
        data = lxr955.make_questions(Path(name), "vqa", 20 if args.tiny else 100)
        for part in args.part:
            if part == "curve":
                part_curve(data, args.curve_batch, 12 if args.tiny else CURVE_STEPS)
            else:
                globals()[f"part_{part}"](data, args.batch, args.repeats)


if __name__ == "__main__":
    main()
