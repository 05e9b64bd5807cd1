"""VQA v2 questions, annotations and complementary pairs in their official form."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from lxmert.world.humans import majority, ten_answers
from lxmert.world.plan import World, pick
from lxmert.world.raw import RawFolder
from lxmert.world.rng import Stream
from lxmert.world.vqa import questions_for

INFO = {
    "description": "Drawn scenes in the form of VQA v2.0",
    "url": "http://visualqa.org",
    "version": "2.0",
    "year": 2017,
    "contributor": "lxmert.world",
    "date_created": "2017-04-26 17:07:13",
}
LICENSE = {"url": "https://creativecommons.org/publicdomain/zero/1.0/", "name": "CC0 1.0"}

Record = dict[str, Any]

# Prefixes in the manner of the published list; the longest that fits is the question's type.
QUESTION_TYPES = (
    "are there",
    "are the",
    "are",
    "can you",
    "do you",
    "do",
    "does this",
    "does the",
    "how many",
    "how",
    "how many people are in",
    "is the",
    "is there",
    "is there a",
    "is this",
    "is",
    "what",
    "what color",
    "what color is",
    "what color is the",
    "what is",
    "what is on the",
    "what is the",
    "what is the color of the",
    "what kind of",
    "what number is",
    "which",
    "where",
    "was",
)


def question_type(text: str) -> str:
    """The longest known prefix of whole words, else "none of the above"."""
    lower = text.lower().rstrip("?").split()
    fits = [name for name in QUESTION_TYPES if lower[: len(name.split())] == name.split()]
    return max(fits, key=len) if fits else "none of the above"


def answer_type(answer: str) -> str:
    """yes/no, number or other, as the publisher sorts majority answers."""
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if answer.isdigit() else "other"


def split_records(world: World, split: str) -> tuple[list[Record], list[Record]]:
    """Questions and annotations of one split, in the same order."""
    seed, average = world.spec["seed"], world.spec["vqa"]["questions"]
    questions, annotations = [], []
    for image in world.coco[split]:
        stream = Stream(seed, "vqa", split, image.index)
        amount = max(1, average - 1 + stream.below(3)) if average else 0
        number = 0
        for question in questions_for(image.scene, stream, amount):
            number += 1 + (stream.below(3) == 0)
            question_id = image.id * 1000 + number
            questions.append({"image_id": image.id, "question": question.text, "question_id": question_id})
            answers = ten_answers(question, stream)
            most = majority(answers, question.answer)
            annotations.append(
                {
                    "question_type": question_type(question.text),
                    "multiple_choice_answer": most,
                    "answers": answers,
                    "image_id": image.id,
                    "answer_type": answer_type(most),
                    "question_id": question_id,
                }
            )
    return questions, annotations


def complementary_pairs(questions: list[Record], annotations: list[Record]) -> list[list[int]]:
    """Pairs of ids: same text, different images, different majority answers; each id at most once."""
    same_text: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for question, annotation in zip(questions, annotations, strict=True):
        row = (question["question_id"], question["image_id"], annotation["multiple_choice_answer"])
        same_text[question["question"]].append(row)
    pairs = []
    for rows in same_text.values():
        waiting: list[tuple[int, int, str]] = []
        for row in rows:
            mate = next((other for other in waiting if other[1] != row[1] and other[2] != row[2]), None)
            if mate is None:
                waiting.append(row)
            else:
                waiting.remove(mate)
                pairs.append([mate[0], row[0]])
    return sorted(pairs)


def _head(subset: str, task: bool) -> Record:
    head: Record = {"info": INFO}
    if task:
        head["task_type"] = "Open-Ended"
    return {**head, "data_type": "mscoco", "license": LICENSE, "data_subtype": subset}


def write_vqa(world: World, raw: RawFolder) -> None:
    """All VQA files; test-dev2015 is half of the test images."""
    for split in ("train2014", "val2014"):
        questions, annotations = split_records(world, split)
        name = f"mscoco_{split}"
        raw.put_json(
            f"vqa/v2_OpenEnded_{name}_questions.json",
            {**_head(split, True), "questions": questions},
            len(questions),
        )
        value = {**_head(split, False), "annotations": annotations}
        raw.put_json(f"vqa/v2_{name}_annotations.json", value, len(annotations))
        pairs = complementary_pairs(questions, annotations)
        raw.put_json(f"vqa/v2_{name}_complementary_pairs.json", pairs, len(pairs))
    questions, _ = split_records(world, "test2015")
    images = world.coco["test2015"]
    chosen = pick(images, (len(images) + 1) // 2, world.spec["seed"], "test-dev", lambda image: image.id)
    dev_ids = {image.id for image in chosen}
    some = [question for question in questions if question["image_id"] in dev_ids]
    for subset, rows in (("test2015", questions), ("test-dev2015", some)):
        raw.put_json(
            f"vqa/v2_OpenEnded_mscoco_{subset}_questions.json",
            {**_head(subset, True), "questions": rows},
            len(rows),
        )
