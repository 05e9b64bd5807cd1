"""Answers: canonical strings, soft scores, answer vocabularies and the joint table of pretraining."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.errors import DataError
from lxmert.files import atomic_write_json, read_json

_WORDS = {
    "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10", "grey": "gray",
}  # fmt: skip
# How often an answer was given by ten people -> its score: the mean, over the ten ways to leave
# one person out, of the official min(n / 3, 1).
_SCORES = (0.0, 0.3, 0.6, 0.9, 1.0)


def convert_answer(answer: str) -> str:
    """An answer as the joint table spells it.

    Lower case; no final full stop; no leading "a", "an", "the" (each at most once, in that
    order); number words up to ten as digits; grey as gray.

    Source: Tan & Bansal 2019, reference code (`convert_ans`).
    """
    answer = answer.lower()
    if answer.endswith("."):
        answer = answer[:-1].strip()
    for article in ("a ", "an ", "the "):
        if answer.startswith(article):
            answer = answer[len(article) :].strip()
    return _WORDS.get(answer, answer)


def soft_scores(answers: Iterable[str], index: Mapping[str, int]) -> list[tuple[int, float]]:
    """Labels of a question from what people answered, as given and not normalised.

    Args:
        answers: one string a person.
        index: answer vocabulary -> id; other answers give nothing.

    Returns:
        (answer id, score) in the order of ids; may be empty.
    """
    counts = Counter(answer for answer in answers if answer in index)
    return sorted((index[answer], _SCORES[min(count, 4)]) for answer, count in counts.items())


def answer_vocabulary(answers: Iterable[str], min_count: int) -> list[str]:
    """Answers given at least `min_count` times, most frequent first, then alphabetically."""
    counts = Counter(answers)
    kept = [answer for answer, count in counts.items() if count >= min_count]
    return sorted(kept, key=lambda answer: (-counts[answer], answer))


@dataclass(frozen=True)
class AnswerTable:
    """The joint answer table; an answer's id is its position.

    Attributes:
        answers: canonical strings.
        datasets: for each answer, the data sets it occurs in.
    """

    answers: list[str]
    datasets: list[list[str]]
    index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {answer: number for number, answer in enumerate(self.answers)})

    def __len__(self) -> int:
        return len(self.answers)

    def to_json(self) -> list[dict[str, Any]]:
        """The table in LXMERT's published form."""
        return [{"ans": a, "dsets": d} for a, d in zip(self.answers, self.datasets, strict=True)]

    def convert_labels(self, labels: Mapping[str, float]) -> list[tuple[int, float]]:
        """Labels by raw answer string as (row, score), answers outside the table dropped.

        Of two raw answers with one canonical form the last that had to be renamed wins; scores are
        not added. The reference does so, and the released weights were trained on it.
        """
        result = dict(labels)
        for answer in labels:
            canonical = convert_answer(answer)
            if canonical not in self.index:
                del result[answer]
            elif canonical != answer:
                result[canonical] = result.pop(answer)
        return sorted((self.index[answer], score) for answer, score in result.items())


def build_answer_table(counts: Mapping[str, Mapping[str, int]], min_count: int) -> AnswerTable:
    """The joint table of several data sets: answers that all of them together give often enough.

    Args:
        counts: data set -> canonical answer -> number of questions.
        min_count: how many questions an answer needs over all data sets.

    Returns:
        Alphabetical; the empty answer left out.
    """
    totals: Counter[str] = Counter()
    for answers in counts.values():
        totals.update(answers)
    kept = sorted(answer for answer, count in totals.items() if answer and count >= min_count)
    return AnswerTable(kept, [[name for name in counts if counts[name].get(answer)] for answer in kept])


def write_answer_table(table: AnswerTable, path: Path) -> None:
    """Writes the table in LXMERT's form."""
    atomic_write_json(path, table.to_json())


def read_answer_table(path: Path) -> AnswerTable:
    """A joint answer table, `[{"ans": ..., "dsets": [...]}]`.

    Raises:
        DataError: the file is something else, or names an answer twice.
    """
    records = read_json(path)
    if not isinstance(records, list):
        raise DataError(f'{path}: a joint answer table is a list of {{"ans", "dsets"}}. Give such a file.')
    for number, record in enumerate(records):
        if not isinstance(record, dict) or not isinstance(record.get("ans"), str):
            raise DataError(
                f'{path}: record {number} has no "ans" text. A joint answer table is needed here.'
            )
    table = AnswerTable([r["ans"] for r in records], [list(r.get("dsets", [])) for r in records])
    _check_distinct(table.answers, path)
    return table


def read_answers(path: Path) -> list[str]:
    """The answers of a task, position = id: a JSON list of strings.

    Raises:
        DataError: the file is something else, or names an answer twice.
    """
    answers = read_json(path)
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise DataError(
            f"{path}: the answers of a task are a JSON list of strings. Run `lxmert prepare` again."
        )
    _check_distinct(answers, path)
    return answers


def read_answer_list(path: Path) -> list[str]:
    """The answers a head was trained on, in any form they are published in, position = label id.

    A list of strings (a task's answers.json, `label2ans`), a joint table (`all_ans.json`), or an object
    from answer to id (`ans2label`).

    Raises:
        DataError: the file is something else, names an answer twice, or skips an id.
    """
    value = read_json(path)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return read_answer_table(path).answers
    if isinstance(value, list):
        return read_answers(path)
    if not isinstance(value, dict) or sorted(map(str, value.values())) != sorted(map(str, range(len(value)))):
        raise DataError(
            f"{path}: is neither a list of answers nor an object from each answer to its id 0, 1, 2, ...;"
            " give the published label2ans or ans2label file, or a task's answers.json."
        )
    return sorted(value, key=lambda answer: int(value[answer]))


def _check_distinct(answers: Sequence[str], path: Path) -> None:
    if len(set(answers)) != len(answers):
        twice = next(answer for answer, count in Counter(answers).items() if count > 1)
        raise DataError(f"{path}: answer {twice!r} stands twice. Build the file again.")


@dataclass(frozen=True)
class AnswerMatch:
    """Which answers of a task begin with a pretrained row.

    Attributes:
        rows: int64 [K], row of the joint table, -1 where there is none and the row begins at zero.
        missing: the answers without one, in the order of their ids.
    """

    rows: np.ndarray
    missing: list[str]

    def __str__(self) -> str:
        """One line: how many, and the first that begin at zero."""
        found = len(self.rows) - len(self.missing)
        line = f"{found} of {len(self.rows)} answers begin with pretrained rows"
        if not self.missing:
            return line
        shown = ", ".join(f'"{answer}"' for answer in self.missing[:5])
        more = f" and {len(self.missing) - 5} more" if len(self.missing) > 5 else ""
        return f"{line}, {len(self.missing)} at zero: {shown}{more}"

    def record(self) -> dict[str, Any]:
        """Counts and every answer that begins at zero, for metrics and metadata."""
        return {"pretrained": len(self.rows) - len(self.missing), "zeroed": self.missing}


def match_labels(labels: Sequence[str], table: AnswerTable) -> AnswerMatch:
    """Matches the answers of a task with the joint table by canonical string."""
    rows = match_answers(labels, table)
    return AnswerMatch(rows, [label for label, row in zip(labels, rows, strict=True) if row < 0])


def match_own(labels: Sequence[str], own: Sequence[str]) -> AnswerMatch:
    """Matches the answers of a task with those of fine-tuned weights: as they are, or by canonical string."""
    index = {convert_answer(answer): row for row, answer in reversed(list(enumerate(own)))}
    index |= {answer: row for row, answer in enumerate(own)}
    found = (index.get(label, index.get(convert_answer(label), -1)) for label in labels)
    rows = np.fromiter(found, dtype=np.int64, count=len(labels))
    return AnswerMatch(rows, [label for label, row in zip(labels, rows, strict=True) if row < 0])


def match_answers(labels: Sequence[str], table: AnswerTable) -> np.ndarray:
    """For each answer of a task, its row of the joint table: int64 [K], -1 where it has none.

    Used to begin a task's answer head with the pretrained rows; unmatched rows begin at zero.
    """
    rows = (table.index.get(convert_answer(label), -1) for label in labels)
    return np.fromiter(rows, dtype=np.int64, count=len(labels))
