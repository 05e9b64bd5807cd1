"""Which answers a run gives, how often, and which it takes for which."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from lxmert.report.figures import BLUE, GREEN, GREY, Picture, finish, new_figure, style
from lxmert.report.outcomes import Labels

_MOST_ANSWERS = 14
_OTHERS = "others"


def common_answers(labels: Labels, predicted: np.ndarray) -> list[int]:
    """The answers that occur most among labels and predictions, most frequent label first."""
    size = len(labels.answers)
    truth = np.bincount(labels.truth[labels.truth >= 0], minlength=size)
    given = np.bincount(predicted[predicted >= 0], minlength=size)
    some = np.flatnonzero(truth + given)
    top = some[np.argsort(-(truth + given)[some], kind="stable")][:_MOST_ANSWERS]
    return [int(answer) for answer in sorted(top, key=lambda answer: (-truth[answer], answer))]


def confusion(truth: np.ndarray, predicted: np.ndarray, answers: list[int]) -> np.ndarray:
    """int64 [len(answers) + 1, len(answers) + 1]: labels down, predictions across, the rest last."""
    known = truth >= 0
    places = np.full(int(max(truth.max(initial=0), predicted.max(initial=0), *answers, 0)) + 2, len(answers))
    places[np.asarray(answers, np.int64) + 1] = np.arange(len(answers))
    rows, columns = places[truth[known] + 1], places[predicted[known] + 1]
    side = len(answers) + 1
    return np.bincount(rows * side + columns, minlength=side * side).reshape(side, side)


def answers_picture(
    name: str, split: str, labels: Labels, predicted: np.ndarray, blind: np.ndarray | None
) -> Picture | None:
    """How often each answer is right and is given, and a matrix of what is taken for what.

    Args:
        name: of the run.
        split: what was answered.
        labels: its labels.
        predicted: int32 [N], the run's answers.
        blind: the same of its blind twin, if there is one.
    """
    answers = common_answers(labels, predicted)
    if not answers or not (labels.truth >= 0).any():
        return None
    words = [labels.answers[answer] or "(empty)" for answer in answers]
    matrix = confusion(labels.truth, predicted, answers)
    if not matrix[-1].any() and not matrix[:, -1].any():  # nothing else occurs
        matrix = matrix[:-1, :-1]
    with style():
        side = 1.2 + 0.27 * len(matrix)
        figure = new_figure(10.0, max(2.6, side))
        left, right = figure.subplots(1, 2, width_ratios=[1.0, 1.15])
        _bars(left, words, answers, labels.truth, {"seeing": predicted, "blind": blind})
        _matrix(right, matrix, [*words, _OTHERS][: len(matrix)])
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=3)
        return finish(
            figure,
            f"answers_{name}_{split}",
            f"{name}, {split}: how often each answer is right and is given;"
            " and what was said (across) to questions with a right answer (down).",
        )


def _bars(
    axes: Axes, words: list[str], answers: list[int], truth: np.ndarray, given: dict[str, np.ndarray | None]
) -> None:
    series = [("right answer", GREEN, truth)]
    series += [(f"given, {role}", {"seeing": BLUE, "blind": GREY}[role], ids)
               for role, ids in given.items() if ids is not None]  # fmt: skip
    height = 0.8 / len(series)
    for place, (label, colour, ids) in enumerate(series):
        counts = [100 * np.count_nonzero(ids == answer) / max(len(ids), 1) for answer in answers]
        axes.barh(
            np.arange(len(answers)) - 0.4 + height * (place + 0.5), counts, height, color=colour, label=label
        )
    axes.set_yticks(range(len(answers)), [_short(word) for word in words])
    axes.set_ylim(len(answers) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("share of questions, %")
    axes.set_title("how often")


def _matrix(axes: Axes, matrix: np.ndarray, words: list[str]) -> None:
    totals = matrix.sum(axis=1, keepdims=True)
    shares = 100 * matrix / np.maximum(totals, 1)
    axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=100, edgecolors="face", linewidth=0.4)
    for (row, column), share in np.ndenumerate(shares):
        if share >= 1:
            colour = "white" if share > 55 else "#0b2c4d"
            axes.text(
                column + 0.5, row + 0.52, f"{share:.0f}", ha="center", va="center", fontsize=7, color=colour
            )
    ticks = np.arange(len(words)) + 0.5
    axes.set_xticks(ticks, [_short(word) for word in words], rotation=50, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, [_short(word) for word in words])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.set_xlabel("given")
    axes.set_ylabel("right answer")
    axes.set_title("what is taken for what, % of a row")


def _short(word: str, most: int = 16) -> str:
    return word if len(word) <= most else word[: most - 1] + "…"
