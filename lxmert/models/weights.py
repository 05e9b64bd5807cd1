"""Weights on disk, and strict loading.

Files are safetensors: tensors by parameter name, a tied tensor once, and one JSON text under "lxmert"
in the header that says what the weights are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lxmert.errors import WeightsError
from lxmert.files import save_tensors
from lxmert.models.keys import KeyMap, from_ours, to_ours

_METADATA = "lxmert"
__all__ = [
    "KeyMap",
    "LoadReport",
    "from_ours",
    "load_tensors",
    "load_weights",
    "model_of",
    "model_tensors",
    "read_metadata",
    "read_weights",
    "save_weights",
    "to_ours",
]


@dataclass
class LoadReport:
    """What became of every tensor.

    Attributes:
        loaded: names of parameters that were filled.
        missing: parameters the file has no tensor for.
        unexpected: tensors no parameter takes.
        mismatched: "name [file shape] for [parameter shape]".
        allowed: missing or unexpected names the caller accounted for.
        reasons: for each of these, why.
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def leave_out(self, names: Sequence[str], why: str) -> None:
        """Accounts for tensors that the caller kept back."""
        self.allowed += names
        self.reasons |= dict.fromkeys(names, why)

    @property
    def complete(self) -> bool:
        """Whether everything is accounted for."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        counts = (
            f"{len(self.loaded)} matched, {len(self.missing)} missing, {len(self.unexpected)} unexpected, "
            f"{len(self.mismatched)} of another shape"
        )
        return f"{counts}, {len(self.allowed)} left out knowingly" if self.allowed else counts


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter once, under its first name, detached."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@torch.no_grad()
def load_tensors(
    model: nn.Module, tensors: Mapping[str, Tensor], source: str, allow: Mapping[str, str] | None = None
) -> LoadReport:
    """Copy tensors into a model's parameters; all or nothing.

    Args:
        model: what to fill.
        tensors: by our names.
        source: where they come from, for messages.
        allow: beginnings of names that may be missing from the file or unexpected in it, and why.

    Returns:
        The report; `complete` is true.

    Raises:
        WeightsError: a tensor is missing, unexpected or of another shape; nothing was changed.
    """
    report, allow = LoadReport(), allow or {}
    allowed = tuple(allow)
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
    report.reasons = {
        name: next(why for start, why in allow.items() if name.startswith(start)) for name in report.allowed
    }
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


def model_of(metadata: Mapping[str, Any], source: str | Path) -> dict[str, Any]:
    """What metadata say of the model: `vocabulary` and `feature_width`, and what else is known.

    Raises:
        WeightsError: they do not say it.
    """
    model: dict[str, Any] = metadata.get("model", {})
    for name in ("vocabulary", "feature_width"):
        if not isinstance(model.get(name), int):
            raise WeightsError(
                f"{source}: the header does not say the model's {name}; make the weights again."
            )
    return model


def load_weights(
    model: nn.Module, path: str | Path, allow: Mapping[str, str] | None = None
) -> tuple[LoadReport, dict[str, Any]]:
    """Fill a model from a file; see :func:`load_tensors`. Returns the report and the metadata."""
    tensors, metadata = read_weights(path)
    return load_tensors(model, tensors, str(path), allow), metadata


def _metadata(header: Mapping[str, str] | None, path: str | Path) -> dict[str, Any]:
    if not header or _METADATA not in header:
        raise WeightsError(
            f"{path}: no weights of ours (the header does not say what they are); convert them first."
        )
    try:
        value = json.loads(header[_METADATA])
    except ValueError as error:
        raise WeightsError(
            f"{path}: what the header says of the weights is no JSON; make it again."
        ) from error
    if not isinstance(value, dict) or not isinstance(value.get("model", {}), dict):
        raise WeightsError(f"{path}: the header does not say what weights of ours say; make it again.")
    return value


def _unreadable(path: str | Path, error: Exception) -> WeightsError:
    missing = isinstance(error, FileNotFoundError)
    what = "no such file" if missing else f"not a readable safetensors file ({error})"
    return WeightsError(f"{path}: {' '.join(what.split())}; make it again.")
