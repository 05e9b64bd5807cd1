"""VQA and GQA as LXMERT published them: one list of records a split, labels soft and ready.

    {"question_id": 1, "img_id": "COCO_val2014_000000000042", "sent": "…?", "label": {"yes": 1}, …}

Scores are computed from the official files all the same, by the task's own module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lxmert.data.raw_json import list_records
from lxmert.errors import DataError
from lxmert.tasks import split_spec
from lxmert.tasks.examples import Example
from lxmert.tasks.records import Place, field, numbered


def build_answers(raw: Path, spec: dict[str, Any], min_count: int) -> list[str]:
    """Nothing: the labels of published examples are numbered by the published answer table.

    Raises:
        DataError: always, with the file to give.
    """
    del min_count
    table = raw / spec["answers"]
    raise DataError(
        f"{spec['task']}: published examples need the published answers. Give --answers-table {table}."
    )


def read_examples(raw: Path, spec: dict[str, Any], split: str, answers: list[str]) -> Iterator[Example]:
    """Examples of a split in file order.

    Raises:
        DataError: the file is faulty.
    """
    part = split_spec(spec, split)
    index = {answer: number for number, answer in enumerate(answers)}
    path = raw / part["questions"]
    for place, record in numbered(list_records(path), path):
        number = _id(record, place)
        place = Place(path, place.record, number)
        labels = label_scores(field(record, "label", dict, place), place) if part["labelled"] else {}
        yield Example(
            id=number,
            text=field(record, "sent", str, place),
            images=(f"{part['image_set']}/{field(record, 'img_id', str, place)}",),
            answers=sorted((index[answer], score) for answer, score in labels.items() if answer in index),
            type=str(record.get("answer_type", "")) if part["labelled"] else "",
            place=place,
        )


def _id(record: Any, place: Place) -> str:
    """VQA's ids are numbers, GQA's are text with leading zeros."""
    kind = str if isinstance(record, dict) and isinstance(record.get("question_id"), str) else int
    return str(field(record, "question_id", kind, place))


def label_scores(labels: Mapping[str, Any], place: Place) -> dict[str, float]:
    """Soft scores by answer.

    Raises:
        DataError: a score is no number in (0, 1].
    """
    for answer, score in labels.items():
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 < score <= 1:
            raise DataError(f"{place}: answer {answer!r} has the score {score!r}. Fetch the file again.")
    return {answer: float(score) for answer, score in labels.items()}
