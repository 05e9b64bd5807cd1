"""Your own questions: the records that `own-data` writes to examples, and the scores of a prediction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lxmert.data.answers import answer_vocabulary, soft_scores
from lxmert.data.columns import Columns
from lxmert.data.raw_json import list_records
from lxmert.metrics.checks import check_ids, mean
from lxmert.metrics.vqa import question_accuracy
from lxmert.tasks import split_spec
from lxmert.tasks.examples import Example
from lxmert.tasks.records import Place, field, numbered

# Ten people's answers are scored as VQA scores them.
PEOPLE = 10


def build_answers(raw: Path, spec: dict[str, Any], min_count: int) -> list[str]:
    """Answers that are the commonest one of `min_count` training questions or more.

    Raises:
        DataError: a file is faulty.
    """
    files = dict.fromkeys(raw / spec["splits"][split]["questions"] for split in spec["answers_from"])
    return vocabulary((answers for path in files for answers in _all_answers(path)), min_count)


def _all_answers(path: Path) -> Iterator[list[str]]:
    for place, record in numbered(list_records(path), path):
        yield field(record, "answers", list, place)


def vocabulary(questions: Iterator[list[str]], min_count: int) -> list[str]:
    """The answer vocabulary of what people answered, most frequent first."""
    return answer_vocabulary((best for answers in questions if (best := commonest(answers))), min_count)


def commonest(answers: Sequence[str]) -> str:
    """What most people answered; the first of equals."""
    return Counter(answers).most_common(1)[0][0]


def labels(answers: Sequence[str], index: dict[str, int]) -> list[tuple[int, float]]:
    """Soft labels: LXMERT's of ten people; else each answer's count against the commonest one's.

    Returns:
        (answer id, score in (0, 1]) in the order of ids; answers outside the vocabulary are left out.
    """
    if len(answers) == PEOPLE:
        return soft_scores(answers, index)
    counts = Counter(answers)
    most = max(counts.values())
    return sorted((index[answer], count / most) for answer, count in counts.items() if answer in index)


def accuracy(prediction: str, answers: Sequence[str]) -> float:
    """The score of an answer in [0, 1]: VQA's with ten people, else its count against the commonest's."""
    if len(answers) == PEOPLE:
        people = [{"answer": answer, "answer_id": number} for number, answer in enumerate(answers)]
        return question_accuracy(prediction, people)
    counts = Counter(answers)
    return counts[prediction] / max(counts.values())


def answer_type(answer: str) -> str:
    """VQA's three kinds: yes/no, number, other."""
    if answer.lower() in ("yes", "no"):
        return "yes/no"
    return "number" if answer.replace(".", "", 1).isdecimal() else "other"


def read_examples(raw: Path, spec: dict[str, Any], split: str, answers: list[str]) -> Iterator[Example]:
    """Examples of a split in the order of its file.

    Raises:
        DataError: a file is faulty.
    """
    part = split_spec(spec, split)
    index = {answer: number for number, answer in enumerate(answers)}
    path = raw / part["questions"]
    for place, record in numbered(list_records(path), path):
        place = Place(path, place.record, field(record, "id", str, place))
        given = field(record, "answers", list, place) if part["labelled"] else []
        yield Example(
            id=str(place.id),
            text=field(record, "question", str, place),
            images=tuple(f"{part['image_set']}/{name}" for name in field(record, "images", list, place)),
            answers=labels(given, index) if given else [],
            type=answer_type(commonest(given)) if given else "",
            place=place,
        )


def score_official(
    raw: Path, part: dict[str, Any], examples: Columns, predictions: dict[str, str]
) -> dict[str, float]:
    """`accuracy`, and `answer_type/<type>`; all in [0, 1].

    Raises:
        DataError: predictions and examples do not name the same ids.
    """
    wanted = set(examples.strings("id"))
    path = raw / part["questions"]
    scores: list[float] = []
    types: dict[str, list[float]] = {}
    asked: list[str] = []
    for place, record in numbered(list_records(path), path):
        number, given = field(record, "id", str, place), field(record, "answers", list, place)
        if number not in wanted:
            continue
        asked.append(number)
        if number in predictions:
            scores.append(accuracy(predictions[number], given))
            types.setdefault(f"answer_type/{answer_type(commonest(given))}", []).append(scores[-1])
    check_ids(predictions, asked, [number for number in asked if number not in predictions])
    return {"accuracy": mean(scores), **{name: mean(types[name]) for name in sorted(types)}}
