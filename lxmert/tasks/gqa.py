"""GQA: raw questions to examples, and the scores of a prediction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from lxmert.data.columns import Columns
from lxmert.data.raw_json import keyed_records
from lxmert.errors import DataError
from lxmert.metrics.gqa import score_gqa
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


def score_official(
    raw: Path, part: dict[str, Any], examples: Columns, predictions: dict[str, str]
) -> dict[str, float]:
    """Official scores of a split, on the questions that its examples hold.

    Consistency is among them where the predictions answer all questions and not the balanced ones
    only, as those of `testdev_all` do; validity and plausibility where the choices are public.

    Raises:
        DataError: predictions and examples do not name the same questions.
    """
    wanted = set(examples.strings("id"))
    all_questions = part.get("all_questions")
    own = all_questions == part["questions"]
    complete = own or bool(all_questions) and len(predictions) > len(wanted)
    # Predictions that answer more than the balanced questions of the examples answer every question there is.
    held = wanted if own or not complete else None
    questions = _held(_scored(raw, part["all_questions"] if complete else part["questions"]), held)
    choices = None
    if "choices" in part and (raw / part["choices"]).is_file():
        # Of two million questions the tenth that bears on these scores.
        judged = _balanced(raw, part["questions"]) if complete else wanted
        choices = dict(_held(keyed_records(raw / part["choices"]), judged))
    if own and (examples.meta.get("dropped") or examples.meta.get("left_out")):
        # A question may entail some whose images the examples leave out.
        questions = (
            (number, {**record, "entailed": [other for other in record["entailed"] if other in wanted]})
            for number, record in questions
        )
    return score_gqa(predictions, questions, choices, consistency=complete)


def _held(
    records: Iterable[tuple[str, dict[str, Any]]], numbers: Collection[str] | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of these questions, or all."""
    return ((number, record) for number, record in records if numbers is None or number in numbers)


def _balanced(raw: Path, names: str | list[str]) -> set[str]:
    return {str(place.id) for place, record in read_questions(raw, names) if record.get("isBalanced") is True}


def left_out_scores(official: dict[str, float]) -> dict[str, str]:
    """Official scores that are not among these, and why."""
    why = {
        "consistency": "needs answers to all questions of the split, not to the balanced ones only",
        "validity": "needs val_choices.json, which is public for valid alone",
        "plausibility": "needs val_choices.json, which is public for valid alone",
    }
    missing = {name: text for name, text in why.items() if name not in official}
    return {
        **missing,
        "grounding": "scores maps of attention over a grid of image cells, which regions are not",
    }


_SCORED_FIELDS = {
    "answer": str,
    "question": str,
    "types": dict,
    "groups": dict,
    "semantic": list,
    "entailed": list,
}


def _scored(raw: Path, names: str | list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, record in read_questions(raw, names):
        for name, kind in _SCORED_FIELDS.items():
            field(record, name, kind, place)
        for name in ("structural", "semantic", "detailed"):
            field(record["types"], name, str, place)
        if not isinstance(record.get("isBalanced"), bool):
            raise DataError(f'{place}: "isBalanced" must be true or false. Fetch the file again.')
        yield str(place.id), record
