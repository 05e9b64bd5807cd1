"""Small models of each kind as files of ours, and what an original program would have saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lxmert.convert.converting import Wish, convert
from lxmert.models.heads import TaskModel, build_head
from lxmert.models.layers import fold_seed, initialise
from lxmert.models.lxmert import LxmertEncoder
from lxmert.models.pretraining import build_pretraining

SIZE = {
    "hidden": 24,
    "heads": 3,
    "intermediate": 40,
    "language_layers": 2,
    "relation_layers": 1,
    "cross_layers": 2,
    "max_positions": 20,
    "token_types": 2,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.1,
    "initial_std": 0.05,
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(45))]
COUNTS = {"vocabulary": len(WORDS), "feature_width": 12, "object_classes": 7, "attribute_classes": 5}
ANSWERS = {"pretraining": 11, "vqa": 9, "nlvr2": 2}
KINDS = ("pretraining", "vqa", "nlvr2")


def build(kind: str, seed: int = 3) -> torch.nn.Module:
    """A model with every number its own, norms and biases included."""
    encoder = LxmertEncoder(SIZE, COUNTS["vocabulary"], COUNTS["feature_width"])
    if kind == "pretraining":
        recipe: dict[str, Any] = {"masked_lm": 1.0, "matching": 1.0, "masked_region": {}, "qa": 1.0}
        model: torch.nn.Module = build_pretraining(
            encoder, recipe, COUNTS["object_classes"], COUNTS["attribute_classes"], ANSWERS[kind]
        )
    else:
        head = "pair_classification" if kind == "nlvr2" else "classification"
        model = TaskModel(encoder, build_head(head, SIZE["hidden"], ANSWERS[kind]))
    initialise(model, seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                generator = torch.Generator().manual_seed(fold_seed(seed, name) & 0xFFFFFFFF)
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def metadata(kind: str) -> dict[str, Any]:
    counts = dict(COUNTS, answers=ANSWERS[kind], profile={"name": "lxmert-36", "version": 1})
    return {"spec": {"kind": "finetune", "run": kind, "size": SIZE}, "model": counts}


def run(source: Path, out: Path, to: str = "ours", **wishes: Any) -> list[str]:
    """Converts and gives what was said."""
    return list(convert(source, out, Wish(to=to, **wishes)))


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        value.dtype == right[name].dtype and torch.equal(value, right[name]) for name, value in left.items()
    )
