"""A region store and the examples of a task, of any size, for measuring how training begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from many_questions import WORDS

from lxmert.data.columns import ColumnsWriter
from lxmert.data.region_record import StoreSchema
from lxmert.data.region_writer import RegionWriter
from lxmert.data.wordpiece import SPECIAL_TOKENS
from lxmert.types import Regions

BOXES, WIDTH, ANSWERS = 36, 2048, 3129
_CHUNK = 20_000
SIZE = {
    "hidden": 16, "heads": 2, "intermediate": 32,
    "language_layers": 1, "relation_layers": 1, "cross_layers": 1,
    "max_positions": 32, "token_types": 2, "hidden_dropout": 0.1, "attention_dropout": 0.1,
}  # fmt: skip
RECIPE = {
    "global_batch": 32, "max_epochs": 1, "max_steps": None, "clip_norm": 5.0, "max_tokens": 20,
    "evaluate_batch": 256,
    "optimizer": {"name": "bert_adam", "lr": 5e-5, "weight_decay": 0.01},
    "schedule": {"name": "linear", "warmup_fraction": 0.1},
    "loss": {"name": "bce_times_answers"}, "log_every_steps": 100, "save_every_seconds": 3600,
}  # fmt: skip


def image_name(number: int) -> str:
    """The id of an image, as COCO has them."""
    return f"COCO_train2014_{number:012d}"


def draw_regions(rng: np.random.Generator, width: int = WIDTH, boxes: int = BOXES) -> Regions:
    """Regions of one image: non-negative features, boxes inside 640 x 480."""
    corners = np.sort(rng.random((boxes, 2, 2), np.float32), axis=1) * np.array([640, 480], np.float32)
    scores = rng.random((3, boxes), np.float32)
    return Regions(
        boxes_px=corners.reshape(boxes, 4),
        features=np.maximum(rng.standard_normal((boxes, width), np.float32), 0),
        object_ids=rng.integers(0, 1600, boxes),
        object_scores=scores[0],
        attribute_ids=rng.integers(0, 400, boxes),
        attribute_scores=scores[1],
        selection_scores=scores[2],
        width=640,
        height=480,
    )


def write_store(path: Path, images: int, width: int = WIDTH) -> None:
    """A region store; images differ in their first region only, since drawing costs more than writing."""
    rng = np.random.default_rng(0)
    regions = draw_regions(rng, width)
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = StoreSchema(width, "float16", BOXES, 1600, 400, {"profile": "lxmert-36", "version": 1})
    with RegionWriter(path, schema) as writer:
        for image in range(images):
            regions.features[0] = image % 251
            writer.put(image_name(image), regions)
        writer.finish({})


def write_task(folder: Path, image_set: str, images: int, questions: int) -> None:
    """Examples of a task (`train` and a short `valid`), its answers and its vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = [*SPECIAL_TOKENS, *WORDS]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    (folder / "answers.json").write_text(json.dumps([f"answer {number}" for number in range(ANSWERS)]))
    for split, count in (("train", questions), ("valid", 64)):
        _write_examples(folder / f"{split}.safetensors", image_set, images, count, len(tokens))


def _write_examples(path: Path, image_set: str, images: int, count: int, vocabulary: int) -> None:
    rng = np.random.default_rng(1)
    kinds = {
        "id": "strings", "text": "strings", "type": "strings", "images": "strings", "image": "int32",
        "input_ids": "ragged int32", "answer_ids": "ragged int32", "answer_scores": "ragged float32",
    }  # fmt: skip
    with ColumnsWriter(path, kinds, {"task": "big", "split": path.stem, "count": count}) as writer:
        for begin in range(0, count, _CHUNK):
            rows = min(_CHUNK, count - begin)
            lengths = rng.integers(5, 13, rows)
            writer.append(
                id=[str(begin + row) for row in range(rows)],
                text=["what is on the table next to it?"] * rows,
                type=[""] * rows,
                image=rng.integers(0, images, rows),
                input_ids=(rng.integers(5, vocabulary, int(lengths.sum())), lengths),
                answer_ids=(rng.integers(0, ANSWERS, rows), np.ones(rows, np.int64)),
                answer_scores=(np.ones(rows, np.float32), np.ones(rows, np.int64)),
            )
        writer.append(images=[f"{image_set}/{image_name(image)}" for image in range(images)])


def task_job() -> dict[str, Any]:
    """A fine-tuning spec with a model so small that the data is what is measured."""
    return {
        "kind": "finetune", "run": "big", "corpus": "big", "seed": 3, "subset": None,
        "system": {"system": "lxmert", "encoder": "lxmert.models.lxmert:LxmertEncoder"}, "size": SIZE,
        "task": {"task": "big", "head": "classification", "train_on": ["train"], "select_on": "valid"},
        "recipe": RECIPE, "vision": True, "init": "scratch",
    }  # fmt: skip
