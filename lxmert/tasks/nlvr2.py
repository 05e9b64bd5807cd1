"""NLVR2: raw lines to examples of two images, and the scores of a prediction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxmert.data.columns import Columns
from lxmert.errors import DataError, suggest
from lxmert.files import read_json_lines
from lxmert.metrics.nlvr2 import score_nlvr2
from lxmert.tasks import split_spec
from lxmert.tasks.examples import Example
from lxmert.tasks.records import Place, field


def build_answers(raw: Path, spec: dict[str, Any], min_count: int) -> list[str]:
    """The two labels; nothing is learnt from data."""
    del raw, min_count
    return sorted(spec["labels"], key=spec["labels"].__getitem__)


def read_examples(raw: Path, spec: dict[str, Any], split: str, answers: list[str]) -> Iterator[Example]:
    """Examples of a split in file order; left image first.

    Raises:
        DataError: a raw file is faulty.
    """
    part = split_spec(spec, split)
    index = {answer: number for number, answer in enumerate(answers)}
    path = raw / part["questions"]
    for line, record in read_json_lines(path):
        place = Place(path, line)
        identifier = field(record, "identifier", str, place)
        place = Place(path, line, identifier)
        labels: list[tuple[int, float]] = []
        if part["labelled"]:
            label = field(record, "label", str, place)
            if label not in index:
                raise DataError(f"{place}: unknown label {label!r}.{suggest(label, index)}")
            labels = [(index[label], 1.0)]
        pair = image_pair(identifier, place)
        yield Example(
            id=identifier,
            text=field(record, "sentence", str, place),
            images=(f"{part['image_set']}/{pair}-img0", f"{part['image_set']}/{pair}-img1"),
            answers=labels,
            type="",
            place=place,
        )


def image_pair(identifier: str, place: object = "") -> str:
    """The name both images of an example share: `split-set-pair`.

    Raises:
        DataError: the identifier has not four fields.
    """
    if identifier.count("-") != 3:
        raise DataError(f"{place}: an identifier is split-set-pair-sentence. Is it another file?")
    return identifier.rpartition("-")[0]


def score_official(
    raw: Path, part: dict[str, Any], examples: Columns, predictions: dict[str, str]
) -> dict[str, float]:
    """Official scores of a split, on the lines that its examples hold.

    Raises:
        DataError: predictions and examples do not name the same lines.
    """
    wanted = set(examples.strings("id"))
    return score_nlvr2(
        predictions, (line for line in _lines(raw / part["questions"]) if line["identifier"] in wanted)
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for number, record in read_json_lines(path):
        place = Place(path, number)
        image_pair(field(record, "identifier", str, place), place)
        field(record, "label", str, place)
        yield record
