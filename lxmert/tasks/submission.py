"""Files a leaderboard accepts: written, read again, checked, and only then put in place.

Two forms exist: a JSON array of objects (VQA, GQA) and a CSV without header (NLVR2). Which one, and
how its fields are called, stands in the task's document under `submission`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from lxmert.data.columns import Columns, Strings
from lxmert.data.raw_json import list_records
from lxmert.errors import DataError
from lxmert.files import atomic_path, atomic_write_json, explain_os_error, sha256_file
from lxmert.tasks.id_hashes import hashes_of
from lxmert.tasks.records import equal_hashes


def write_submission(
    task: dict[str, Any],
    examples: Columns,
    answers: Sequence[str],
    predicted: np.ndarray,
    out: Path,
    meta: dict[str, Any],
) -> None:
    """Writes the answers to a split in its leaderboard's form, and `<out>.meta.json` beside it.

    Args:
        task: the task's document.
        examples: the split; gives ids and order.
        answers: answer strings, position = id.
        predicted: integer [N], the answer id of each example.
        out: the file to write.
        meta: what to record beside it (run, sha256 of the weights, ...); task, split, count, subset
            and the file's own sha256 are added.

    Raises:
        DataError: an answer may not stand in the file (the id is named), or the disk is full.
    """
    form = task["submission"]
    ids = examples.strings("id")
    _check_ids(form, ids, examples.path)
    predicted = np.asarray(predicted)
    assert predicted.shape == (len(ids),) and np.issubdtype(predicted.dtype, np.integer), predicted.shape
    _check_range(ids, predicted, len(answers), examples.path)
    with atomic_path(out) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="\n") as handle:
            _write(form, zip(ids, (answers[i] for i in predicted), strict=True), handle)
        _check_file(form, temporary, out, examples, frozenset(answers))
        digest = sha256_file(temporary)
    atomic_write_json(
        meta_path(out),
        {
            **meta,
            "task": task["task"],
            "split": examples.meta["split"],
            "subset": examples.meta.get("subset"),
            "count": len(ids),
            **({"unseen": examples.meta["unseen"]} if "unseen" in examples.meta else {}),
            "file": out.name,
            "sha256": digest,
        },
    )


def meta_path(out: Path) -> Path:
    """Where the record of a submission file stands: test_predict.json -> test_predict.json.meta.json."""
    return out.with_name(f"{out.name}.meta.json")


def read_predictions(task: dict[str, Any], path: Path) -> dict[str, str]:
    """Answer by id (always text) of a submission file, in its order.

    Raises:
        DataError: the file does not have the task's form, or names an id twice.
    """
    result: dict[str, str] = {}
    for number, (example_id, answer) in enumerate(read_answers_of(task, path)):
        if example_id in result:
            raise DataError(f"{path}: record {number}: id {example_id} is answered twice. Keep one of them.")
        result[example_id] = answer
    return result


def read_answers_of(task: dict[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    """(id as text, answer) of a submission file, in its order, one at a time.

    Raises:
        DataError: the file does not have the task's form.
    """
    return _read(task["submission"], path, path)


def _check_ids(form: dict[str, Any], ids: Strings, path: Path) -> None:
    if form.get("id_type") == "integer":
        for example_id in ids:
            if not example_id.isdecimal():
                raise DataError(f"{path}: id {example_id} must be a whole number to be submitted.")
    seen: set[str] = set()
    for row in equal_hashes(hashes_of(ids)):
        if ids[row] in seen:
            raise DataError(f"{path}: id {ids[row]} stands twice. Remove the file and build it again.")
        seen.add(ids[row])


def _check_range(ids: Strings, predicted: np.ndarray, answers: int, path: Path) -> None:
    outside = np.flatnonzero((predicted < 0) | (predicted >= answers))
    if len(outside):
        row = int(outside[0])
        raise DataError(
            f"{path}: question {ids[row]} was given answer number {predicted[row]}, and there are {answers}."
            " The weights belong to another answer list."
        )


def _write(form: dict[str, Any], pairs: Iterator[tuple[str, str]], handle: TextIO) -> None:
    if form["form"] == "csv":
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerows(pairs)
        return
    # One record a line: compact, and two files can be compared line by line.
    separator = "["
    for example_id, answer in pairs:
        value = int(example_id) if form["id_type"] == "integer" else example_id
        record = {form["answer"]: answer, form["id"]: value}
        handle.write(separator)
        handle.write(json.dumps(record, sort_keys=True, separators=(",", ":")))
        separator = ",\n"
    handle.write("[]\n" if separator == "[" else "]\n")


def _read(form: dict[str, Any], path: Path, shown: Path) -> Iterator[tuple[str, str]]:
    return _read_csv(path, shown) if form["form"] == "csv" else _read_json(form, path, shown)


def _read_csv(path: Path, shown: Path) -> Iterator[tuple[str, str]]:
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            for number, row in enumerate(csv.reader(handle), 1):
                # The official scorer crashes on a blank line and counts "id, True" as wrong.
                if len(row) != 2 or any(cell != cell.strip() for cell in row):
                    raise DataError(
                        f"{shown}:{number}: must be `identifier,answer` without blanks, is {row}."
                    )
                yield row[0], row[1]
    except OSError as error:
        raise explain_os_error(error, shown) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{shown}: not a CSV of UTF-8 text ({error}). Predict the split again.") from error


def _read_json(form: dict[str, Any], path: Path, shown: Path) -> Iterator[tuple[str, str]]:
    kind = int if form["id_type"] == "integer" else str
    for number, record in enumerate(list_records(path)):
        place = f"{shown}: record {number}"
        if not isinstance(record, dict) or record.keys() != {form["id"], form["answer"]}:
            raise DataError(f'{place}: must have "{form["id"]}" and "{form["answer"]}" and nothing else.')
        value, answer = record[form["id"]], record[form["answer"]]
        if type(value) is not kind:
            raise DataError(f'{place}: "{form["id"]}" must be {form["id_type"]}, is {value!r}.')
        if not isinstance(answer, str):
            raise DataError(f"{place}: the answer of question {value} must be text, is {answer!r:.60}.")
        yield str(value), answer


def _check_file(
    form: dict[str, Any], path: Path, shown: Path, examples: Columns, known: frozenset[str]
) -> None:
    """Reads the file back: every id once, in the examples' order, with an answer that may stand there."""
    ids = iter(examples.strings("id"))
    count = 0
    for example_id, answer in _read(form, path, shown):
        wanted = next(ids, None)
        if example_id != wanted:
            raise DataError(f"{shown}: id {example_id} stands where {wanted or 'the end'} should.")
        if answer not in known:
            raise DataError(
                f"{shown}: the answer {answer!r} of question {example_id} is not in the answer list."
            )
        check_answer(form, example_id, answer, shown)
        count += 1
    absent = next(ids, None)
    if absent is not None:
        raise DataError(
            f"{shown}: question {absent} has no answer ({count} of {len(examples)} were written)."
        )


def check_answer(form: dict[str, Any], example_id: str, answer: str, shown: Path) -> None:
    """Checks what a server asks of an answer by itself.

    Args:
        form: of the task's submission.
        example_id: of the question.
        answer: the answer.
        shown: the file, as messages name it.

    Raises:
        DataError: it may not stand there.
    """
    if "\t" in answer or "\n" in answer or "\r" in answer:
        raise DataError(f"{shown}: the answer {answer!r} of question {example_id} holds a tab or line end.")
    if not answer and not form.get("may_be_empty", False):
        raise DataError(
            f"{shown}: the answer of question {example_id} is empty. Take it from the answer list."
        )
    if form["form"] == "csv" and answer not in ("True", "False"):
        raise DataError(f"{shown}: the answer of {example_id} must be True or False, is {answer!r:.60}.")
