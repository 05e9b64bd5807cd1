"""Fine-tuning: one system on one task, from pretrained weights or from scratch, seeing or blind."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch

from lxmert.data.answers import AnswerMatch, match_labels, match_own, read_answer_table
from lxmert.data.regions import RegionSource
from lxmert.errors import SpecError, WeightsError
from lxmert.models.heads import TaskModel
from lxmert.models.weights import model_of, read_weights
from lxmert.state import JobState
from lxmert.training.building import OWN_HEAD, build_task_model, describe_model, start_from_pretrained
from lxmert.training.engine import resumable
from lxmert.training.finetune_data import FinetuneData, FinetuneInputs
from lxmert.training.guards import Tripwire
from lxmert.training.inference import label_score
from lxmert.training.job import TrainingJob
from lxmert.training.loop import Trainer
from lxmert.training.ranks import Ranks
from lxmert.training.task_loss import task_loss

log = logging.getLogger(__name__)


def finetune(
    spec: dict[str, Any],
    inputs: FinetuneInputs,
    state_folder: Path,
    device: torch.device,
    workers: int,
    ranks: Ranks | None = None,
    tensorboard: Path | None = None,
    data: FinetuneData | None = None,
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
    recipe, task, seed = spec["recipe"], spec["task"], spec["seed"]
    fingerprints = inputs.fingerprints([*task["train_on"], task["select_on"]])
    with ranks.one_by_one():
        state = JobState(state_folder, {"spec": resumable(spec), "inputs": fingerprints})
    data = data or FinetuneData.open(spec, inputs)
    regions, answers = data.regions, data.answers
    model = build_task_model(spec, data.words, regions.feature_width, len(answers))
    match = _start(model, inputs, answers, regions) if spec["init"] == "pretrained" else None
    model.to(device)
    loss = task_loss(recipe["loss"]["name"])
    trainer = Trainer(
        TrainingJob(
            task=loss.task(model),
            batches=data.batches,
            recipe=recipe,
            seed=seed,
            state=state,
            evaluate=lambda: label_score(
                model, data.held_out, len(answers), recipe["evaluate_batch"], device, loss
            ),
            device=device,
            workers=workers,
            tripwire=_tripwire(spec),
            ranks=ranks,
            tensorboard=tensorboard,
            began=began,
        )
    )
    log.info(
        "%s: %d training examples, %d held out, %d answers, %d steps",
        spec["run"],
        len(data.batches.examples),
        len(data.held_out),
        len(answers),
        trainer.total_steps,
    )
    trainer.run()
    described = describe_model(spec, data.words, regions, len(answers))
    return trainer, {
        **described,
        "answers": answers,
        "answer_rows": None if match is None else match.record(),
    }


def _tripwire(spec: dict[str, Any]) -> Tripwire | None:
    """The recipe's, for runs that should learn: neither blind nor from scratch, which may stay at chance."""
    armed = spec["vision"] and spec["init"] == "pretrained"
    return Tripwire.of(spec["recipe"].get("tripwire")) if armed else None


def _start(
    model: TaskModel, inputs: FinetuneInputs, answers: list[str], regions: RegionSource
) -> AnswerMatch | None:
    """Pretrained encoder, and the answer head's rows chosen by answer string."""
    if inputs.init is None:
        raise SpecError(
            'init is "pretrained", but no --init weights were given. Give them, or set init: scratch.'
        )
    tensors, meta = read_weights(inputs.init)
    described = model_of(meta, inputs.init)
    profile = described.get("profile", regions.profile)  # weights from elsewhere do not state it
    if profile != regions.profile:
        log.warning(
            "%s: was pretrained on features of profile %s, but those given are of %s; scores may suffer",
            inputs.init,
            profile["name"],
            regions.profile["name"],
        )
    own, fine_tuned = meta.get("answers"), any(name.startswith(OWN_HEAD) for name in tensors)
    if fine_tuned:
        known = match_own(answers, own) if isinstance(own, list) else None
        return start_from_pretrained(model, tensors, known, str(inputs.init), OWN_HEAD)
    match = None
    if inputs.pretrain_answers is not None and described.get("answers"):
        table = read_answer_table(inputs.pretrain_answers)
        if len(table) != described["answers"]:
            raise WeightsError(
                f"{inputs.init}: was pretrained with {described['answers']} answers, but"
                f" {inputs.pretrain_answers} has {len(table)}."
                " Give the table those weights were trained with."
            )
        match = match_labels(answers, table)
    return start_from_pretrained(model, tensors, match, str(inputs.init))
