"""VQA v2: raw questions and annotations to examples, and the scores of a prediction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxmert.data.answers import answer_vocabulary, soft_scores
from lxmert.data.columns import Columns
from lxmert.data.raw_json import list_records
from lxmert.errors import DataError
from lxmert.files import read_json
from lxmert.metrics.vqa import normalise_answer, score_vqa
from lxmert.tasks import split_spec
from lxmert.tasks.examples import Example
from lxmert.tasks.records import Place, field, is_whole, join_by_id, numbered

# test-dev2015 is a part of test2015 and has no images of its own.
_SAME_IMAGES = {"test-dev2015": "test2015"}


def build_answers(raw: Path, spec: dict[str, Any], min_count: int) -> list[str]:
    """Answers that are the normalised majority answer of `min_count` questions or more.

    Source: the convention of the bottom-up-attention VQA code, adopted by LXMERT.
    """
    files = dict.fromkeys(raw / spec["splits"][split]["annotations"] for split in spec["answers_from"])
    return majority_vocabulary(list(files), min_count)


def majority_vocabulary(annotation_files: list[Path], min_count: int) -> list[str]:
    """Answer vocabulary of official annotation files, most frequent first."""
    found = (
        normalise_answer(field(record, "multiple_choice_answer", str, place))
        for path in annotation_files
        for place, record in numbered(list_records(path, "annotations"), path)
    )
    return answer_vocabulary(found, min_count)


def read_examples(raw: Path, spec: dict[str, Any], split: str, answers: list[str]) -> Iterator[Example]:
    """Examples of a split in the order of its question file.

    Raises:
        DataError: a raw file is faulty, or questions and annotations do not belong together.
    """
    part = split_spec(spec, split)
    index = {answer: number for number, answer in enumerate(answers)}
    wanted, unwanted = (read_image_ids(raw, part.get(name)) for name in ("images_among", "images_outside"))
    for place, question, annotation in read_questions(raw, part):
        image_id = field(question, "image_id", int, place)
        if (wanted is not None and image_id not in wanted) or (unwanted is not None and image_id in unwanted):
            continue
        number = field(question, "question_id", int, place)
        labels: list[tuple[int, float]] = []
        if annotation is not None:
            labels = soft_scores(human_answers(annotation, place), index)
        yield Example(
            id=str(number),
            text=field(question, "question", str, place),
            images=(image_key(part["image_set"], image_id),),
            answers=labels,
            type="" if annotation is None else field(annotation, "answer_type", str, place),
            place=place,
        )


def read_questions(raw: Path, part: dict[str, Any]) -> Iterator[tuple[Place, Any, Any]]:
    """(place, question, annotation or None) of each question, checked to belong together."""
    path = raw / part["questions"]
    questions = _questions(path, part["image_set"])
    if "annotations" not in part:
        yield from ((place, record, None) for place, record in questions)
        return
    other = raw / part["annotations"]
    annotations = numbered(list_records(other, "annotations"), other)
    for place, question, annotation in join_by_id(questions, annotations, _question_id):
        place = Place(place.path, place.record, question["question_id"])
        if field(annotation, "image_id", int, place) != field(question, "image_id", int, place):
            raise DataError(f"{place}: its annotation names another image. The files do not belong together.")
        yield place, question, annotation


def _question_id(record: Any, place: Place) -> object:
    return field(record, "question_id", int, place)


def _questions(path: Path, image_set: str) -> Iterator[tuple[Place, Any]]:
    header: dict[str, Any] = {}
    expected = image_set.removeprefix("mscoco_")
    for place, record in numbered(list_records(path, "questions", header), path):
        yield place, record
        if place.record == 0:
            _check_subset(path, header, expected)
    _check_subset(path, header, expected)


def _check_subset(path: Path, header: dict[str, Any], expected: str) -> None:
    found = header.get("data_subtype", expected)
    if _SAME_IMAGES.get(found, found) != expected:
        raise DataError(f"{path}: holds questions on {found}, not on {expected}. Put the right file there.")


def human_answers(annotation: dict[str, Any], place: Place) -> list[str]:
    """What people answered, as given."""
    return [field(record, "answer", str, place) for record in field(annotation, "answers", list, place)]


def read_image_ids(raw: Path, name: str | None) -> frozenset[int] | None:
    """The image ids in a JSON list, None where no file is named."""
    if name is None:
        return None
    ids = read_json(raw / name)
    if not isinstance(ids, list) or not all(map(is_whole, ids)):
        raise DataError(f"{raw / name}: must be a JSON list of COCO image ids.")
    return frozenset(ids)


def image_key(image_set: str, image_id: int) -> str:
    """The key of a COCO image, such as mscoco_val2014/COCO_val2014_000000000042."""
    return f"{image_set}/COCO_{image_set.removeprefix('mscoco_')}_{image_id:012d}"


def score_official(
    raw: Path, part: dict[str, Any], examples: Columns, predictions: dict[str, str]
) -> dict[str, float]:
    """Official accuracy of a split, on the questions that its examples hold.

    Raises:
        DataError: predictions and examples do not name the same questions.
    """
    wanted = {int(number) for number in examples.strings("id")}
    given = {_whole(number): answer for number, answer in predictions.items()}
    return score_vqa(given, _annotations(raw / part["annotations"], wanted))


def _annotations(path: Path, wanted: set[int]) -> Iterator[dict[str, Any]]:
    for place, record in numbered(list_records(path, "annotations"), path):
        if field(record, "question_id", int, place) in wanted:
            place = Place(path, place.record, record["question_id"])
            field(record, "answer_type", str, place), field(record, "question_type", str, place)
            if not human_answers(record, place):
                raise DataError(f"{place}: nobody answered it. Fetch the file again.")
            yield record


def _whole(number: str) -> int:
    if not number.isdecimal():
        raise DataError(f"{number}: a VQA question id is a whole number. Is it another task's file?")
    return int(number)
