"""Training curves: pretraining objectives, fine-tuning beside its twins, throughput."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from lxmert.report.figures import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    ROLE_COLOURS,
    Picture,
    axes_grid,
    finish,
    new_figure,
    steps_label,
    style,
)
from lxmert.report.results import DetectorResults, Family, History, RunResults

_TITLES = {
    "masked_lm": "masked language modelling",
    "matching": "image–text matching",
    "object": "masked regions: object",
    "attribute": "masked regions: attribute",
    "feature": "masked regions: feature",
    "qa": "question answering",
    "rpn_class": "proposals: object or not",
    "rpn_box": "proposals: box",
    "class": "regions: class",
    "box": "regions: box",
}


def title(name: str) -> str:
    """An objective as a person calls it."""
    return _TITLES.get(name, name.replace("_", " "))


def objectives(history: History) -> list[str]:
    """Names of the training losses: those known here in the order of their titles, then the others."""
    names: dict[str, None] = {}
    for record in history.training:
        losses = record.get("losses")
        names |= dict.fromkeys(losses if isinstance(losses, dict) else ())
    known = list(_TITLES)
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))


def pretraining_picture(run: RunResults) -> Picture | None:
    """Each objective's loss, in training and held out, with its value before the first step."""
    names = objectives(run.history)
    if not names:
        return None
    with style():
        figure, grid = axes_grid(len(names), 3, 3.4, 2.35)
        for axes, name in zip(grid, names, strict=True):
            _objective(axes, run.history, name)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return finish(
            figure,
            f"pretraining_{run.name}",
            f"Pretraining ({run.name}): loss of each objective, in training and held out."
            " The dashed line is the held-out value before the first step.",
        )


def _objective(axes: Axes, history: History, name: str) -> None:
    steps, values = history.series(name)
    axes.plot(steps, values, color=BLUE, alpha=0.75, linewidth=1.0, label="training", **_dot(values))
    held_steps, held = history.series(name, evaluations=True)
    if held:
        axes.plot(held_steps, held, color=ORANGE, marker="o", markersize=3.2, label="held out")
        axes.axhline(
            held[0], color=RED, linestyle=(0, (4, 3)), linewidth=1.0, label=f"at step {held_steps[0]:g}"
        )
        _note(axes, held_steps[0], held[0], f"{held[0]:.3g}", RED)
        if len(held) > 1:
            _note(axes, held_steps[-1], held[-1], f"{held[-1]:.3g}", ORANGE, right=True, below=True)
    axes.set_title(title(name))
    axes.margins(y=0.2)
    axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]) if min([*values, *held], default=0) >= 0 else None)
    steps_label(axes, max([*steps, *held_steps], default=0))


def _note(
    axes: Axes, x: float, y: float, text: str, colour: str, right: bool = False, below: bool = False
) -> None:
    axes.annotate(
        text,
        (x, y),
        xytext=(0, -5 if below else 4),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top" if below else "bottom",
        fontsize=8.5,
        color=colour,
        fontweight="bold",
    )


def finetuning_picture(family: Family, chance: float | None) -> Picture | None:
    """Held-out score and training loss over steps, of the run and its twins in one plot."""
    curves = [(role, run.history) for role, run in family.members if run.history.training]
    if not curves:
        return None
    split = family.run.metrics.get("split", "held out")
    with style():
        figure, (left, right) = axes_grid(2, 2, 5.0, 3.1)
        most = 0.0
        for role, history in curves:
            colour, dashes = ROLE_COLOURS[role], (0, (5, 2)) if role == "blind" else "solid"
            steps, scores = history.series("score", evaluations=True)
            left.plot(steps, [100 * score for score in scores], color=colour, linestyle=dashes, marker="o",
                      markersize=3.0, label=role)  # fmt: skip
            if scores:
                best = max(range(len(scores)), key=scores.__getitem__)
                _note(left, steps[best], 100 * scores[best], f"{100 * scores[best]:.1f}", colour, right=True)
            loss_steps, losses = history.series("loss")
            right.plot(
                loss_steps, losses, color=colour, linestyle=dashes, linewidth=1.3, label=role, **_dot(losses)
            )
            most = max([most, *steps, *loss_steps])
        if chance is not None:
            left.axhline(100 * chance, color=RED, linestyle=(0, (1, 2)), linewidth=1.2, label="chance")
        left.set_title(f"{family.run.name}: score on {split}, %")
        right.set_title(f"{family.run.name}: training loss")
        left.margins(y=0.14)
        right.set_ylim(bottom=0)
        for axes in (left, right):
            steps_label(axes, most)
        left.legend(loc="best")
        return finish(
            figure,
            f"finetuning_{family.run.name}",
            f"Fine-tuning {family.run.name}: score on {split} over steps"
            f" ({', '.join(role for role, _ in curves)}), and the training loss.",
        )


def _dot(values: Sequence[float]) -> dict[str, Any]:
    """A marker for a curve of one point, which would not be seen."""
    return {"marker": "o", "markersize": 3.5} if len(values) == 1 else {}


def throughput_picture(runs: Sequence[RunResults]) -> Picture | None:
    """Training examples a second: the median of each run, and how far records spread."""
    rates = [(run.name, run.history.series("examples_per_second")[1]) for run in runs]
    rates = [(name, values) for name, values in rates if values]
    if not rates:
        return None
    with style():
        figure = new_figure(10.0, 0.9 + 0.32 * len(rates))
        axes = figure.add_subplot()
        places = range(len(rates))
        medians = [statistics.median(values) for _, values in rates]
        low, high = zip(*(_middle(values) for _, values in rates), strict=True)
        spread = [
            [median - value for median, value in zip(medians, low, strict=True)],
            [value - median for median, value in zip(medians, high, strict=True)],
        ]
        axes.barh(places, medians, height=0.62, color=BLUE, xerr=spread, ecolor=GREY, capsize=2.5)
        for place, median, top in zip(places, medians, high, strict=True):
            axes.annotate(
                f"{median:.0f}", (top, place), xytext=(5, 0), textcoords="offset points", va="center"
            )
        axes.set_yticks(list(places), [name for name, _ in rates])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.08)
        axes.set_xlabel("training examples per second")
        return finish(
            figure,
            "throughput",
            "Training examples a second: the median of all records, and the middle 80 % of them.",
        )


def _middle(values: list[float]) -> tuple[float, float]:
    """The ends of the middle 80 % of some values."""
    ordered = sorted(values)
    cut = len(ordered) // 10
    return ordered[cut], ordered[-1 - cut]


def detector_losses_picture(detector: DetectorResults) -> Picture | None:
    """The detector's training losses over steps."""
    names = [name for name in ("loss", "rpn_class", "rpn_box", "class", "box", "attribute")
             if detector.history.series(name)[0]]  # fmt: skip
    if not names:
        return None
    with style():
        figure, grid = axes_grid(len(names), 3, 3.4, 2.0)
        for axes, name in zip(grid, names, strict=True):
            steps, values = detector.history.series(name)
            axes.plot(steps, values, color=BLUE, linewidth=0.8, alpha=0.35)
            axes.plot(steps, _smooth(values), color=BLUE)
            axes.set_title("sum of all losses" if name == "loss" else
                           "regions: attribute" if name == "attribute" else title(name))  # fmt: skip
            axes.set_ylim(bottom=0)
            steps_label(axes, max(steps))
        return finish(figure, "detector_losses", "The detector's training losses, as logged and smoothed.")


def _smooth(values: list[float]) -> list[float]:
    """An exponential mean over about a 25th of the curve, from its first value on."""
    share = 1 - 1 / max(1.0, len(values) / 25)
    smooth: list[float] = []
    for value in values:
        smooth.append(value if not smooth else share * smooth[-1] + (1 - share) * value)
    return smooth
