"""Writes a small, plausible results tree: runs with curves and scores, a store, images, examples."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from lxmert.data.columns import ColumnsWriter
from lxmert.data.region_record import StoreSchema
from lxmert.data.region_writer import RegionWriter
from lxmert.types import Regions

OBJECTS = ["ball,sphere", "box", "cup"]
ATTRIBUTES = ["red", "blue", "green"]
PAINT = {"red": "#d43d3d", "blue": "#3566c9", "green": "#2f9b58"}
SPLITS = {"vqa": "minival", "gqa": "testdev", "nlvr2": "valid"}
IMAGE_SETS = {"vqa": "mscoco_val2014", "gqa": "gqa_testdev", "nlvr2": "nlvr2_valid"}
ANSWERS = {
    "vqa": ["red", "blue", "green", "yes", "no"],
    "gqa": ["blue", "red", "yes"],
    "nlvr2": ["False", "True"],
}
PROFILE = {"profile": "test-4", "version": 1}


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def make_tree(root: Path, images: int = 12) -> Path:
    """A tree with pretraining, three tasks with blind twins, VQA from scratch, and a detector."""
    random = np.random.default_rng(0)
    for task in SPLITS:
        make_images(root, IMAGE_SETS[task], images, random)
        make_examples(root / "examples" / task, task, images)
        for ending in ("", "_blind", *(("_scratch",) if task == "vqa" else ())):
            make_run(root, task, task + ending, images, random)
    make_pretraining(root / "results" / "pretrain", random)
    make_detector(root / "results" / "detector", root, random)
    for name, words in (("objects", OBJECTS), ("attributes", ATTRIBUTES)):
        (root / f"{name}_vocab.txt").write_text("\n".join(words) + "\n")
    return root


def make_images(root: Path, image_set: str, count: int, random: np.random.Generator) -> None:
    folder = root / "images" / image_set
    folder.mkdir(parents=True)
    schema = StoreSchema(8, "float16", 4, len(OBJECTS), len(ATTRIBUTES), PROFILE)
    names = [f"{image_set}_{number:03d}" for number in range(count)]
    store = root / "features" / f"{image_set}.lmdb"
    with RegionWriter(store, schema, root / "state" / image_set) as writer:
        for name in names:
            width, height = int(random.integers(120, 200)), int(random.integers(100, 180))
            picture = Image.new("RGB", (width, height), "#e9e4d8")
            draw = ImageDraw.Draw(picture)
            boxes = []
            for _ in range(4):
                x, y = random.integers(0, width - 50), random.integers(0, height - 50)
                side = int(random.integers(20, 50))
                boxes.append([x, y, x + side, y + side])
            attributes = random.integers(0, len(ATTRIBUTES), 4)
            for box, attribute in zip(boxes, attributes, strict=True):
                draw.rectangle([int(v) for v in box], fill=PAINT[ATTRIBUTES[attribute]], outline="black")
            picture.save(folder / f"{name}.png")
            writer.put(
                name,
                Regions(
                    boxes_px=np.array(boxes, np.float32),
                    features=random.normal(size=(4, 8)).astype(np.float16),
                    object_ids=random.integers(0, len(OBJECTS), 4),
                    object_scores=random.uniform(0.2, 1, 4).astype(np.float32),
                    attribute_ids=attributes.astype(np.int64),
                    attribute_scores=random.uniform(0.1, 1, 4).astype(np.float32),
                    selection_scores=np.ones(4, np.float32),
                    width=width,
                    height=height,
                ),
            )
        writer.finish({"weights": "none"})
    write_json(
        root / "listings" / f"{image_set}.json",
        {
            "image_set": image_set,
            "folder": str(folder),
            "subset": None,
            "images": [{"id": name, "file": f"{name}.png"} for name in names],
        },
    )


def make_examples(folder: Path, task: str, images: int) -> None:
    """Four questions an image; NLVR2 asks about an image and the next one."""
    folder.mkdir(parents=True)
    write_json(folder / "answers.json", ANSWERS[task])
    pairs = task == "nlvr2"
    kinds = {
        "id": "strings", "text": "strings", "type": "strings", "input_ids": "ragged int32",
        "answer_ids": "ragged int32", "answer_scores": "ragged float32",
        "image": "int32[2]" if pairs else "int32", "images": "strings",
    }  # fmt: skip
    count = 4 * images
    rows = np.arange(count) // 4
    labels = [[] if row % 17 == 16 else [row % len(ANSWERS[task])] for row in range(count)]
    scores = [[1.0 if row % 3 else 0.6] * len(label) for row, label in enumerate(labels)]
    with ColumnsWriter(
        folder / f"{SPLITS[task]}.safetensors", kinds, {"task": task, "split": SPLITS[task]}
    ) as writer:
        writer.append(
            id=[example_id(task, row) for row in range(count)],
            text=[
                f"What colour is the <ball> beside the {OBJECTS[row % 3][:3]} & number {row}?"
                for row in range(count)
            ],
            type=["other"] * count,
            input_ids=[[1, 2]] * count,
            answer_ids=labels,
            answer_scores=scores,
            image=np.stack([rows, (rows + 1) % images], 1) if pairs else rows,
            images=[f"{IMAGE_SETS[task]}/{IMAGE_SETS[task]}_{number:03d}" for number in range(images)],
        )
        writer.meta |= {"count": count, "answers": len(ANSWERS[task]), "labelled": True}


def example_id(task: str, row: int) -> str:
    return f"dev-{row // 4}-{row % 4}-0" if task == "nlvr2" else str(1000 + row)


def make_run(root: Path, task: str, name: str, images: int, random: np.random.Generator) -> None:
    folder, split = root / "results" / name, SPLITS[task]
    folder.mkdir(parents=True)
    skill = 0.45 if name.endswith("_blind") else 0.8
    write_json(
        folder / "spec.json",
        {"kind": "finetune", "run": name, "corpus": "sample", "seed": 9595, "subset": None,
         "task": {"task": task}, "vision": not name.endswith("_blind"),
         "init": "scratch" if name.endswith("_scratch") else "pretrained"},
    )  # fmt: skip
    make_history(folder / "history.jsonl", ["bce_times_answers"], skill, random)
    write_json(
        folder / "metrics.json",
        {"run": name, "split": split, "score": skill, "best_step": 500, "steps": 600, "evaluations": [],
         "seconds": 61.25},
    )  # fmt: skip
    answers = ANSWERS[task]
    given = [row % len(answers) if random.random() < skill else int(random.integers(len(answers)))
             for row in range(4 * images)]  # fmt: skip
    if task == "nlvr2":
        with open(folder / f"{split}_predict.csv", "w", newline="") as handle:
            csv.writer(handle).writerows((example_id(task, row), answers[a]) for row, a in enumerate(given))
    elif task == "vqa":
        records = [
            {"question_id": int(example_id(task, row)), "answer": answers[a]} for row, a in enumerate(given)
        ]
        write_json(folder / f"{split}_predict.json", records)
    else:
        records = [
            {"questionId": example_id(task, row), "prediction": answers[a]} for row, a in enumerate(given)
        ]
        write_json(folder / f"{split}_predict.json", records)
    details = {
        "vqa": {"answer_type/yes/no": 0.81, "answer_type/other": 0.7, "question_type/what": 0.5},
        "gqa": {"binary": 0.75, "open": 0.71, "structural/query": 0.7},
        "nlvr2": {"consistency": 0.41},
    }[task]
    write_json(
        folder / f"{split}_score.json",
        {"task": task, "split": split, "count": 4 * images, "official": {"accuracy": skill, **details},
         "metrics": {"label_score": skill, "oracle": 1.0},
         "chance": {"answer": answers[0], "official": {"accuracy": 0.25}, "metrics": {"label_score": 0.24}}},
    )  # fmt: skip


def make_history(path: Path, losses: list[str], skill: float, random: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pretraining = len(losses) > 1
    lines = []
    for step in range(0, 601, 25):
        share = np.exp(-step / 200)
        values = {name: float((3 + place) * (0.3 + 0.7 * share) + random.normal() * 0.1)
                  for place, name in enumerate(losses)}  # fmt: skip
        if step:
            lines.append({"step": step, "epoch": step / 100, "loss": sum(values.values()), "losses": values,
                          "lr": 1e-4, "examples_per_second": float(900 + 50 * random.normal()),
                          "data_seconds": 0.01, "memory_mb": 500})  # fmt: skip
        if step % 100 == 0 and (step or pretraining):
            figures = ({"loss": sum(values.values()), **values} if pretraining
                       else {"score": skill * (1 - share), "held_out_loss": 2.0})  # fmt: skip
            lines.append({"evaluation": True, "step": step, "epoch": step / 100, **figures})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def make_pretraining(folder: Path, random: np.random.Generator) -> None:
    names = ["masked_lm", "matching", "object", "attribute", "feature", "qa"]
    make_history(folder / "history.jsonl", names, 0, random)
    write_json(
        folder / "metrics.json",
        {"run": "pretrain", "split": "valid", "steps": 600, "evaluations": [], "seconds": 300},
    )


def make_detector(folder: Path, root: Path, random: np.random.Generator) -> None:
    def table(names: list[str]) -> dict[str, Any]:
        rows = [{"name": name.partition(",")[0], "ap": float(random.uniform(0.4, 0.95)), "boxes": 40 + place}
                for place, name in enumerate(names)]  # fmt: skip
        return {
            "map": 0.7,
            "weighted_map": 0.72,
            "classes": [*rows, {"name": "never", "ap": 0.0, "boxes": 0}],
        }

    found = {"split": "val", "images": 40, "objects": table(OBJECTS), "attributes": table(ATTRIBUTES),
             "attribute_accuracy": 0.88, "attribute_accuracy_boxes": 90}  # fmt: skip
    write_json(folder / "val_score.json", found)
    write_json(folder / "metrics.json", {**found, "steps": 200, "parameters": 1000, "losses": {"loss": 1.0}})
    names = ["rpn_class", "rpn_box", "class", "box", "attribute"]
    lines = []
    for step in range(10, 201, 10):
        losses = {name: float(np.exp(-step / 80) + 0.1) for name in [*names, "loss"]}
        lines.append({"step": step, "examples": step, "epoch": 1.0, "lr": 0.1, **losses})
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "panels").mkdir()
    source = root / "images" / "mscoco_val2014"
    for number, path in enumerate(sorted(source.iterdir())[:3]):
        Image.open(path).resize((480, 420)).save(folder / "panels" / f"val_{number}.png")


def report_arguments(root: Path) -> list[str]:
    """Everything there is, as the rule passes it."""
    return [
        "--results", str(root / "results"), "--examples", *(str(root / "examples" / task) for task in SPLITS),
        "--listings", *(str(root / "listings" / f"{name}.json") for name in IMAGE_SETS.values()),
        "--features", *(str(root / "features" / f"{name}.lmdb") for name in IMAGE_SETS.values()),
        "--objects", str(root / "objects_vocab.txt"), "--attributes", str(root / "attributes_vocab.txt"),
        "--out", str(root / "report" / "index.html"), "--out-table", str(root / "report" / "summary.tsv"),
        "--out-text", str(root / "report" / "summary.txt"), "--out-figures", str(root / "report" / "figures"),
    ]  # fmt: skip
