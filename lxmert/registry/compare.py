"""Our scores beside the values on record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxmert.errors import DataError
from lxmert.files import read_json
from lxmert.registry.entries import Entry
from lxmert.specs.jobs import job_spec_text
from lxmert.tasks.submission import meta_path

# What became of an entry.
AGREES, OUTSIDE, OTHER_SETTINGS, NOT_RUN = "agrees", "outside", "other settings", "not run"


@dataclass(frozen=True)
class Comparison:
    """One entry and what became of it.

    Attributes:
        entry: the value on record.
        ours: our value in per cent, None where the run has no such score.
        status: one of `AGREES`, `OUTSIDE`, `OTHER_SETTINGS`, `NOT_RUN`.
        altered: stages whose settings are not the shipped ones.
        seed: of our run.
        spec: first 12 digits of the SHA-256 of our run's job spec.
        weights: the same of its weights file, as the predictions name it.
        features: the same of each region store that was read for them.
    """

    entry: Entry
    ours: float | None
    status: str
    altered: tuple[str, ...]
    seed: int | None
    spec: str | None
    weights: str | None
    features: dict[str, str]

    @property
    def difference(self) -> float | None:
        """Ours less the value on record, in points."""
        return None if self.ours is None else self.ours - self.entry.value

    def record(self) -> dict[str, Any]:
        """As the comparison file holds it."""
        return {
            **vars(self.entry),
            "ours": self.ours,
            "difference": self.difference,
            "status": self.status,
            "altered": list(self.altered),
            "seed": self.seed,
            "spec": self.spec,
            "weights": self.weights,
            "features": self.features,
        }


def compare(
    entries: Sequence[Entry], results: Path, altered: Mapping[str, Sequence[str]]
) -> list[Comparison]:
    """Every entry beside our score of it.

    Args:
        entries: values on record.
        results: the folder with one folder a run.
        altered: for each run of the plan, the stages whose settings are not the shipped ones. A run that
            is not named was not asked for.

    Raises:
        DataError: a score file is malformed, or lacks the metric on record.
    """
    return [_compare(entry, results / entry.run, altered.get(entry.run)) for entry in entries]


def _compare(entry: Entry, folder: Path, altered: Sequence[str] | None) -> Comparison:
    path = folder / f"{entry.split}_score.json"
    if altered is None or not path.is_file():
        return Comparison(entry, None, NOT_RUN, tuple(altered or ()), None, None, None, {})
    score, spec = _object(path), _object(folder / "spec.json")
    official = score.get("official")
    if not isinstance(official, dict) or not isinstance(official.get(entry.metric), int | float):
        raise DataError(f"{path}: no official figure {entry.metric}. Remove the file and score again.")
    ours = round(100 * float(official[entry.metric]), 6)
    within = abs(ours - entry.value) <= entry.tolerance
    status = OTHER_SETTINGS if altered else AGREES if within else OUTSIDE
    seed, predictions = spec.get("seed"), _predictions(folder, score)
    digest, stores = predictions.get("weights_sha256"), predictions.get("features")
    return Comparison(
        entry,
        ours,
        status,
        tuple(altered),
        seed if isinstance(seed, int) else None,
        hashlib.sha256(job_spec_text(spec).encode()).hexdigest()[:12],
        str(digest)[:12] if digest else None,
        {name: str(text)[:12] for name, text in stores.items()} if isinstance(stores, dict) else {},
    )


def _predictions(folder: Path, score: Mapping[str, Any]) -> dict[str, Any]:
    """The record beside the scored predictions: which weights and features gave them."""
    predictions = score.get("predictions")
    if not isinstance(predictions, dict) or "file" not in predictions:
        return {}
    path = meta_path(folder / str(predictions["file"]))
    return _object(path) if path.is_file() else {}


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: must hold a JSON object. Remove the file and make it again.")
    return value


def table(comparisons: Sequence[Comparison]) -> str:
    """The comparison in plain characters, columns aligned, a line an entry."""
    headings = ["run", "split", "metric", "on record", "tolerance", "ours", "difference", "seed", "spec"]
    headings += ["weights", "status"]
    rows = [_cells(item) for item in comparisons]
    if not rows:
        return "No value is on record for this corpus.\n"
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = [headings, ["-" * width for width in widths], *rows]
    text = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in text) + "\n"


def _cells(item: Comparison) -> list[str]:
    entry = item.entry
    status = item.status + (f": {', '.join(item.altered)}" if item.status == OTHER_SETTINGS else "")
    ours = "–" if item.ours is None else f"{item.ours:.2f}"
    difference = "–" if item.difference is None else f"{item.difference:+.2f}"
    numbers = [f"{entry.value:.2f}", f"{entry.tolerance:.2f}", ours, difference]
    made = ["–" if value is None else str(value) for value in (item.seed, item.spec, item.weights)]
    return [entry.run, entry.split, entry.metric, *numbers, *made, status]
