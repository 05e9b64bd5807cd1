"""Official raw files of any size, as GQA and Visual Genome lay them out, for measuring what grows.

272 questions an image, as in GQA's submission split; 50 phrases an image, as in Visual Genome. Texts come
from a generator, so a million questions cost a hundred megabytes of disk and no memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxmert.data.wordpiece import SPECIAL_TOKENS
from lxmert.files import atomic_write_json

QUESTIONS_AN_IMAGE, PHRASES_AN_IMAGE = 272, 50
WORDS = [f"{first}{second}" for first in "bdfgklmnprstvz" for second in ("ado", "eri", "ima", "olu", "una")]
_LINES = 4096


def write_vocabulary(path: Path) -> None:
    """A vocab.txt that holds every word used here."""
    path.write_text("\n".join([*SPECIAL_TOKENS, "?", *WORDS]) + "\n")


def write_gqa(raw: Path, questions: int) -> list[Path]:
    """GQA's raw files with so many questions to submit and a few to train on; returns the listings.

    Args:
        raw: gets `gqa/*.json`, and `listings/*.json` beside them.
        questions: in the submission split, and in ten shards to train on.
    """
    (raw / "gqa").mkdir(parents=True)
    labelled = {
        f"t{number}": {
            **_question(number, f"n{number}"),
            "answer": WORDS[number % 9],
            "types": {"structural": "query", "semantic": "attr", "detailed": "x"},
        }
        for number in range(64)
    }
    for name in ("train_balanced", "val_balanced", "testdev_balanced", "testdev_all"):
        (raw / "gqa" / f"{name}_questions.json").write_text(json.dumps(labelled))
    pairs = (
        (f"{number:09d}", _question(number, f"n{number // QUESTIONS_AN_IMAGE}"))
        for number in range(questions)
    )
    _write_object(raw / "gqa" / "submission_all_questions.json", pairs)
    shards = raw / "gqa/train_all_questions"
    shards.mkdir()
    for shard in range(10):
        numbers = range(shard, questions, 10)
        answered = (
            (f"s{at:09d}", {**_question(at, f"n{at // QUESTIONS_AN_IMAGE}"), "answer": WORDS[at % 9]})
            for at in numbers
        )
        _write_object(shards / f"train_all_questions_{shard}.json", answered)
    images = max(64, -(-questions // QUESTIONS_AN_IMAGE))
    return [
        _write_listing(raw, name, [f"n{image}" for image in range(images)])
        for name in ("vg_gqa", "gqa_testdev")
    ]


def write_genome(raw: Path, sentences: int) -> list[Path]:
    """Raw files of the pretraining corpus with so many region phrases, and a few of all else; the listings.

    Args:
        raw: gets the folders of the publishers, and `listings`.
        sentences: region phrases.
    """
    for folder in ("coco/annotations", "vqa", "vg", "gqa"):
        (raw / folder).mkdir(parents=True)
    images = -(-sentences // PHRASES_AN_IMAGE)
    for subset, first in (("train2014", 1), ("val2014", 101)):
        ids = range(first, first + 20)
        captions = [{"id": image, "image_id": image, "caption": _text(image)} for image in ids]
        _dump(
            raw / f"coco/annotations/captions_{subset}.json",
            images=[{"id": image} for image in ids],
            annotations=captions,
        )
        questions = [{"question_id": image, "image_id": image, "question": _text(image)} for image in ids]
        given = [
            {"answer": WORDS[0], "answer_confidence": "yes", "answer_id": number} for number in range(1, 11)
        ]
        answers = [
            {"question_id": image, "image_id": image, "multiple_choice_answer": WORDS[0], "answers": given,
             "question_type": "what", "answer_type": "other"}
            for image in ids
        ]  # fmt: skip
        _dump(
            raw / f"vqa/v2_OpenEnded_mscoco_{subset}_questions.json", data_subtype=subset, questions=questions
        )
        _dump(raw / f"vqa/v2_mscoco_{subset}_annotations.json", data_subtype=subset, annotations=answers)
    atomic_write_json(raw / "vqa/minival_ids.json", [101, 102])
    genome = range(1000, 1000 + images)
    _write_list(raw / "vg/image_data.json", ({"image_id": image, "coco_id": None} for image in genome))
    _write_list(raw / "vg/region_descriptions.json", (_regions(image) for image in genome))
    pairs = [
        {"qa_id": image, "image_id": image, "question": _text(image), "answer": WORDS[0]}
        for image in genome[:20]
    ]
    _write_list(raw / "vg/question_answers.json", ({"id": pair["image_id"], "qas": [pair]} for pair in pairs))
    labelled = {f"t{image}": {**_question(image, str(image)), "answer": WORDS[0]} for image in genome[:20]}
    for name in ("train_balanced", "val_balanced"):
        (raw / "gqa" / f"{name}_questions.json").write_text(json.dumps(labelled))
    coco = {
        name: [f"COCO_{name.removeprefix('mscoco_')}_{image:012d}" for image in range(first, first + 20)]
        for name, first in (("mscoco_train2014", 1), ("mscoco_val2014", 101))
    }
    sets = {**coco, "vg_gqa": [str(image) for image in genome]}
    return [_write_listing(raw, name, stems) for name, stems in sets.items()]


def _question(number: int, image: str) -> dict[str, Any]:
    return {"imageId": image, "question": _text(number), "isBalanced": False}


def _regions(image: int) -> dict[str, Any]:
    phrases = range(image * PHRASES_AN_IMAGE, (image + 1) * PHRASES_AN_IMAGE)
    return {
        "id": image,
        "regions": [{"region_id": at, "image_id": image, "phrase": _text(at)} for at in phrases],
    }


def _text(number: int) -> str:
    """Five to nine words that differ from one number to the next."""
    return " ".join(WORDS[number * (step + 3) % len(WORDS)] for step in range(5 + number % 5)) + "?"


def _dump(path: Path, **value: Any) -> None:
    path.write_text(json.dumps(value))


def _write_object(path: Path, pairs: Iterator[tuple[str, Any]]) -> None:
    _write(path, "{}", (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in pairs))


def _write_list(path: Path, items: Iterator[Any]) -> None:
    _write(path, "[]", (json.dumps(item) for item in items))


def _write(path: Path, brackets: str, texts: Iterator[str]) -> None:
    with path.open("w") as handle:
        handle.write(brackets[0])
        for number, text in enumerate(texts):
            handle.write(f", {text}" if number else text)
        handle.write(brackets[1])


def _write_listing(raw: Path, image_set: str, stems: list[str]) -> Path:
    path = raw / "listings" / f"{image_set}.json"
    path.parent.mkdir(exist_ok=True)
    images = [{"id": stem, "file": f"{stem}.jpg"} for stem in stems]
    atomic_write_json(path, {"image_set": image_set, "folder": "", "subset": None, "images": images})
    return path
