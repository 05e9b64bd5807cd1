"""Runs: one system on one task, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]

# LXMERT's runs bear the task's name; those of other systems begin with the system's.
UNPREFIXED = "lxmert"
PRETRAIN = "pretrain"


def run_name(system: str, task: str) -> str:
    """The name of a system's own run of a task, or of its pretraining."""
    return task if system == UNPREFIXED else f"{system}_{task}"


@dataclass(frozen=True)
class Run:
    """One system on one task (or, with task `pretrain`, its pretraining)."""

    name: str
    task: str
    system: str
    recipe: Document
    init: str = "pretrained"  # or "scratch"; "finetuned" where published weights are taken as they are
    vision: bool = True
    weights: str | None = None  # the asset with these
    quantize: str = "none"  # how it answers, see lxmert.models.quantized
