"""A task of a few dozen examples, small enough to train in a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lxmert.data.answers import build_answer_table, write_answer_table
from lxmert.data.columns import ColumnsWriter
from lxmert.data.region_record import StoreSchema
from lxmert.data.region_writer import RegionWriter
from lxmert.models.weights import model_tensors
from lxmert.training.finetune_data import FinetuneInputs
from lxmert.training.loop import Trainer
from lxmert.training.pretrain_data import PretrainInputs
from lxmert.types import Regions

CPU = torch.device("cpu")
SIZE = {
    "hidden": 16,
    "heads": 2,
    "intermediate": 32,
    "language_layers": 1,
    "relation_layers": 1,
    "cross_layers": 1,
    "max_positions": 16,
    "token_types": 2,
    "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnop"]
IMAGES = 12
RECIPE: dict[str, Any] = {
    "global_batch": 8,
    "max_epochs": 3,
    "max_steps": None,
    "optimizer": {"name": "bert_adam", "lr": 1e-3, "weight_decay": 0.01},
    "schedule": {"name": "linear", "warmup_fraction": 0.1},
    "clip_norm": 5.0,
    "max_tokens": 8,
    "evaluate_batch": 16,
    "loss": {"name": "bce_times_answers"},
    "log_every_steps": 2,
    "save_every_seconds": 3600,
}
PRETRAIN_RECIPE: dict[str, Any] = {
    **RECIPE,
    "word_mask_rate": 0.15,
    "region_mask_rate": 0.15,
    "mismatch_rate": 0.5,
    "objectives": {
        "masked_lm": 1.0,
        "matching": 1.0,
        "masked_region": {"object": 1.0, "attribute": 1.0, "feature": 1.0, "masked_only": False},
        "qa": 1.0,
    },
}


class TinyTask:
    """Files of a task whose answer follows from the first word; every second one is disputed."""

    def __init__(self, folder: Path, make: bool = True) -> None:
        self.folder = folder
        self.features = [folder / "features" / "left.lmdb", folder / "features" / "right.lmdb"]
        self.vocabulary = folder / "vocab.txt"
        self.pretrain_answers = folder / "pretrain" / "answers.json"
        if make:
            self._make()

    def _make(self) -> None:
        folder = self.folder
        self.vocabulary.write_text("\n".join(WORDS) + "\n")
        draw = np.random.default_rng(0)
        for path in self.features:
            self._store(path, draw)
        for task, pairs in (("single", False), ("pairs", True)):
            for split, count in (("train", 40), ("more", 11), ("valid", 13), ("hidden", 9), ("long", 400)):
                self._examples(
                    folder / task / f"{split}.safetensors",
                    count,
                    pairs,
                    split not in ("hidden", "long"),
                    draw,
                )
            (folder / task / "answers.json").write_text(json.dumps(["a", "b", "c"]))
        for split, count in (("train", 41), ("valid", 16)):
            self._examples(
                folder / "pretrain" / f"{split}.safetensors", count, False, True, draw, source=True
            )
        write_answer_table(
            build_answer_table({"vqa": {"a": 5, "b": 4}, "gqa": {"b": 9, "d": 2}}, 1), self.pretrain_answers
        )

    def other_store(self, path: Path, **changes: Any) -> Path:
        """Random features of the same images by another extraction."""
        self._store(path, np.random.default_rng(1), **changes)
        return path

    def _store(
        self,
        path: Path,
        draw: np.random.Generator,
        width: int = 6,
        version: int = 1,
        provenance: dict[str, Any] | None = None,
        images: int = IMAGES,
    ) -> None:
        schema = StoreSchema(width, "float16", 5, 4, 3, {"profile": "tiny", "version": version})
        path.parent.mkdir(parents=True, exist_ok=True)
        with RegionWriter(path, schema) as writer:
            for image in range(images):
                count = 5 if path.stem == "left" else 3 + image % 3
                corners = draw.random((count, 2)) * 40
                boxes = np.concatenate([corners, corners + 1 + draw.random((count, 2)) * 40], 1)
                scores = draw.random((3, count)).astype(np.float32)
                writer.put(
                    f"i{image}",
                    Regions(
                        boxes.astype(np.float32),
                        draw.random((count, width)).astype(np.float16),
                        draw.integers(0, 4, count),
                        scores[0],
                        draw.integers(0, 3, count),
                        scores[1],
                        scores[2],
                        width=100,
                        height=90,
                    ),
                )
            writer.finish(provenance or {})

    def _examples(
        self,
        path: Path,
        count: int,
        pairs: bool,
        labelled: bool,
        draw: np.random.Generator,
        source: bool = False,
    ) -> None:
        kinds = {
            "id": "strings",
            "text": "strings",
            "type": "strings",
            "images": "strings",
            "image": "int32[2]" if pairs else "int32",
            "input_ids": "ragged int32",
            "answer_ids": "ragged int32",
            "answer_scores": "ragged float32",
        }
        if source:
            kinds["source"] = "uint8"
        tokens = [np.array([2, *draw.integers(5, len(WORDS), draw.integers(1, 6)), 3]) for _ in range(count)]
        answers = [np.array([row[1] % 3, (row[1] + 1) % 3])[: 1 + len(row) % 2] for row in tokens]
        if not labelled:
            answers = [np.array([], np.int64)] * count
        path.parent.mkdir(parents=True, exist_ok=True)
        with ColumnsWriter(
            path, kinds, {"task": path.parent.name, "split": path.stem, "count": count}
        ) as writer:
            writer.append(
                id=[f"q{row}" for row in range(count)],
                text=["?"] * count,
                type=[""] * count,
                image=draw.integers(0, 2 * IMAGES, (count, 2) if pairs else count),
                input_ids=tokens,
                answer_ids=answers,
                answer_scores=[np.linspace(1.0, 0.3, len(row)) for row in answers],
            )
            writer.append(
                images=[f"{side}/i{image}" for side in ("left", "right") for image in range(IMAGES)]
            )
            if source:
                writer.append(source=np.zeros(count, np.uint8))

    def spec(self, head: str = "classification", **changes: Any) -> dict[str, Any]:
        """A fine-tuning spec."""
        return {
            "kind": "finetune",
            "run": "tiny",
            "corpus": "tiny",
            "seed": 3,
            "subset": None,
            "system": {"system": "lxmert", "encoder": "lxmert.models.lxmert:LxmertEncoder"},
            "size": SIZE,
            "task": {
                "task": "tiny",
                "head": head,
                "train_on": ["train", "more"],
                "select_on": "valid",
                "submission": {
                    "form": "json",
                    "id": "question_id",
                    "id_type": "string",
                    "answer": "answer",
                    "may_be_empty": True,
                },
            },
            "recipe": {**RECIPE, **changes.pop("recipe", {})},
            "vision": True,
            "init": "scratch",
            **changes,
        }

    def pretrain_spec(self, **recipe: Any) -> dict[str, Any]:
        """A pretraining spec."""
        spec = self.spec(run="tiny_pretrain", kind="pretrain")
        del spec["task"]
        spec["recipe"] = {**PRETRAIN_RECIPE, **recipe}
        return spec


def curve_spec(tiny: TinyTask, precision: str) -> dict[str, Any]:
    """A hundred steps of pretraining without dropout, each one logged."""
    recipe = {"max_epochs": 20, "log_every_steps": 1, "precision": precision, "clip_norm": 1.0}
    spec = tiny.pretrain_spec(**recipe)
    spec["size"] = {**SIZE, "hidden_dropout": 0.0, "attention_dropout": 0.0}
    return spec


def fault_spec(tiny: TinyTask) -> dict[str, Any]:
    """Two epochs of fine-tuning with dropout in float64, where the order of additions is not seen."""
    return tiny.spec(recipe={"max_epochs": 2, "precision": "fp64"})


def finetune_inputs(tiny: TinyTask, task: str = "single", init: Path | None = None) -> FinetuneInputs:
    """Files of a fine-tuning run."""
    answers = tiny.pretrain_answers if init else None
    return FinetuneInputs(tiny.features, tiny.folder / task, tiny.vocabulary, init, answers)


def pretrain_inputs(tiny: TinyTask) -> PretrainInputs:
    """Files of a pretraining run."""
    folder = tiny.folder / "pretrain"
    train, valid = folder / "train.safetensors", folder / "valid.safetensors"
    return PretrainInputs(tiny.features, train, valid, tiny.pretrain_answers, tiny.vocabulary)


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    """What a trainer's model has learnt so far."""
    return {name: value.clone() for name, value in model_tensors(trainer.job.model).items()}


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    """Two tables hold the same tensors, bit for bit."""
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def finetune_command(tiny: TinyTask, spec: dict[str, Any], out: Path) -> list[str]:
    """The verb with a spec, its outputs and its state in one folder."""
    verb = ["--threads", "1", "finetune", "--spec", json.dumps(spec)]
    verb += ["--features", *map(str, tiny.features), "--examples", str(tiny.folder / "single")]
    verb += ["--vocabulary", str(tiny.vocabulary), "--state", str(out / "state")]
    for name, file in (("weights", "w.safetensors"), ("last", "l.safetensors"), ("spec", "s.json")):
        verb += [f"--out-{name}", str(out / file)]
    return [*verb, "--out-metrics", str(out / "m.json"), "--out-history", str(out / "h.jsonl")]
