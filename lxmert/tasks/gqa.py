"""GQA: raw questions to examples, and the scores of a prediction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxmert.data.raw_json import keyed_records
from lxmert.errors import DataError
from lxmert.tasks import split_spec
from lxmert.tasks.examples import Example
from lxmert.tasks.records import Place, field, raw_files


def build_answers(raw: Path, spec: dict[str, Any], min_count: int) -> list[str]:
    """All answers of the labelled questions, sorted; rare ones too, as LXMERT keeps them."""
    del min_count
    return sorted(
        {
            field(record, "answer", str, place)
            for split in spec["answers_from"]
            for place, record in read_questions(raw, spec["splits"][split]["questions"])
        }
    )


def read_examples(raw: Path, spec: dict[str, Any], split: str, answers: list[str]) -> Iterator[Example]:
    """Examples of a split in file order.

    Raises:
        DataError: a raw file is faulty.
    """
    part = split_spec(spec, split)
    index = {answer: number for number, answer in enumerate(answers)}
    for place, record in read_questions(raw, part["questions"]):
        labels: list[tuple[int, float]] = []
        if part["labelled"]:
            answer = field(record, "answer", str, place)
            labels = [(index[answer], 1.0)] if answer in index else []
        types = record.get("types")
        yield Example(
            id=str(place.id),
            text=field(record, "question", str, place),
            images=(f"{part['image_set']}/{field(record, 'imageId', str, place)}",),
            answers=labels,
            type=str(types.get("structural", "")) if isinstance(types, dict) else "",
            place=place,
        )


def read_questions(raw: Path, names: str | list[str]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """(place with the question id, record) over one file or its shards."""
    for path in raw_files(raw, names):
        for number, (question_id, record) in enumerate(keyed_records(path)):
            place = Place(path, number, question_id)
            if not isinstance(record, dict):
                raise DataError(
                    f"{place}: must be an object, is {type(record).__name__}. Fetch the file again."
                )
            yield place, record
