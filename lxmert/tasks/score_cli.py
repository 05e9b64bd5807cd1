"""Score a file of predictions against public labels: the official scores, the label score, and chance."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.data.answers import read_answers
from lxmert.data.columns import Columns
from lxmert.errors import DataError
from lxmert.files import atomic_write_json, read_json, sha256_file
from lxmert.metrics.checks import IdError
from lxmert.metrics.vqa import score_labels
from lxmert.progress import count
from lxmert.specs import read_job_spec
from lxmert.tasks import split_spec, task_module, task_spec
from lxmert.tasks.submission import meta_path, read_predictions

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `score`."""
    parser.add_argument("--task", required=True, help="vqa, gqa or nlvr2")
    parser.add_argument("--spec", default="{}", help="job spec as JSON, or @file")
    parser.add_argument("--split", required=True, help="the split that was predicted")
    parser.add_argument("--predictions", required=True, type=Path, help="its submission file")
    parser.add_argument("--examples", required=True, type=Path, help="folder of the task's examples")
    parser.add_argument("--raw", required=True, type=Path, help="folder of the official raw files")
    parser.add_argument("--out", required=True, type=Path, help="JSON file to write")


def run(args: argparse.Namespace) -> None:
    """Writes the scores."""
    spec = read_job_spec(args.spec)
    result = score(task_spec(args.task, spec), args.split, args.predictions, args.examples, args.raw)
    leaks = spec.get("leaks", [])
    atomic_write_json(args.out, {**result, **({"leaks": leaks} if leaks else {})})
    if leaks:
        log.warning("%s %s: no score on unseen questions: %s", args.task, args.split, "; ".join(leaks))
    shown = ", ".join(f"{name} {value:.4f}" for name, value in result["official"].items() if "/" not in name)
    log.info("%s %s: %s; chance %.4f", args.task, args.split, shown, result["chance"]["official"]["accuracy"])


def score(task: dict[str, Any], split: str, predictions: Path, examples: Path, raw: Path) -> dict[str, Any]:
    """Scores of one submission file.

    Args:
        task: its document.
        split: the split that was predicted.
        predictions: the submission file.
        examples: folder of the task's examples.
        raw: folder of the official raw files.

    Returns:
        `task`, `split`, `count`, `subset`, `run` (if its record names one), `predictions`; `left_out`, what
        is not among the scores and why, where something is not; `metrics`
        from the soft labels in the examples; `official` from the raw files, as the publisher's script
        computes them; `chance`, both for always giving the training splits' most frequent `answer`.
        Shares are in [0, 1].

    Raises:
        DataError: the split has no public answers, or predictions and split do not fit.
    """
    part = split_spec(task, split)
    if not part["labelled"]:
        public = ", ".join(name for name, other in task["splits"].items() if other["labelled"])
        raise DataError(
            f"{predictions}: the answers of {task['task']} {split} are not public, so it cannot be"
            f" scored here. Submit it to the leaderboard, or score one of: {public}."
        )
    columns = Columns(examples / f"{split}.safetensors")
    answers = read_answers(examples / "answers.json")
    given = read_predictions(task, predictions)
    ids = columns.strings("id").to_list()
    frequent = most_frequent_answer(task, examples, answers)
    try:
        scores = _scores(task, part, raw, columns, answers, given)
    except IdError as error:
        raise DataError(f"{predictions}: {error}") from error
    return {
        "task": task["task"],
        "split": split,
        "count": len(columns),
        "subset": columns.meta.get("subset"),
        "predictions": {"file": predictions.name, "sha256": sha256_file(predictions)},
        **_run_name(predictions),
        **_left_out(task, columns, scores["official"]),
        **scores,
        "chance": {
            "answer": frequent,
            **_scores(task, part, raw, columns, answers, dict.fromkeys(ids, frequent)),
        },
    }


def _left_out(
    task: dict[str, Any], columns: Columns, official: dict[str, float]
) -> dict[str, dict[str, str]]:
    """Scores and examples that a reader may look for in vain."""
    module = task_module(task)
    found = module.left_out_scores(official) if hasattr(module, "left_out_scores") else {}
    if number := columns.meta.get("left_out"):
        found["examples"] = f"{count(number)} whose images are missing"
    if number := columns.meta.get("unseen"):
        found["images"] = f"{count(number)} examples were answered without theirs, which are missing"
    return {"left_out": found} if found else {}


def _run_name(predictions: Path) -> dict[str, str]:
    path = meta_path(predictions)
    record = read_json(path) if path.is_file() else {}
    return {"run": record["run"]} if isinstance(record, dict) and "run" in record else {}


def _scores(
    task: dict[str, Any],
    part: dict[str, Any],
    raw: Path,
    columns: Columns,
    answers: list[str],
    given: dict[str, str],
) -> dict[str, dict[str, float]]:
    official = task_module(task).score_official(raw, part, columns, given)
    # The official scorer has checked that every example has its prediction.
    asked = {example_id: given[example_id] for example_id in columns.strings("id")}
    return {"official": official, "metrics": score_labels(asked, _labels(columns, answers))}


def _labels(columns: Columns, answers: list[str]) -> Iterator[tuple[str, dict[str, float]]]:
    ids, scores = columns.ragged("answer_ids"), columns.ragged("answer_scores")
    for row, example_id in enumerate(columns.strings("id")):
        pairs = zip(ids[row].tolist(), scores[row].astype(np.float64).round(6).tolist(), strict=True)
        yield example_id, {answers[answer]: value for answer, value in pairs}


def most_frequent_answer(task: dict[str, Any], examples: Path, answers: list[str]) -> str:
    """The answer with the largest sum of scores over the training splits; the first of equals."""
    totals = np.zeros(len(answers))
    for split in task["train_on"]:
        columns = Columns(examples / f"{split}.safetensors")
        ids, scores = columns.ragged("answer_ids").values, columns.ragged("answer_scores").values
        totals += np.bincount(ids, weights=scores, minlength=len(answers))
    return answers[int(totals.argmax())]
