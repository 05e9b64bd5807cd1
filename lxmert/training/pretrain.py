"""Pretraining: every objective on every sentence beside an image, right or wrong."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch

from lxmert.convert.bert import start_from_bert
from lxmert.errors import SpecError
from lxmert.models.pretraining import PretrainingModel
from lxmert.specs.documents import PACKAGE
from lxmert.state import JobState
from lxmert.training.building import build_pretraining_model, describe_model
from lxmert.training.engine import resumable
from lxmert.training.held_out import held_out_losses
from lxmert.training.job import TrainingJob
from lxmert.training.loop import Trainer
from lxmert.training.pretrain_data import PretrainData, PretrainInputs
from lxmert.training.ranks import Ranks
from lxmert.training.step import Task

log = logging.getLogger(__name__)


def pretrain(
    spec: dict[str, Any],
    inputs: PretrainInputs,
    state_folder: Path,
    device: torch.device,
    workers: int,
    ranks: Ranks | None = None,
    tensorboard: Path | None = None,
    data: PretrainData | None = None,
) -> tuple[Trainer, dict[str, Any]]:
    """Trains to the end and returns the trainer, with what its weights files say of the model.

    Args:
        spec: the job spec.
        inputs: files to read.
        state_folder: folder for unfinished work.
        device: where to compute.
        workers: processes that build batches.
        ranks: the processes that train together; None: this one alone.
        tensorboard: folder of scalars; None for none.
        data: the inputs, if they are open already.

    Raises:
        LxmertError: an input does not fit.
        Interrupted: a signal asked to stop; the state is saved.
    """
    began = time.monotonic()
    ranks = ranks or Ranks()
    recipe, seed = spec["recipe"], spec["seed"]
    fingerprints = inputs.fingerprints()
    with ranks.one_by_one():
        state = JobState(state_folder, {"spec": resumable(spec), "inputs": fingerprints})
    data = data or PretrainData.open(spec, inputs)
    model = build_pretraining_model(spec, data.words, data.regions, data.answers)
    _begin(model, spec, inputs.init)
    model.to(device)
    trainer = Trainer(
        TrainingJob(
            task=Task(model, model.encoder.noise, model, model.denominators, model.weights),
            batches=data.batches,
            recipe=recipe,
            seed=seed,
            state=state,
            evaluate=lambda: held_out_losses(model, data.held_out, device),
            device=device,
            workers=workers,
            evaluate_first=True,
            ranks=ranks,
            tensorboard=tensorboard,
            began=began,
        )
    )
    log.info("%d training sentences, %d steps", len(data.batches.columns), trainer.total_steps)
    trainer.run()
    return trainer, describe_model(spec, data.words, data.regions, data.answers)


def _begin(model: PretrainingModel, spec: dict[str, Any], init: Path | None) -> None:
    """Puts the weights in place that the recipe's `init` names."""
    wanted = spec["recipe"].get("init", "scratch")
    if (init is None) != (wanted == "scratch"):
        given = "no --init weights were given" if init is None else f"--init {init} was given"
        raise SpecError(f'recipe/init is "{wanted}", but {given}. Change one of them.')
    if init is not None:
        start_from_bert(model, init, PACKAGE / "systems" / spec["system"]["system"])
