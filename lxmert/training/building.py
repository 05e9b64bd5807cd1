"""Models from specs: the sizes a document gives, and the counts the inputs give."""

from __future__ import annotations

import importlib
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from lxmert.data.answers import AnswerMatch
from lxmert.data.regions import RegionSource
from lxmert.data.sampling import derive_seed
from lxmert.errors import SpecError
from lxmert.models.heads import ClassificationHead, TaskModel, build_head, warm_start_answers
from lxmert.models.layers import initialise
from lxmert.models.pretraining import PretrainingModel, build_pretraining
from lxmert.models.weights import load_tensors

log = logging.getLogger(__name__)


def resolve(reference: str, where: str) -> Any:
    """The object behind "module:object", imported when it is used.

    Raises:
        SpecError: there is no such module or object.
    """
    module, _, name = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SpecError(
            f'{where}: "{reference}" cannot be found ({error}). Write "module:object".'
        ) from error


def build_encoder(spec: dict[str, Any], vocabulary: int, feature_width: int) -> torch.nn.Module:
    """The system's encoder, not yet initialised.

    Args:
        spec: a job spec with `system` and `size`.
        vocabulary: entries of the vocabulary.
        feature_width: width of region features.
    """
    system = spec["system"]
    factory = resolve(system["encoder"], f"systems/{system['system']}/system.yaml: encoder")
    encoder: torch.nn.Module = factory(spec["size"], vocabulary, feature_width)
    return encoder


def build_task_model(spec: dict[str, Any], vocabulary: int, feature_width: int, answers: int) -> TaskModel:
    """Encoder and task head with the run's initial values."""
    encoder = build_encoder(spec, vocabulary, feature_width)
    model = TaskModel(encoder, _build_head(spec, answers))
    with torch.no_grad():
        initialise(model, derive_seed(spec.get("seed", 0), "init"), encoder.size.initial_std)
    return model


def _build_head(spec: dict[str, Any], answers: int) -> torch.nn.Module:
    """The head that the system's document names for this kind of task, or the default one."""
    system, kind, hidden = spec["system"], spec["task"]["head"], spec["size"]["hidden"]
    own = system.get("heads", {}).get(kind)
    if own is None:
        return build_head(kind, hidden, answers)
    head = resolve(own, f"systems/{system['system']}/system.yaml: heads/{kind}")
    built: torch.nn.Module = head(hidden, answers)
    return built


def build_pretraining_model(
    spec: dict[str, Any], vocabulary: int, regions: RegionSource, answers: int
) -> PretrainingModel:
    """Encoder and objectives with the run's initial values."""
    recipe = spec["recipe"]
    encoder = build_encoder(spec, vocabulary, regions.feature_width)
    model = build_pretraining(
        encoder,
        {name: weight for name, weight in recipe["objectives"].items() if weight is not None},
        regions.object_classes,
        regions.attribute_classes,
        answers,
        recipe["region_mask_rate"],
        spec["system"].get("objectives"),
    )
    with torch.no_grad():
        initialise(model, derive_seed(spec["seed"], "init"), encoder.size.initial_std)
    return model


# Heads whose rows may be chosen by answer: pretraining's, and that of fine-tuned weights.
PRETRAINED_HEAD, OWN_HEAD = "objectives.qa.head.", "head."
# Why a task's model does not take these as they are.
_NOT_TAKEN = {
    PRETRAINED_HEAD: "rows are chosen by answer, where the task has answers of its own",
    "objectives.": "heads of pretraining",
}


def start_from_pretrained(
    model: TaskModel,
    tensors: Mapping[str, torch.Tensor],
    match: AnswerMatch | None,
    source: str,
    rows_of: str = PRETRAINED_HEAD,
) -> AnswerMatch | None:
    """Puts pretrained or fine-tuned weights into a task model, and says what became of every tensor.

    Args:
        model: to be filled.
        tensors: the weights.
        match: row of their answer head for each answer; None where it is not known what its rows mean.
        source: where the weights are from, for messages.
        rows_of: beginning of the names of the head that `match` speaks of.

    Returns:
        The match, if the head took its rows.

    Raises:
        WeightsError: a tensor of the encoder is missing or has another shape.
    """
    head = {name.removeprefix(rows_of): value for name, value in tensors.items() if name.startswith(rows_of)}
    fills = match is not None and _is_alike(model.head, head)
    mine = "the task's head takes its rows by answer" if fills else "a task's head keeps its random values"
    given = {name: value for name, value in tensors.items() if not name.startswith(OWN_HEAD)}
    report = load_tensors(model, given, source, {**_NOT_TAKEN, OWN_HEAD: mine})
    # The model's own tensors have the same names.
    theirs = [f"{name} of the file" for name in tensors if name.startswith(OWN_HEAD)]
    report.leave_out(theirs, _why_not(fills, match))
    log.info("%s: %s", source, report)
    for why, count in Counter(report.reasons.values()).items():
        log.info("left out: %d tensors: %s", count, why)
    if match is None or not fills:
        log.info("answer head: starts from random values")
        return None
    assert isinstance(model.head, ClassificationHead)
    hidden = model.head.inner.in_features // model.head.inputs
    before = type(model.head)(hidden, len(head["outer.bias"]))
    load_tensors(before, head, source)
    warm_start_answers(model.head, before, match.rows.tolist())
    log.info("answer head: %s", match)
    return match


def _is_alike(head: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are of such a head, whatever their number of rows."""
    if not isinstance(head, ClassificationHead) or "inner.weight" not in tensors:
        return False
    return tensors["inner.weight"].shape == head.inner.weight.shape


def _why_not(fills: bool, match: AnswerMatch | None) -> str:
    """Why the head of fine-tuned weights is not taken as it is."""
    if fills:
        return "the head of fine-tuned weights: rows are chosen by answer"
    if match is None:
        return "the head of fine-tuned weights that do not list their answers (lxmert convert --answers)"
    return "the head of fine-tuned weights, of another kind than this task's"


def describe_model(
    spec: dict[str, Any], vocabulary: int, regions: RegionSource, answers: int
) -> dict[str, Any]:
    """What a weights file says of itself: the spec it was trained by, and the counts that shape it."""
    return {
        "spec": spec,
        "model": {
            "vocabulary": vocabulary,
            "feature_width": regions.feature_width,
            "profile": regions.profile,
            "object_classes": regions.object_classes,
            "attribute_classes": regions.attribute_classes,
            "answers": answers,
        },
    }
