"""A hand-made raw tree of all four tasks, small enough to know every row of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lxmert.data.wordpiece import train_vocabulary, write_vocabulary


def human(*answers: str) -> list[dict[str, Any]]:
    return [
        {"answer": answer, "answer_confidence": "yes", "answer_id": number}
        for number, answer in enumerate(answers, 1)
    ]


def vqa_files(subset: str, questions: list[tuple[int, int, str, str, list[str]]]) -> dict[str, Any]:
    """(question id, image id, question, majority answer, ten answers)."""
    head = {
        "info": {},
        "task_type": "Open-Ended",
        "data_type": "mscoco",
        "license": {},
        "data_subtype": subset,
    }
    records = [{"question_id": q, "image_id": i, "question": text} for q, i, text, _, _ in questions]
    annotations = [
        {
            "question_id": q,
            "image_id": i,
            "question_type": "what",
            "answer_type": "yes/no" if best in ("yes", "no") else "other",
            "multiple_choice_answer": best,
            "answers": human(*given),
        }
        for q, i, _, best, given in questions
    ]
    files = {f"vqa/v2_OpenEnded_mscoco_{subset}_questions.json": {**head, "questions": records}}
    if questions and questions[0][4]:
        files[f"vqa/v2_mscoco_{subset}_annotations.json"] = {**head, "annotations": annotations}
    return files


def gqa_question(
    image: str, text: str, answer: str | None, kind: str = "query", **more: Any
) -> dict[str, Any]:
    record: dict[str, Any] = {"imageId": image, "question": text, "isBalanced": True, **more}
    if answer is not None:
        record |= {
            "answer": answer,
            "types": {"structural": kind, "semantic": "attr", "detailed": "x"},
            "groups": {"global": "color" if kind == "query" else None, "local": "l"},
            "entailed": [],
            "semantic": [{"operation": "select", "dependencies": [], "argument": "kite (1)"}],
        }
    return record


def nlvr2_line(identifier: str, sentence: str, label: str) -> dict[str, Any]:
    pair = identifier.rpartition("-")[0]
    return {
        "identifier": identifier,
        "sentence": sentence,
        "label": label,
        "left_url": f"http://x/{pair}-l.jpg",
        "right_url": f"http://x/{pair}-r.jpg",
    }


RED = ["red"] * 7 + ["Red", "crimson", "maroon"]
YES = ["yes"] * 10


def raw_contents() -> dict[str, Any]:
    """Relative path -> JSON value, or list of lines for NLVR2."""
    files: dict[str, Any] = {}
    files |= vqa_files(
        "train2014",
        [
            (1001, 1, "What color is the kite?", "red", RED),
            (1002, 1, "Is it red?", "yes", YES),
            (2001, 2, "What color is the boat?", "red", ["red"] * 2 + ["blue"] * 3 + ["pink"] * 5),
            (2005, 2, "What is this?", "kite", ["kite"] * 10),
        ],
    )
    files |= vqa_files(
        "val2014",
        [
            (11001, 11, "Is there a kite?", "yes", ["yes"] * 9 + ["no"]),
            (12001, 12, "Is there a boat?", "no", ["no"] * 10),
            (13001, 13, "Which color?", "red", ["red"] * 4 + ["a kite"] * 6),
        ],
    )
    files |= vqa_files("test2015", [(91001, 91, "What color?", "", []), (92001, 92, "Is it?", "", [])])
    files["vqa/minival_ids.json"] = [11]
    for subset, ids in (("train2014", [1, 2]), ("val2014", [11, 12, 13])):
        files[f"coco/annotations/captions_{subset}.json"] = {
            "info": {},
            "images": [{"id": i, "file_name": f"COCO_{subset}_{i:012d}.jpg"} for i in ids],
            "licenses": [],
            "annotations": [
                {"id": 100 + i, "image_id": i, "caption": f"A red kite number {i}. "} for i in ids
            ],
        }
    # 501 and 502 are twins of COCO image 1: the later speaks for it. 503 is no COCO image.
    files["vg/image_data.json"] = [
        {"image_id": 501, "coco_id": 1, "url": "u/VG_100K/501.jpg"},
        {"image_id": 502, "coco_id": 1, "url": "u/VG_100K/502.jpg"},
        {"image_id": 503, "coco_id": None, "url": "u/VG_100K/503.jpg"},
        {"image_id": 504, "coco_id": 11, "url": "u/VG_100K/504.jpg"},
    ]
    files["vg/region_descriptions.json"] = [
        {"id": i, "regions": [{"region_id": i * 10, "image_id": i, "phrase": f"phrase of {i} "}]}
        for i in (501, 502, 503, 504)
    ]
    files["vg/region_descriptions.json"][2]["regions"].append(
        {"region_id": 5039, "image_id": 503, "phrase": " "}
    )
    files["vg/question_answers.json"] = [
        {
            "id": i,
            "qas": [{"qa_id": i * 10, "image_id": i, "question": "What is red?", "answer": "The kite."}],
        }
        for i in (501, 502, 503)
    ]
    files["gqa/train_balanced_questions.json"] = {
        "0001": gqa_question("502", "What color is the kite?", "red"),
        "0002": gqa_question("503", "Is there a kite?", "yes", "verify"),
    }
    files["gqa/val_balanced_questions.json"] = {"0003": gqa_question("503", "What color?", "blue")}
    files["gqa/testdev_balanced_questions.json"] = {
        "0101": gqa_question("n91", "What color?", "red"),
        "0102": gqa_question("n92", "Is it red?", "no", "verify"),
    }
    files["gqa/testdev_all_questions.json"] = {
        **files["gqa/testdev_balanced_questions.json"],
        "0103": {**gqa_question("n92", "Is it blue?", "no", "verify"), "isBalanced": False},
    }
    files["gqa/testdev_all_questions.json"]["0101"]["entailed"] = ["0101", "0103"]
    files["gqa/submission_all_questions.json"] = {
        "0201": gqa_question("n92", "Is it?", None),
        "0101": gqa_question("n91", "What color?", None),
        "0003": gqa_question("503", "What color?", None),
    }
    files["nlvr2/data/train.json"] = [
        nlvr2_line("train-1-0-0", "Two kites.", "True"),
        nlvr2_line("train-1-1-0", "Two kites.", "False"),
    ]
    files["nlvr2/data/dev.json"] = [
        nlvr2_line("dev-3-0-0", "A red kite.", "True"),
        nlvr2_line("dev-3-1-0", "A red kite.", "False"),
        nlvr2_line("dev-3-0-1", "No boat.", "False"),
    ]
    files["nlvr2/data/test1.json"] = [nlvr2_line("test1-9-0-0", "A kite.", "True")]
    return files


IMAGES = {
    "mscoco_train2014": ["COCO_train2014_000000000001", "COCO_train2014_000000000002"],
    "mscoco_val2014": [f"COCO_val2014_{i:012d}" for i in (11, 12, 13)],
    "mscoco_test2015": [f"COCO_test2015_{i:012d}" for i in (91, 92)],
    "vg_gqa": ["501", "502", "503", "504", "n91", "n92"],
    "gqa_testdev": ["n91", "n92"],
    "nlvr2_train": [f"train-1-{p}-img{i}" for p in (0, 1) for i in (0, 1)],
    "nlvr2_valid": [f"dev-3-{p}-img{i}" for p in (0, 1) for i in (0, 1)],
    "nlvr2_test": ["test1-9-0-img0", "test1-9-0-img1"],
}


class Tree(SimpleNamespace):
    """raw, listings, vocabulary and out: paths; `change` rewrites a raw file."""

    def change(self, name: str, edit: Callable[[Any], Any]) -> Path:
        value = raw_contents()[name]
        edit(value)
        return write(self.raw / name, value)

    def listing(self, image_set: str, ids: list[str], subset: int | None) -> None:
        value = {
            "image_set": image_set,
            "folder": "x",
            "subset": subset,
            "images": [{"id": i, "file": f"{i}.jpg"} for i in ids],
        }
        write(self.root / "images" / f"{image_set}.json", value)

    @property
    def listings(self) -> list[Path]:
        return sorted((self.root / "images").glob("*.json"))


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if "nlvr2" in path.parts and isinstance(value, list):
        path.write_text("".join(json.dumps(line) + "\n" for line in value))
    else:
        path.write_text(json.dumps(value))
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(
        root=tmp_path, raw=tmp_path / "raw", vocabulary=tmp_path / "vocab.txt", out=tmp_path / "examples"
    )
    for name, value in raw_contents().items():
        write(made.raw / name, value)
    for image_set, ids in IMAGES.items():
        made.listing(image_set, ids, None)
    texts = ["what color is the kite boat red yes no two kites a", "phrase of number is there it which this"]
    write_vocabulary(train_vocabulary(texts, 200, 1), made.vocabulary)
    return made
