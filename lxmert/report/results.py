"""The results folder as a report reads it: runs with their curves and scores, and the detector's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lxmert.errors import DataError, suggest
from lxmert.files import read_json, read_json_lines

DETECTOR = "detector"
# Runs that stand beside another one, by the ending of their name.
BLIND, SCRATCH = "_blind", "_scratch"
_SCORE_ENDING = "_score.json"


@dataclass(frozen=True)
class History:
    """A training curve.

    Attributes:
        training: records of training steps, by step.
        evaluations: records of looks at the held-out split, by step.
    """

    training: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)

    def series(self, name: str, evaluations: bool = False) -> tuple[list[float], list[float]]:
        """(steps, values) of a figure; records without it, or with one that is not finite, are left out.

        Args:
            name: a key of the records; a training loss may also be a key of their `losses`.
            evaluations: from the looks at the held-out split.
        """
        steps: list[float] = []
        values: list[float] = []
        for record in self.evaluations if evaluations else self.training:
            losses = record.get("losses")
            value = losses[name] if isinstance(losses, dict) and name in losses else record.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                steps.append(float(record["step"]))
                values.append(float(value))
        return steps, values


@dataclass(frozen=True)
class Score:
    """How a run did on a split with public labels; shares in [0, 1].

    Attributes:
        split: its name.
        accuracy: the official score.
        official: every official figure, by name.
        chance: the official score of always giving one answer.
        chance_label_score: its soft label score, which training selects by.
        chance_answer: that answer, the commonest of the training splits.
        count: examples.
        leaks: why it is no score on unseen questions; empty where it is one.
    """

    split: str
    accuracy: float
    official: dict[str, float]
    chance: float | None
    chance_label_score: float | None
    chance_answer: str | None
    count: int | None
    leaks: Sequence[str] = ()


@dataclass(frozen=True)
class RunResults:
    """A run's folder.

    Attributes:
        name: of the run.
        folder: results/<name>.
        spec: the job spec it was trained by; empty for pretraining, which writes none.
        metrics: metrics.json.
        history: history.jsonl.
        scores: by split.
    """

    name: str
    folder: Path
    spec: dict[str, Any]
    metrics: dict[str, Any]
    history: History
    scores: dict[str, Score]

    @property
    def task(self) -> str | None:
        """The task it was fine-tuned for, None for pretraining."""
        task = self.spec.get("task")
        return str(task["task"]) if isinstance(task, dict) and "task" in task else None

    @property
    def seconds(self) -> float | None:
        """How long training took."""
        value = self.metrics.get("seconds")
        return float(value) if isinstance(value, int | float) else None

    def predictions(self, split: str) -> Path | None:
        """The submission file of a split, if there is one."""
        for ending in ("json", "csv"):
            path = self.folder / f"{split}_predict.{ending}"
            if path.is_file():
                return path
        return None


@dataclass(frozen=True)
class Family:
    """A run and the ones that stand beside it for comparison.

    Attributes:
        run: the run itself.
        blind: its twin that never sees an image.
        scratch: the same from random weights.
    """

    run: RunResults
    blind: RunResults | None = None
    scratch: RunResults | None = None

    @property
    def members(self) -> list[tuple[str, RunResults]]:
        """(role, run) of all there are: "seeing", "blind", "from scratch"."""
        pairs = ((self._own_role(), self.run), ("blind", self.blind), ("from scratch", self.scratch))
        return [(role, run) for role, run in pairs if run is not None]

    def _own_role(self) -> str:
        """What the run itself is: a blind one that stands alone does not see."""
        if self.run.spec.get("vision") is False:
            return "blind"
        alone = self.blind is None and self.scratch is None
        return "from scratch" if alone and self.run.spec.get("init") == "scratch" else "seeing"

    def scored_splits(self) -> list[str]:
        """Splits that the run has a score of: the one it was selected on first."""
        selected = self.run.metrics.get("split")
        return sorted(self.run.scores, key=lambda split: (split != selected, split))


@dataclass(frozen=True)
class DetectorResults:
    """What training and judging the detector left.

    Attributes:
        source: file of the evaluation.
        evaluation: its average precision; see `lxmert.detector.evaluate`.
        training: losses and steps, if known.
        history: its training curve.
        panels: pictures with boxes.
    """

    source: Path
    evaluation: dict[str, Any]
    training: dict[str, Any]
    history: History
    panels: list[Path]


@dataclass(frozen=True)
class Results:
    """All of it.

    Attributes:
        pretrainings: runs without a task.
        families: fine-tuned runs with their twins, in the order that was asked for.
        detector: None where features came from elsewhere.
    """

    pretrainings: list[RunResults]
    families: list[Family]
    detector: DetectorResults | None


def read_results(folder: Path, names: Sequence[str] | None = None, detector: Path | None = None) -> Results:
    """Reads a results folder.

    Args:
        folder: holds one folder a run.
        names: the runs to report, in this order; None takes every folder with a metrics.json.
        detector: the detector's folder; `<folder>/detector` unless given. It may be missing.

    Raises:
        DataError: the folder or a named run is missing, or a file is malformed.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of results. Train something first: snakemake finetune")
    found = sorted(path.parent.name for path in folder.glob("*/metrics.json") if path.parent.name != DETECTOR)
    for name in names or []:
        if name not in found:
            raise DataError(
                f"{folder / name}: holds no metrics.json, so this run has not ended.{suggest(name, found)}"
            )
    runs = {name: read_run(folder / name) for name in names or found}
    if not runs:
        raise DataError(f"{folder}: no run has ended here (no */metrics.json). Train one: snakemake finetune")
    pretrainings = [run for run in runs.values() if run.task is None]
    tuned = {name: run for name, run in runs.items() if run.task is not None}
    return Results(pretrainings, _families(tuned), read_detector(detector or folder / DETECTOR))


def read_run(folder: Path) -> RunResults:
    """Reads one run's folder; only metrics.json must be there."""
    metrics = _object(folder / "metrics.json")
    spec_path, history_path = folder / "spec.json", folder / "history.jsonl"
    return RunResults(
        name=folder.name,
        folder=folder,
        spec=_object(spec_path) if spec_path.is_file() else {},
        metrics=metrics,
        history=read_history(history_path) if history_path.is_file() else History(),
        scores={score.split: score for score in map(read_score, sorted(folder.glob(f"*{_SCORE_ENDING}")))},
    )


def _families(runs: dict[str, RunResults]) -> list[Family]:
    """Every run that is no twin of another, with its twins."""

    def is_twin(name: str) -> bool:
        return any(name.endswith(ending) and name.removesuffix(ending) in runs for ending in (BLIND, SCRATCH))

    return [
        Family(run, runs.get(name + BLIND), runs.get(name + SCRATCH))
        for name, run in runs.items()
        if not is_twin(name)
    ]


def read_history(path: Path) -> History:
    """A history.jsonl.

    Raises:
        DataError: a line is not a JSON object, or has no step.
    """
    history = History()
    for number, record in read_json_lines(path):
        step = record.get("step")
        if not isinstance(step, int | float) or isinstance(step, bool):
            raise DataError(f"{path}:{number}: a record without a number `step`. Train again.")
        (history.evaluations if record.get("evaluation") else history.training).append(record)
    return history


def read_score(path: Path) -> Score:
    """A score file, as the verb `score` writes it.

    Raises:
        DataError: it holds no accuracy between 0 and 1.
    """
    record = _object(path)
    official, chance = _part(record, "official"), _part(record, "chance")
    accuracy = official.get("accuracy")
    if not _is_share(accuracy):
        raise DataError(
            f"{path}: official/accuracy must be a number from 0 to 1, is {accuracy!r:.40}."
            " Score the split again."
        )
    by_chance = _part(chance, "official").get("accuracy")
    labels_by_chance = _part(chance, "metrics").get("label_score")
    count, answer = record.get("count"), chance.get("answer")
    return Score(
        split=path.name.removesuffix(_SCORE_ENDING),
        accuracy=float(accuracy),
        official={name: float(value) for name, value in official.items() if isinstance(value, int | float)},
        chance=float(by_chance) if _is_share(by_chance) else None,
        chance_label_score=float(labels_by_chance) if _is_share(labels_by_chance) else None,
        chance_answer=answer if isinstance(answer, str) else None,
        count=count if isinstance(count, int) else None,
        leaks=[str(reason) for reason in record.get("leaks", [])],
    )


def _part(record: dict[str, Any], name: str) -> dict[str, Any]:
    part = record.get(name)
    return part if isinstance(part, dict) else {}


def read_detector(folder: Path) -> DetectorResults | None:
    """The detector's results; None where there are none, as when features were downloaded."""
    training_path = folder / "metrics.json"
    training = _object(training_path) if training_path.is_file() else {}
    # The verb evaluate-detector writes <split>_score.json; training leaves the same figures of val.
    for path in (*sorted(folder.glob(f"*{_SCORE_ENDING}")), training_path):
        evaluation = _object(path) if path.is_file() else {}
        if "objects" in evaluation:
            break
    else:
        return None
    for table in ("objects", "attributes"):
        _check_precision(evaluation.get(table), f"{path}: {table}")
    history_path = folder / "history.jsonl"
    return DetectorResults(
        source=path,
        evaluation=evaluation,
        training=training,
        history=read_history(history_path) if history_path.is_file() else History(),
        panels=sorted((folder / "panels").glob("*.png")),
    )


def _check_precision(table: Any, place: str) -> None:
    fits = (
        isinstance(table, dict)
        and _is_share(table.get("map"))
        and _is_share(table.get("weighted_map"))
        and all(isinstance(row, dict) and {"name", "ap", "boxes"} <= row.keys() for row in table["classes"])
    )
    if not fits:
        raise DataError(f"{place} must hold map, weighted_map and classes. Evaluate the detector again.")


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: must be a JSON object, is {type(value).__name__}. Make the file again.")
    return value


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0
