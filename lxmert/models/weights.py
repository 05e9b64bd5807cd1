"""Weights on disk, and their names in other programs.

Files are safetensors: tensors by parameter name, a tied tensor once, and one JSON text under "lxmert"
in the header that says what the weights are. Names of other programs are translated by a key map, a
document (`systems/<system>/keys.yaml`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lxmert.errors import SpecError, WeightsError
from lxmert.files import save_tensors

_METADATA = "lxmert"
_THIRDS = {"query": 0, "key": 1, "value": 2}


@dataclass
class LoadReport:
    """What became of every tensor.

    Attributes:
        loaded: names of parameters that were filled.
        missing: parameters the file has no tensor for.
        unexpected: tensors no parameter takes.
        mismatched: "name [file shape] for [parameter shape]".
        allowed: missing or unexpected names the caller accounted for.
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything is accounted for."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        counts = (
            f"{len(self.loaded)} loaded, {len(self.missing)} missing, {len(self.unexpected)} unexpected, "
            f"{len(self.mismatched)} of another shape"
        )
        return f"{counts}, {len(self.allowed)} left out knowingly" if self.allowed else counts


@dataclass(frozen=True)
class KeyRule:
    """One line of a key map: a pattern of another program's names and where it goes.

    Attributes:
        theirs: name with {} for a number.
        ours: our name with {} for the same number.
        rows: which third of our tensor's rows it fills (0, 1, 2), or None for the whole.
        tied_with: for a second name of a tensor that another rule fills: our tensor that must be there
            for the second name to be written.
    """

    theirs: str
    ours: str
    rows: int | None = None
    tied_with: str | None = None


class KeyMap:
    """A key map document, ready to translate names and tensors both ways.

    Args:
        document: {names: {theirs: ours or {to, rows, tied_with}}, prefixes: [{from, to}], dialects: {name:
            {prefix: prefix}}}.
        shown: how messages name the document.

    Raises:
        SpecError: a rule that cannot be read.
    """

    def __init__(self, document: Mapping[str, Any], shown: str = "keys.yaml") -> None:
        self.shown = shown
        self.prefixes = [(item["from"], item["to"]) for item in document.get("prefixes", [])]
        self.dialects: dict[str, dict[str, str]] = dict(document.get("dialects", {}))
        self.rules = [self._rule(theirs, value) for theirs, value in document["names"].items()]
        self._patterns = [(_pattern(rule.theirs), rule) for rule in self.rules]
        self._ours: dict[str, list[KeyRule]] = {}
        for rule in self.rules:
            self._ours.setdefault(rule.ours, []).append(rule)

    def _rule(self, theirs: str, value: str | Mapping[str, Any]) -> KeyRule:
        if isinstance(value, str):
            return KeyRule(theirs, value)
        rows = value.get("rows")
        if "to" not in value or (rows is not None and rows not in _THIRDS):
            raise SpecError(f'{self.shown}: names/{theirs}: needs "to", and rows query, key or value.')
        third = None if rows is None else _THIRDS[rows]
        return KeyRule(theirs, value["to"], third, value.get("tied_with"))

    def normalise(self, name: str) -> str:
        """The name without what other writers put before it."""
        for before, after in self.prefixes:
            if name.startswith(before):
                name = after + name[len(before) :]
        return name

    def find(self, theirs: str) -> tuple[KeyRule, str] | None:
        """The rule for one of their (normalised) names, and our name; None if no rule fits."""
        for pattern, rule in self._patterns:
            match = pattern.fullmatch(theirs)
            if match:
                return rule, rule.ours.format(*match.groups())
        return None

    def theirs(self, ours: str) -> list[tuple[KeyRule, str]]:
        """Rules and their names for one of our names, in the order of the document."""
        general = re.sub(r"(?<=\.)\d+(?=\.)", "{}", ours)
        numbers = re.findall(r"(?<=\.)(\d+)(?=\.)", ours)
        return [(rule, rule.theirs.format(*numbers)) for rule in self._ours.get(general, [])]


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(r"(\d+)".join(re.escape(part) for part in name.split("{}")))


def to_ours(
    state: Mapping[str, Tensor], keys: KeyMap, task_head: bool = False
) -> tuple[dict[str, Tensor], list[str]]:
    """Another program's tensors under our names, bit for bit.

    Args:
        state: tensors by their name, in any spelling the key map's prefixes cover.
        keys: the key map.
        task_head: take `answer_head.*` for a fine-tuned head (the transformers spelling), not for the
            pretraining one.

    Returns:
        Tensors by our name, and the (original) names no rule covers.

    Raises:
        WeightsError: query, key or value of a layer is missing; a tied tensor differs from its twin;
            two names mean the same tensor.
    """
    whole: dict[str, Tensor] = {}
    thirds: dict[str, list[Tensor | None]] = {}
    tied: list[tuple[str, str, Tensor]] = []
    unknown: list[str] = []
    for original, tensor in state.items():
        name = keys.normalise(original)
        if task_head:
            name = name.removeprefix("answer_head.")
        found = keys.find(name)
        if found is None:
            unknown.append(original)
            continue
        rule, ours = found
        if rule.tied_with is not None:
            tied.append((original, ours, tensor))
        elif rule.rows is not None:
            parts = thirds.setdefault(ours, [None, None, None])
            if parts[rule.rows] is not None:
                raise WeightsError(f"{original}: given twice under different names; keep one of them.")
            parts[rule.rows] = tensor
        elif ours in whole:
            raise WeightsError(f"{original}: given twice under different names; keep one of them.")
        else:
            whole[ours] = tensor
    for ours, parts in thirds.items():
        absent = [name for name, row in _THIRDS.items() if parts[row] is None]
        if absent:
            raise WeightsError(f"{ours}: no tensor for {', '.join(absent)}; the weights are incomplete.")
        whole[ours] = torch.cat([part for part in parts if part is not None])
    for original, ours, tensor in tied:
        if ours not in whole:
            whole[ours] = tensor
        elif tensor.data_ptr() != whole[ours].data_ptr() and not torch.equal(tensor, whole[ours]):
            raise WeightsError(
                f"{original}: differs from the tensor it is tied to ({ours}); export the weights again."
            )
    return whole, unknown


def from_ours(state: Mapping[str, Tensor], keys: KeyMap, dialect: str) -> dict[str, Tensor]:
    """Our tensors under another program's names, bit for bit; the inverse of :func:`to_ours`.

    Thirds of stacked matrices are views; a tied tensor appears under both names.

    Args:
        state: tensors by our name.
        keys: the key map.
        dialect: one of the key map's dialects.

    Raises:
        WeightsError: a tensor has no name there.
    """
    prefixes = keys.dialects[dialect]
    named: dict[str, Tensor] = {}
    for ours, tensor in state.items():
        found = keys.theirs(ours)
        if not found:
            raise WeightsError(f"{ours}: has no name in {keys.shown}; add a line for it.")
        for rule, name in found:
            if rule.tied_with is not None and rule.tied_with not in state:
                continue
            for before, after in prefixes.items():
                if name.startswith(before):
                    name = after + name[len(before) :]
                    break
            if rule.rows is None:
                named[name] = tensor
            else:
                named[name] = tensor.chunk(3)[rule.rows]
    return named


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter once, under its first name, detached."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@torch.no_grad()
def load_tensors(
    model: nn.Module, tensors: Mapping[str, Tensor], source: str, allow: Iterable[str] = ()
) -> LoadReport:
    """Copy tensors into a model's parameters; all or nothing.

    Args:
        model: what to fill.
        tensors: by our names.
        source: where they come from, for messages.
        allow: beginnings of names that may be missing from the file or unexpected in it.

    Returns:
        The report; `complete` is true.

    Raises:
        WeightsError: a tensor is missing, unexpected or of another shape; nothing was changed.
    """
    report, allowed = LoadReport(), tuple(allow)
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if name not in tensors:
            (report.allowed if name.startswith(allowed) else report.missing).append(name)
        elif tensors[name].shape != parameter.shape:
            shapes = f"{list(tensors[name].shape)} for {list(parameter.shape)}"
            report.mismatched.append(f"{name} {shapes}")
        else:
            report.loaded.append(name)
    for name in tensors:
        if name not in parameters:
            (report.allowed if name.startswith(allowed) else report.unexpected).append(name)
    if not report.complete:
        raise WeightsError(f"{source}: does not fit the model: {_first_faults(report)}")
    for name in report.loaded:
        parameters[name].copy_(tensors[name])
    return report


def _first_faults(report: LoadReport) -> str:
    faults = []
    for what, names in (
        ("missing", report.missing),
        ("unexpected", report.unexpected),
        ("of another shape", report.mismatched),
    ):
        if names:
            faults.append(f"{len(names)} {what}, first: {names[0]}")
    return "; ".join(faults) + ". Choose the size and heads the weights were made for."


def save_weights(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write weights with what they are; the file appears whole or not at all.

    Args:
        path: a .safetensors file.
        tensors: by our names.
        metadata: anything JSON can hold; the same input gives the same bytes.

    Raises:
        DataError: the file cannot be written.
    """
    save_tensors(path, tensors, {_METADATA: json.dumps(metadata, sort_keys=True, allow_nan=False)})


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name (memory-mapped) and metadata of a file from :func:`save_weights`.

    Raises:
        WeightsError: the file is missing, damaged or not ours.
    """
    try:
        with safe_open(str(path), framework="pt") as handle:
            metadata = _metadata(handle.metadata(), path)
            return {name: handle.get_tensor(name) for name in handle.keys()}, metadata  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata alone; reads the header only.

    Raises:
        WeightsError: the file is missing, damaged or not ours.
    """
    try:
        with safe_open(str(path), framework="pt") as handle:
            return _metadata(handle.metadata(), path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def load_weights(
    model: nn.Module, path: str | Path, allow: Iterable[str] = ()
) -> tuple[LoadReport, dict[str, Any]]:
    """Fill a model from a file; see :func:`load_tensors`. Returns the report and the metadata."""
    tensors, metadata = read_weights(path)
    return load_tensors(model, tensors, str(path), allow), metadata


def _metadata(header: Mapping[str, str] | None, path: str | Path) -> dict[str, Any]:
    if not header or _METADATA not in header:
        raise WeightsError(
            f"{path}: no weights of ours (the header does not say what they are); convert them first."
        )
    value: dict[str, Any] = json.loads(header[_METADATA])
    return value


def _unreadable(path: str | Path, error: Exception) -> WeightsError:
    missing = isinstance(error, FileNotFoundError)
    what = "no such file" if missing else f"not a readable safetensors file ({error})"
    return WeightsError(f"{path}: {' '.join(what.split())}; make it again.")
