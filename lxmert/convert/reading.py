"""Foreign weights under our names, with everything in the file accounted for."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lxmert.convert.configs import FREE, answers_of, are_answers, check_config, settings_of
from lxmert.convert.describing import Description, check_size, describe, left_out
from lxmert.convert.documents import FORMS, Names, read_names
from lxmert.convert.opening import Opened, open_weights
from lxmert.errors import WeightsError, suggest
from lxmert.files import sha256_file
from lxmert.models.keys import KeyMap, Stored, stored_from_ours, stored_to_ours, usual_names
from lxmert.models.weights import LoadReport

log = logging.getLogger(__name__)

CARRIED = "lxmert_weights"  # header text that carries our metadata through a transformers folder
_OURS = ("encoder.embeddings.words.", "encoder.language_layers.", "objectives.", "head.inner.")
_TIED = "tied to the word embeddings, written once"


@dataclass
class Weights:
    """A model's tensors under our names.

    Attributes:
        stored: tensors by our name, not read yet.
        description: what they are a model of.
        form: whose names the file has.
        metadata: what a file of ours says of them.
        opened: the file.
        report: what became of every tensor.
    """

    stored: dict[str, Stored]
    description: Description
    form: str
    metadata: dict[str, Any]
    opened: Opened
    report: LoadReport


def read_any(path: str | Path, form: str | None = None, heads: int | None = None) -> Weights:
    """Opens weights of any form; their tensors are read later, one by one.

    Args:
        path: a file, or a folder of transformers.
        form: whose names it has; recognised if None.
        heads: attention heads, where the file does not say.

    Raises:
        WeightsError: not everything in the file is accounted for.
    """
    names = read_names()
    opened = open_weights(path)
    form = form or recognise(opened, names)
    if form not in FORMS:
        raise WeightsError(f"{path}: no form is called {form!r}.{suggest(form, FORMS)}")
    for name, stored in opened.stored.items():
        if not stored.dtype.is_floating_point and _is_wanted(name, names.keys):
            kind = str(stored.dtype).removeprefix("torch.")
            raise WeightsError(f"{opened.path}: {name}: holds {kind}; only floating-point weights convert.")
    if form == "ours":
        return _read_ours(opened, heads)
    return _read_foreign(opened, form, names, heads)


def _is_wanted(name: str, keys: KeyMap) -> bool:
    return keys.ignored(keys.normalise(name)) is None


def recognise(opened: Opened, names: Names) -> str:
    """Whose names a file has.

    Raises:
        WeightsError: nobody's we know.
    """
    if any(name.startswith(_OURS) for name in opened.stored):
        return "ours"
    usual = {name.removeprefix("module.") for name in opened.stored}
    if any(".visn_fc." in name or ".x_layers." in name for name in usual):
        bare = any(name.startswith(("encoder.", "lxmert.")) for name in usual)
        return "transformers" if bare else "reference"
    for root, whose in names.others.items():
        if any(name.startswith(root) for name in usual):
            raise WeightsError(
                f"{opened.path}: these are weights of {whose} (a name begins with {root!r}), not of LXMERT."
                " Give a file of LXMERT's."
            )
    if any(name.endswith("embeddings.word_embeddings.weight") for name in usual):
        raise WeightsError(
            f"{opened.path}: these are weights of BERT, which become LXMERT's only by pretraining."
            " Give them to `lxmert pretrain --init`."
        )
    first = next(iter(opened.stored), "none")
    raise WeightsError(
        f"{opened.path}: these are no LXMERT weights: none of {len(opened.stored)} tensors has a name of"
        f" LXMERT's, first: {first[:80]!a}. Check that it is the file you want."
    )


def _read_ours(opened: Opened, heads: int | None) -> Weights:
    metadata, source = _said(opened, "lxmert"), str(opened.path)
    size = metadata["spec"].get("size", {})
    check_size(size, source, whole=False)
    shapes = {name: stored.shape for name, stored in opened.stored.items()}
    found = describe(shapes, source, size.get("heads", heads))
    # Depths and widths as the tensors show them; `account` says what does not belong.
    shown = {name: value for name, value in found.size.items() if f"size/{name}" not in FREE}
    found = replace(found, size={**found.size, **size, **shown})
    report = account(found.expected(), opened.stored, source)
    return Weights(dict(opened.stored), found, "ours", metadata, opened, report)


def _read_foreign(opened: Opened, form: str, names: Names, heads: int | None) -> Weights:
    source, keys = str(opened.path), names.keys
    task_head = _is_task_head(opened.stored, keys)
    usual = usual_names(opened.stored, keys, task_head)
    shapes = {}
    for name, original in usual.items():
        found = keys.find(name)
        if found is not None and found[0].rows is None:
            shapes[found[1]] = opened.stored[original].shape
    config = opened.config if form == "transformers" else None
    folder = str(opened.folder or opened.path.parent)
    settings = {} if config is None else settings_of(config, names, folder)
    described = describe(shapes, source, settings.get("size/heads", heads))
    if config is not None:
        described = check_config(described, config, names, folder)
    expected = stored_from_ours(described.expected(), keys, "reference_pretraining")
    given = {name: opened.stored[original] for name, original in usual.items()}
    report = account(expected, given, source, _allowed(given, keys), usual)
    stored, _ = stored_to_ours(opened.stored, keys, task_head)
    metadata = _metadata(opened, form, described)
    return Weights(stored, described, form, metadata, opened, report)


def _is_task_head(stored: Iterable[str], keys: KeyMap) -> bool:
    """Whether `answer_head` is a fine-tuned head: transformers calls both so."""
    roots = {keys.normalise(name).split(".")[0] for name in stored}
    return "answer_head" in roots and not roots & {"cls", "obj_predict_head"}


def _allowed(given: Mapping[str, Stored], keys: KeyMap) -> dict[str, str]:
    """Names that may be missing or surplus, and why."""
    allowed = {name: why for name in given if (why := keys.ignored(name)) is not None}
    for rule in keys.rules:
        if rule.tied_with is not None:
            twins = [other.theirs for other in keys.rules if other.ours == rule.ours]
            if any(name in given for name in twins):
                allowed |= {name: _TIED for name in twins if name not in given}
    return allowed


def account(
    expected: Mapping[str, Stored],
    given: Mapping[str, Stored],
    source: str,
    allowed: Mapping[str, str] | None = None,
    shown: Mapping[str, str] | None = None,
) -> LoadReport:
    """What becomes of every tensor.

    Args:
        expected: tensors the model has.
        given: tensors the file has.
        source: the file, for messages.
        allowed: names that may be missing or surplus, and why.
        shown: names as they stand in the file.

    Raises:
        WeightsError: a tensor is missing, surplus or of another shape, with near matches.
    """
    allowed, shown, report = allowed or {}, shown or {}, LoadReport()
    for name, stored in expected.items():
        if name not in given:
            (report.allowed if name in allowed else report.missing).append(name)
        elif given[name].shape != stored.shape:
            report.mismatched.append(f"{name} {list(given[name].shape)} for {list(stored.shape)}")
        else:
            report.loaded.append(name)
    for name in given:
        if name not in expected:
            (report.allowed if name in allowed else report.unexpected).append(name)
    report.reasons = {name: allowed[name] for name in report.allowed}
    if not report.complete:
        raise WeightsError(f"{source}: {report}; {_faults(report, shown, list(expected))}")
    return report


def _faults(report: LoadReport, shown: Mapping[str, str], expected: list[str]) -> str:
    said = []
    if report.unexpected:
        name = report.unexpected[0]
        near = difflib.get_close_matches(name, report.missing or expected, n=1)
        hint = f" (near: {near[0]})" if near else ""
        said.append(f"unexpected: {shown.get(name, name)[:120]!a}{hint}")
    if report.missing:
        said.append(f"missing: {report.missing[0]}")
    if report.mismatched:
        said.append(f"of another shape: {report.mismatched[0]}")
    return ", ".join(said) + ". Nothing was written; give the weights as their program saved them."


def _said(opened: Opened, key: str) -> dict[str, Any]:
    """What a header says of the weights: at least an object "spec", an object "model", fit answers or none.

    Raises:
        WeightsError: it is no JSON, or says something else.
    """

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no number")

    try:
        value = json.loads(opened.header.get(key, "{}"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{opened.path}: the header's {key!r} is no JSON ({error}); make the file again."
        ) from error
    value = {"spec": {}, "model": {}} | (value if isinstance(value, dict) else {})
    parts = isinstance(value["spec"], dict) and isinstance(value["model"], dict)
    if not parts or not are_answers(value.get("answers", [])):
        raise WeightsError(
            f"{opened.path}: the header's {key!r} does not say what weights of ours say; make the file again."
        )
    return value


def _metadata(opened: Opened, form: str, described: Description) -> dict[str, Any]:
    """What our file will say: what was carried through transformers, else what the tensors show."""
    carried = _said(opened, CARRIED)
    if carried["model"] and _agrees(carried["model"], described):
        return carried
    metadata: dict[str, Any] = {
        "spec": {
            "kind": {"pretraining": "pretrain", "task": "finetune"}.get(described.kind, "encoder"),
            "system": {"system": "lxmert"},
            "size": described.size,
        },
        "model": described.counts(),
        "origin": {
            "file": opened.path.name,
            "form": form,
            "sha256": sha256_file(opened.path),
        },
    }
    answers = answers_of(opened.config or {})
    if answers is not None and len(answers) == described.answers:
        metadata["answers"] = answers
    return metadata


def _agrees(model: Mapping[str, Any], described: Description) -> bool:
    counts = {name: value for name, value in described.counts().items() if value is not None}
    return all(model.get(name) == value for name, value in counts.items())


def explain(weights: Weights) -> list[str]:
    """Lines that say what was found and what was not."""
    found, names = weights.description, read_names()
    size = found.size
    depth = f"{size['language_layers']}+{size['relation_layers']}+{size['cross_layers']} layers"
    counts = ", ".join(f"{value} {name}" for name, value in found.counts().items() if value is not None)
    lines = [
        f"{weights.opened.path}: {weights.form} form, {_kind(found)}, {size['hidden']} wide, {depth},"
        f" {counts}",
        f"{weights.opened.path}: {weights.report}",
    ]
    for name, why in weights.report.reasons.items():
        lines.append(f"left out: {name}: {why}")
    for group, why in left_out(found, names).items():
        lines.append(f"not in the file: {group}: {why}")
    lines += [f"assumed: {what}" for what in found.assumed]
    return lines


def _kind(found: Description) -> str:
    if found.kind == "task":
        return "a model with a head over image pairs" if found.pair else "a model with an answer head"
    return "a pretraining model" if found.kind == "pretraining" else "an encoder"
