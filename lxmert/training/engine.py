"""How a run computes: the words of a recipe that change speed, memory and rounding, not what is learnt."""

from __future__ import annotations

import copy
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from lxmert import kernels
from lxmert.errors import SpecError
from lxmert.training.precision import double

log = logging.getLogger(__name__)

# Words a user may change half-way: unfinished work goes on under the new ones.
_HALF_WAY = ("micro_batch", "checkpoint_layers", "compile", "max_bad_batches", "tripwire")


@dataclass(frozen=True)
class Engine:
    """Words of a recipe.

    Attributes:
        micro_batch: examples a device holds at once; None: its whole share of the global batch.
        precision: fp32, bf16, fp16 or fp64.
        checkpoint_layers: recompute layers in the backward pass instead of keeping what they made.
        compile: run the encoder's layers through `torch.compile` in training.
        max_bad_batches: as many batches without a finite loss or gradient end the run.
    """

    micro_batch: int | None = None
    precision: str = "fp32"
    checkpoint_layers: bool = False
    compile: bool = False
    max_bad_batches: int = 3

    @classmethod
    def of(cls, recipe: Mapping[str, Any]) -> Engine:
        """The words that a recipe states, defaults for the others."""
        return cls(**{item.name: recipe[item.name] for item in fields(cls) if item.name in recipe})

    def prepare(self, model: torch.nn.Module, device: torch.device) -> None:
        """Sets up a model on its device.

        Raises:
            SpecError: `torch.compile` lacks what it needs on this device.
        """
        if self.precision == "fp64":
            double(model)
        encoder = getattr(model, "encoder", model)
        if self.checkpoint_layers:
            encoder.checkpoint_layers = True
        if self.compile:
            _require_compiler(device)
            encoder.compile_layers()
            log.info("torch.compile: the first steps take long, as they are compiled")


def resumable(spec: dict[str, Any]) -> dict[str, Any]:
    """The part of a job spec that unfinished work must agree on."""
    kept = copy.deepcopy(spec)
    for word in _HALF_WAY:
        kept["recipe"].pop(word, None)
    return kept


def _require_compiler(device: torch.device) -> None:
    if device.type == "cpu":
        compilers = (os.environ.get("CXX", ""), "g++", "clang++")
        if not any(name and shutil.which(name) for name in compilers):
            raise SpecError(
                "recipe/compile: torch.compile needs a C++ compiler on the CPU, and there is neither g++ nor"
                " clang++. Install one, name it in CXX, or set compile: false."
            )
        return
    if not kernels.has_triton():
        raise SpecError(
            f"recipe/compile: torch.compile needs Triton on {device}, which this PyTorch has not."
            " Install triton, or set compile: false."
        )
