"""GQA's scores as the official script computes them, grounding left out.

Reference: `eval.py` 1.1 of the GQA evaluation archive. Answers are compared as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from lxmert.errors import DataError
from lxmert.metrics.checks import check_ids, mean

# "What do they have in common?" may be answered with any of these.
_COMMON = frozenset({"color", "material", "shape"})
# Operations that only put the question, and are no steps of reasoning.
_NO_STEPS = ("exist", "query: name", "choose name")


def score_gqa(
    predictions: Mapping[str, str],
    questions: Iterable[tuple[str, Mapping[str, Any]]],
    choices: Mapping[str, Mapping[str, Collection[str]]] | None = None,
    consistency: bool = False,
    strict: bool = True,
) -> dict[str, float]:
    """Official scores over the balanced questions.

    Args:
        predictions: question id -> answer; for every balanced question, and with `consistency` for
            every question.
        questions: (id, official record), read once.
        choices: question id -> {"valid": [...], "plausible": [...]}; None where they are not public.
        consistency: compute it; needs the questions that balanced ones entail.
        strict: refuse predictions for unknown questions.

    Returns:
        `accuracy`, `binary`, `open`, `validity`, `plausibility`, `consistency`, and means by
        `structural/`, `semantic/`, `words/`, `steps/`, all in [0, 1]; `distribution` (lower is
        better); for each group also `<group>/count`. Scores that no question bears are left out.

    Raises:
        DataError: ids are missing or too many, or an entailed question is not among the questions.
    """
    board = _Board()
    correct: dict[str, bool] = {}
    entailing: list[tuple[str, list[str]]] = []
    asked: list[str] = []
    missing: list[str] = []
    for question_id, record in questions:
        asked.append(question_id)
        balanced = record["isBalanced"]
        if question_id not in predictions:
            if balanced or consistency:
                missing.append(question_id)
            continue
        prediction = predictions[question_id]
        right = prediction == record["answer"]
        if consistency:
            correct[question_id] = right
        if not balanced:
            continue
        board.add(record, prediction, right)
        if choices is not None:
            board.add_choices(record, prediction, _choice(choices, question_id))
        if consistency and right:
            entailing.append((question_id, [other for other in record["entailed"] if other != question_id]))
    check_ids(predictions, asked, missing, strict)
    for question_id, entailed in entailing:
        if entailed:
            board.lists["consistency"].append(mean(_entailed(correct, question_id, entailed)))
    return board.scores()


def _choice(
    choices: Mapping[str, Mapping[str, Collection[str]]], question_id: str
) -> Mapping[str, Collection[str]]:
    if question_id not in choices:
        raise DataError(f"Question {question_id} has no choices. Is it the choices file of another split?")
    return choices[question_id]


def _entailed(correct: Mapping[str, bool], question_id: str, entailed: list[str]) -> list[float]:
    for other in entailed:
        if other not in correct:
            raise DataError(
                f"Question {question_id} entails {other}, which is not among the questions."
                " Consistency needs the file of all questions."
            )
    return [float(correct[other]) for other in entailed]


class _Board:
    """Scores as they gather."""

    def __init__(self) -> None:
        names = ("accuracy", "binary", "open", "validity", "plausibility", "consistency")
        self.lists: dict[str, list[float]] = {name: [] for name in names}
        self.groups: dict[str, list[float]] = {}
        self.gold: dict[str, Counter[str]] = {}
        self.predicted: dict[str, Counter[str]] = {}

    def add(self, record: Mapping[str, Any], prediction: str, right: bool) -> None:
        """Counts one balanced question."""
        score = float(right)
        types = record["types"]
        self.lists["accuracy"].append(score)
        self.lists["open" if types["structural"] == "query" else "binary"].append(score)
        for kind in ("structural", "semantic"):
            self.groups.setdefault(f"{kind}/{types[kind]}", []).append(score)
        self.groups.setdefault(f"words/{len(record['question'].split()):02d}", []).append(score)
        self.groups.setdefault(f"steps/{_steps(record):02d}", []).append(score)
        group = record["groups"].get("global")
        if group is not None:
            self.gold.setdefault(group, Counter())[record["answer"]] += 1
            self.predicted.setdefault(group, Counter())[prediction] += 1

    def add_choices(
        self, record: Mapping[str, Any], prediction: str, choices: Mapping[str, Collection[str]]
    ) -> None:
        """Counts whether the answer is one that fits the question, and one that fits the world."""
        common = "Common" in record["types"]["detailed"]
        for name, key in (("validity", "valid"), ("plausibility", "plausible")):
            self.lists[name].append(float(prediction in (_COMMON if common else choices[key])))

    def scores(self) -> dict[str, float]:
        """Every score that some question bears."""
        result = {name: mean(values) for name, values in self.lists.items() if values}
        if self.gold:
            result["distribution"] = self._distribution()
        for name in sorted(self.groups):
            result[name] = mean(self.groups[name])
            result[f"{name}/count"] = float(len(self.groups[name]))
        return result

    def _distribution(self) -> float:
        """Chi-square of the answers given against the right ones, weighted by group size, / 100."""
        total = weight = 0.0
        for group, gold in self.gold.items():
            size = sum(gold.values())
            chi_square = sum(
                (self.predicted[group][answer] - count) ** 2 / count for answer, count in gold.items()
            )
            total += chi_square * size
            weight += size
        return total / weight / 100


def _steps(record: Mapping[str, Any]) -> int:
    operations = (f"{step['operation']}: {step['argument']}" for step in record["semantic"])
    return sum(not any(word in operation for word in _NO_STEPS) for operation in operations)
