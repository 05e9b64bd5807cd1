"""transformers' config.json and our sizes, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lxmert.convert.describing import Description, check_size
from lxmert.convert.documents import Names
from lxmert.errors import WeightsError

_CLASSES = {
    "pretraining": "LxmertForPreTraining",
    "task": "LxmertForQuestionAnswering",
    "encoder": "LxmertModel",
}
# Settings that no shape shows; the others must agree with the tensors.
FREE = ("size/heads", "size/hidden_dropout", "size/attention_dropout", "size/initial_std")


def settings_of(config: Mapping[str, Any], names: Names, source: str) -> dict[str, Any]:
    """The settings a config.json states, by our names ("size/hidden", "answers").

    Raises:
        WeightsError: one is of a kind no model has.
    """
    settings = {ours: config[theirs] for theirs, ours in names.config.items() if theirs in config}
    size = {name[5:]: value for name, value in settings.items() if name.startswith("size/")}
    check_size(size, f"{source}/config.json", whole=False)
    for theirs, ours in names.config.items():
        value = settings.get(ours, 1)
        if not ours.startswith("size/") and (not isinstance(value, int) or value < 1):
            raise WeightsError(
                f"{source}/config.json: {theirs} must be a whole number above 0. Fetch the file again."
            )
    return settings


def check_config(found: Description, config: Mapping[str, Any], names: Names, source: str) -> Description:
    """The model with what only its configuration says.

    Raises:
        WeightsError: the configuration is of another model, or disagrees with the tensors.
    """
    for name, value in names.constants.items():
        if name in config and config[name] != value:
            raise WeightsError(
                f"{source}: config.json says {name} {config[name]!r}, but LXMERT is made with {value!r}"
                " alone. Give LXMERT's own configuration."
            )
    settings = settings_of(config, names, source)
    counts = found.counts()
    for theirs, ours in names.config.items():
        if ours not in settings or ours in FREE:
            continue
        shown = found.size[ours[5:]] if ours.startswith("size/") else counts[ours]
        if shown is not None and settings[ours] != shown:
            raise WeightsError(
                f"{source}: config.json says {theirs} {settings[ours]}, but the tensors show {shown}."
                " Give the configuration these weights were made with."
            )
    free = {name[5:]: settings[name] for name in FREE if name in settings}
    assumed = tuple(what for what in found.assumed if "heads" not in what or "heads" not in free)
    found = replace(found, size={**found.size, **free}, assumed=assumed)
    if found.kind != "task":
        return found
    # A task's weights have no object head, but were made from weights that had one.
    names_only = {name: settings.get(name) for name in ("object_classes", "attribute_classes")}
    return replace(found, **names_only)


def answers_of(config: Mapping[str, Any]) -> list[str] | None:
    """The answers a config.json lists, position = id; None if it lists none of its own."""
    labels = config.get("id2label")
    if not isinstance(labels, dict) or not labels:
        return None
    try:
        answers = [labels[str(number)] for number in range(len(labels))]
    except KeyError:
        return None
    if answers[0] == "LABEL_0" or not are_answers(answers):
        return None
    return answers


def are_answers(value: Any) -> bool:
    """Whether something is a list of texts that files can hold, each there once."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return False
    try:
        "".join(value).encode()
    except UnicodeEncodeError:
        return False
    return len(set(value)) == len(value)


def config_of(found: Description, names: Names, answers: list[str] | None) -> dict[str, Any]:
    """The config.json of a model.

    Raises:
        WeightsError: transformers has no such model.
    """
    absent = [name for name in ("masked_lm", "matching") if name not in found.objectives]
    if found.kind == "pretraining" and absent:
        raise WeightsError(
            f"{' and '.join(absent)}: the weights have no such head, and transformers' LxmertForPreTraining"
            " always has it. Convert with --encoder-only."
        )
    config: dict[str, Any] = {**names.constants, "architectures": [_CLASSES[found.kind]]}
    settings = {f"size/{name}": value for name, value in found.size.items()} | found.counts()
    for theirs, ours in names.config.items():
        if settings.get(ours) is not None:
            config[theirs] = settings[ours]
    if found.kind == "pretraining":
        config["task_obj_predict"] = "masked_region" in found.objectives
        config["task_qa"] = "qa" in found.objectives
    if answers is not None:
        config["id2label"] = {str(number): answer for number, answer in enumerate(answers)}
        config["label2id"] = {answer: number for number, answer in enumerate(answers)}
    return config
