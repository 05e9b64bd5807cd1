"""Check a file of answers, wherever it was made, against the questions that a phase of a server asks.

Evaluation servers count a file against the quota before they find its fault: VQA's refuse one that lacks a
single question of test2015, in test-dev too, and GQA's need every question of the submission file.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxmert.errors import DataError, suggest
from lxmert.progress import count
from lxmert.specs import read_document
from lxmert.specs.checks import checked
from lxmert.tasks import task_module, task_spec
from lxmert.tasks.id_hashes import check_same_ids
from lxmert.tasks.submission import check_answer, read_answers_of

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `check-submission`."""
    parser.add_argument("file", type=Path, help="the file of answers")
    parser.add_argument("--task", required=True, help="vqa, gqa or nlvr2")
    parser.add_argument("--phase", required=True, help="of the server, such as test-dev; or a split")
    parser.add_argument(
        "--raw", type=Path, default=Path("data/full/raw"), help="folder of the official raw files"
    )


def run(args: argparse.Namespace) -> None:
    """Prints one line about a file that the phase takes; fails with one about any other."""
    task = task_spec(args.task, {})
    split = split_of_phase(task, args.phase)
    number = check_submission(task, split, args.file, args.raw)
    published = published_count(task, split)
    if published not in (None, number):
        log.warning(
            "%s: %s has %s questions here, the publisher's file %s. Is %s the published data?",
            args.file, split, count(number), count(published or 0), args.raw,
        )  # fmt: skip
    asked = f"each question of {args.task} {split} once"
    print(f"{args.file}: {count(number)} answers, {asked}; fit for {args.phase}")


def split_of_phase(task: dict[str, Any], phase: str) -> str:
    """The split whose questions a phase of a task's server asks.

    Raises:
        DataError: there is no such phase.
    """
    known: dict[str, str] = {**{split: split for split in task["splits"]}, **task.get("phases", {})}
    if phase not in known:
        raise DataError(f"{phase}: task {task['task']} has no such phase or split.{suggest(phase, known)}")
    return known[phase]


def check_submission(task: dict[str, Any], split: str, path: Path, raw: Path) -> int:
    """Checks form, ids and answers of a file.

    Args:
        task: its document.
        split: the split it answers.
        path: the file.
        raw: folder of the official raw files.

    Returns:
        The number of questions.

    Raises:
        DataError: what is wrong first: the form, an id that is missing, too much or there twice, an answer.
    """
    form = task["submission"]
    blank = {**task, "splits": {split: {**task["splits"][split], "labelled": False}}}
    blank["splits"][split].pop("annotations", None)

    def given() -> Iterator[str]:
        for number, answer in read_answers_of(task, path):
            check_answer(form, number, answer, path)
            yield number

    def asked() -> Iterator[str]:
        return (example.id for example in task_module(task).read_examples(raw, blank, split, []))

    try:
        return check_same_ids(given, asked)
    except DataError as error:
        text = str(error)
        raise DataError(text if text.startswith((str(path), str(raw))) else f"{path}: {text}") from error


def published_count(task: dict[str, Any], split: str) -> int | None:
    """How many questions the publisher counts in a split, None where nobody says."""
    dataset = checked(read_document("dataset", task["dataset"]), "dataset", task["dataset"])
    entry = dataset["splits"].get(split)
    return None if entry is None else int(entry["examples"])
