"""One line of a file of examples, checked by itself; every fault names the file and the line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxmert.errors import DataError, suggest
from lxmert.files import read_json_lines
from lxmert.metrics.vqa import normalise_answer

SPLITS = ("train", "valid", "test")
ANSWER_KEYS = ("answers", "answer", "label")
KEYS = ("id", "image", "images", "question", *ANSWER_KEYS, "boxes", "split")
BOX_KEYS = ("box", "label", "attributes")
# So many answers of different people make a question one of VQA's kind: normalised, with soft scores.
PEOPLE = 10


@dataclass(frozen=True, slots=True)
class Box:
    """A labelled box.

    Attributes:
        corners: x1, y1, x2, y2 in pixels of the image.
        label: what it shows.
        attributes: what is said of it.
    """

    corners: tuple[float, float, float, float]
    label: str
    attributes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file.

    Attributes:
        number: of the line, from 1.
        id: its own, or the line's number.
        images: names of one image or of two, as written.
        question: None where the line only brings boxes.
        answers: what people answered; None where nothing is given.
        boxes: of each image.
        split: None where the line names none.
    """

    number: int
    id: str
    images: tuple[str, ...]
    question: str | None
    answers: tuple[str, ...] | None
    boxes: tuple[tuple[Box, ...], ...]
    split: str | None


def read_lines(path: Path) -> list[Line]:
    """All lines of a file.

    Raises:
        DataError: a line is malformed, the file holds none, an id occurs twice, or some lines have one
            image and others two.
    """
    lines: list[Line] = []
    seen: dict[str, int] = {}
    for number, record in read_json_lines(path):
        line = parse_line(record, f"{path}:{number}", number)
        if line.question is not None:
            if line.id in seen:
                raise DataError(
                    f"{path}:{number}: id {line.id} stands in line {seen[line.id]} already."
                    " Give each question an id of its own, or none an id."
                )
            seen[line.id] = number
        if lines and len(line.images) != len(lines[0].images):
            raise DataError(
                f"{path}:{number}: has {_count(line)} where line {lines[0].number} has {_count(lines[0])}."
                " A file holds single images or pairs; put them in two files."
            )
        lines.append(line)
    if not lines:
        raise DataError(f"{path}: holds no line. Write one JSON object a line, with image and question.")
    return lines


def _count(line: Line) -> str:
    return "one image" if len(line.images) == 1 else "a pair of images"


def parse_line(record: dict[str, Any], place: str, number: int) -> Line:
    """A line from its JSON object.

    Args:
        record: the object.
        place: `file:line`, for messages.
        number: of the line.

    Raises:
        DataError: something in it is wrong; the first such thing.
    """
    for key in record:
        if key not in KEYS:
            raise DataError(f'{place}: unknown key "{key}".{suggest(key, KEYS)}')
    images = _images(record, place)
    question, answers = _question(record, place), _answers(record, place)
    boxes = _all_boxes(record, len(images), place)
    if question is None and not any(boxes):
        raise DataError(f'{place}: has neither "question" nor "boxes". Add one, or remove the line.')
    if question is None and answers is not None:
        raise DataError(f"{place}: has an answer and no question. Add the question.")
    split = record.get("split")
    if split is not None and split not in SPLITS:
        raise DataError(f'{place}: unknown split "{split}".{suggest(str(split), SPLITS)}')
    own_id = record.get("id", number)
    if not isinstance(own_id, str | int) or isinstance(own_id, bool) or own_id == "":
        raise DataError(f'{place}: "id" must be text or a whole number, is {own_id!r:.60}.')
    return Line(number, str(own_id), images, question, answers, boxes, split)


def _images(record: dict[str, Any], place: str) -> tuple[str, ...]:
    if ("image" in record) == ("images" in record):
        raise DataError(f'{place}: must have "image", or "images" with two names, and not both.')
    names = [record["image"]] if "image" in record else record["images"]
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise DataError(f"{place}: an image is named by text, its path in the image folder.")
    if "images" in record and len(names) != 2:
        raise DataError(f'{place}: "images" must name two, names {len(names)}. One goes under "image".')
    return tuple(names)


def _question(record: dict[str, Any], place: str) -> str | None:
    if "question" not in record:
        return None
    text = record["question"]
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{place}: the question is {'empty' if isinstance(text, str) else 'no text'}.")
    return text


def _answers(record: dict[str, Any], place: str) -> tuple[str, ...] | None:
    given = [key for key in ANSWER_KEYS if key in record]
    if not given:
        return None
    if len(given) > 1:
        raise DataError(f"{place}: has {' and '.join(given)}. Keep one of them.")
    key = given[0]
    values = record[key] if key == "answers" else [record[key]]
    if not isinstance(values, list) or not values:
        raise DataError(f'{place}: "answers" must be a list of what people answered, with one or more.')
    texts = []
    for value in values:
        if not isinstance(value, str | int | float) or (isinstance(value, str) and not value.strip()):
            raise DataError(f'{place}: "{key}" must be text with something in it, is {value!r:.60}.')
        texts.append(" ".join(str(value).split()))
    if len(texts) == PEOPLE:
        texts = [normalise_answer(text) for text in texts]
    return tuple(texts)


def _all_boxes(record: dict[str, Any], images: int, place: str) -> tuple[tuple[Box, ...], ...]:
    if "boxes" not in record:
        return ((),) * images
    value = record["boxes"]
    lists = [value] if images == 1 else value
    if (
        not isinstance(value, list)
        or len(lists) != images
        or not all(isinstance(item, list) for item in lists)
    ):
        form = "a list of boxes" if images == 1 else "two lists of boxes, one for each image"
        raise DataError(f'{place}: "boxes" must be {form}.')
    return tuple(tuple(_box(item, place) for item in items) for items in lists)


def _box(record: Any, place: str) -> Box:
    if not isinstance(record, dict):
        raise DataError(f'{place}: a box is {{"box": [x1, y1, x2, y2], "label": "..."}}, is {record!r:.60}.')
    for key in record:
        if key not in BOX_KEYS:
            raise DataError(f'{place}: a box has the unknown key "{key}".{suggest(key, BOX_KEYS)}')
    corners = record.get("box")
    numbers = isinstance(corners, list) and len(corners) == 4
    if not numbers or not all(isinstance(x, int | float) and not isinstance(x, bool) for x in corners):
        raise DataError(f'{place}: "box" must be [x1, y1, x2, y2] in pixels, is {corners!r:.60}.')
    x1, y1, x2, y2 = map(float, corners)
    if not (x1 < x2 and y1 < y2):
        raise DataError(f"{place}: box {corners} is inside out; write [left, top, right, bottom].")
    label, attributes = record.get("label"), record.get("attributes", [])
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"{place}: box {corners} has no label. Say what it shows.")
    if not isinstance(attributes, list) or not all(isinstance(a, str) and a.strip() for a in attributes):
        raise DataError(f"{place}: the attributes of box {corners} must be a list of texts.")
    return Box((x1, y1, x2, y2), label, tuple(attributes))
