"""Fine-tuning: one system on one task, from pretrained weights or from scratch, seeing or blind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from lxmert.data.answers import match_answers, read_answer_table, read_answers
from lxmert.data.batching import Examples, FinetuneBatches
from lxmert.data.regions import RegionSource
from lxmert.data.wordpiece import read_vocabulary
from lxmert.errors import SpecError, WeightsError, suggest
from lxmert.files import fingerprint
from lxmert.models.heads import TaskModel
from lxmert.models.weights import read_weights
from lxmert.objectives import Loss
from lxmert.state import JobState
from lxmert.training.building import build_task_model, describe_model, start_from_pretrained
from lxmert.training.inference import label_score
from lxmert.training.loop import Trainer, TrainingJob

log = logging.getLogger(__name__)


@dataclass
class FinetuneInputs:
    """Files a fine-tuning run reads.

    Attributes:
        features: region stores.
        examples: folder of the task's examples: answers.json and one columns file a split.
        vocabulary: vocab.txt.
        init: pretrained weights; None starts from scratch.
        pretrain_answers: the answer table of those weights.
    """

    features: Sequence[Path]
    examples: Path
    vocabulary: Path
    init: Path | None
    pretrain_answers: Path | None

    def split(self, name: str) -> Path:
        """The columns file of a split."""
        return self.examples / f"{name}.safetensors"

    def fingerprints(self, splits: Sequence[str]) -> dict[str, Any]:
        """Size and checksum of everything the result depends on."""
        paths = [*self.features, self.vocabulary, self.examples / "answers.json", *map(self.split, splits)]
        paths += [path for path in (self.init, self.pretrain_answers) if path is not None]
        return {str(path): fingerprint(path) for path in paths}


def finetune(
    spec: dict[str, Any], inputs: FinetuneInputs, state_folder: Path, device: torch.device, workers: int
) -> tuple[Trainer, dict[str, Any]]:
    """Trains to the end and returns the trainer, with what its weights files say of the model.

    Raises:
        LxmertError: an input does not fit.
        Interrupted: a signal asked to stop; the state is saved.
    """
    began = time.monotonic()
    recipe, task, seed = spec["recipe"], spec["task"], spec["seed"]
    state = JobState(
        state_folder,
        {"spec": spec, "inputs": inputs.fingerprints([*task["train_on"], task["select_on"]])},
    )
    regions = RegionSource(inputs.features, recipe.get("cut"))
    seen = regions if spec["vision"] else None
    answers = read_answers(inputs.examples / "answers.json")
    train = Examples([inputs.split(name) for name in task["train_on"]], seen, regions.feature_width, True)
    held_out = Examples([inputs.split(task["select_on"])], seen, regions.feature_width)
    vocabulary = read_vocabulary(inputs.vocabulary)

    model = build_task_model(spec, len(vocabulary), regions.feature_width, len(answers))
    if spec["init"] == "pretrained":
        _start(model, inputs, answers)
    model.to(device)
    loss = task_loss(recipe["loss"]["name"])
    batches = FinetuneBatches(train, len(answers), recipe["global_batch"], seed)
    trainer = Trainer(
        TrainingJob(
            model=model,
            losses=lambda batch: {
                recipe["loss"]["name"]: loss(model(batch).float(), batch.targets["answer_targets"])
            },
            weights={},
            batches=batches,
            recipe=recipe,
            seed=seed,
            state=state,
            noise=model.encoder.noise,
            evaluate=lambda: label_score(
                model, held_out, len(answers), recipe["evaluate_batch"], device, loss
            ),
            device=device,
            workers=workers,
            began=began,
        )
    )
    log.info(
        "%s: %d training examples, %d held out, %d answers, %d steps",
        spec["run"],
        len(train),
        len(held_out),
        len(answers),
        trainer.total_steps,
    )
    trainer.run()
    return trainer, describe_model(spec, len(vocabulary), regions, len(answers))


def _start(model: TaskModel, inputs: FinetuneInputs, answers: list[str]) -> None:
    """Pretrained encoder, and the answer head's rows chosen by answer string."""
    if inputs.init is None:
        raise SpecError(
            'init is "pretrained", but no --init weights were given. Give them, or set init: scratch.'
        )
    tensors, meta = read_weights(inputs.init)
    rows = None
    if inputs.pretrain_answers is not None and meta["model"].get("answers"):
        table = read_answer_table(inputs.pretrain_answers)
        if len(table) != meta["model"]["answers"]:
            raise WeightsError(
                f"{inputs.init}: was pretrained with {meta['model']['answers']} answers, but"
                f" {inputs.pretrain_answers} has {len(table)}."
                " Give the table those weights were trained with."
            )
        rows = match_answers(answers, table)
        log.info("answer head: %d of %d answers start from pretrained rows", (rows >= 0).sum(), len(rows))
    start_from_pretrained(model, tensors, rows, str(inputs.init))


def task_loss(name: str) -> Callable[[torch.Tensor, torch.Tensor], Loss]:
    """The loss of a recipe, as a function of logits and soft targets, both float32 [B, K].

    Raises:
        SpecError: no such loss.
    """
    known = {"bce_times_answers": _bce_times_answers, "cross_entropy": _cross_entropy}
    if name not in known:
        raise SpecError(f'recipe/loss/name: unknown loss "{name}".{suggest(name, known)}')
    return known[name]


def _bce_times_answers(logits: torch.Tensor, targets: torch.Tensor) -> Loss:
    """Binary cross-entropy summed over answers, averaged over examples: the reference's mean x K."""
    total = functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    return Loss(total, torch.tensor(float(len(targets)), device=logits.device))


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> Loss:
    """Cross-entropy with the best-scored answer; examples without any are left out."""
    labels = torch.where(targets.amax(dim=1) > 0, targets.argmax(dim=1), -1)
    total = functional.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
    return Loss(total, (labels >= 0).sum().float())
