"""Where results come from: region stores, specs and the versions of the programs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lxmert import __version__
from lxmert.data.region_store import RegionStore
from lxmert.errors import DataError
from lxmert.files import read_json
from lxmert.progress import count
from lxmert.report.results import Results, RunResults
from lxmert.specs import job_spec_text
from lxmert.tasks.missing_images import REPORT

_PACKAGES = ("torch", "torchvision", "numpy", "pillow", "lmdb", "safetensors", "tokenizers", "snakemake")
STORE_HEADINGS = ["image set", "images", "boxes at most", "feature", "profile", "file", "digest"]
RUN_HEADINGS = [
    "run",
    "corpus",
    "seed",
    "subset",
    "sees",
    "starts from",
    "steps",
    "best at",
    "seconds",
    "spec",
]
MISSING_HEADINGS = ["split", "missing images", "examples", "which are"]
_SHORT = 12


def store_rows(paths: Sequence[Path]) -> list[list[str]]:
    """A row for each region store; reads headers only.

    Raises:
        DataError: a store is missing or faulty.
    """
    rows = []
    for path in paths:
        with RegionStore(path) as store:
            schema, fingerprint = store.schema, store.fingerprint()
            version = schema.profile.get("version")
            rows.append(
                [
                    path.stem,
                    count(len(store)),
                    str(schema.max_boxes),
                    f"{schema.feature_width} × {schema.feature_dtype}",
                    schema.profile_name + ("" if version is None else f" (version {version})"),
                    f"{fingerprint['size'] / 1e6:.1f} MB",
                    store.digest[:_SHORT],
                ]
            )
    return rows


def run_rows(results: Results) -> list[list[str]]:
    """A row for each run, twins included."""
    runs = [*results.pretrainings, *(run for family in results.families for _, run in family.members)]
    return [_run_row(run) for run in runs]


def _run_row(run: RunResults) -> list[str]:
    spec, metrics = _spec(run), run.metrics
    vision = spec.get("vision")
    return [
        run.name,
        _text(spec.get("corpus")),
        _text(spec.get("seed")),
        ("all images" if spec.get("subset") is None else str(spec["subset"])) if spec else "–",
        "–" if vision is None else "images" if vision else "no image",
        _text(spec.get("init")),
        _text(metrics.get("steps")),
        _text(metrics.get("best_step")),
        "–" if run.seconds is None else f"{run.seconds:.0f}",
        hashlib.sha256(job_spec_text(spec).encode()).hexdigest()[:_SHORT] if spec else "–",
    ]


def _spec(run: RunResults) -> dict[str, Any]:
    """The spec a run was trained by; that of pretraining stands in its weights only."""
    path = run.folder / "weights.safetensors"
    if run.spec or not path.is_file():
        return run.spec
    from lxmert.models.weights import read_metadata

    spec = read_metadata(path).get("spec")
    return spec if isinstance(spec, dict) else {}


def missing_rows(folders: Sequence[Path]) -> list[list[str]]:
    """A row for each split of these examples some of whose images are missing.

    Raises:
        DataError: a report of missing images is faulty.
    """
    rows = []
    for folder in folders:
        path = folder / REPORT
        if not path.is_file():
            continue
        try:
            for split, entry in read_json(path).items():
                left_out = "left_out" in entry
                number = entry["left_out" if left_out else "answered_without_images"]
                fate = "left out" if left_out else "answered without their images"
                total = entry["examples"]
                share = f"{count(number)} of {count(total)} ({100 * number / total:.2f} %)"
                rows.append([f"{folder.name} {split}", count(len(entry["images"])), share, fate])
        except (AttributeError, KeyError, TypeError, ZeroDivisionError) as error:
            raise DataError(f"{path}: no report of missing images; prepare the examples again.") from error
    return rows


def versions() -> list[tuple[str, str]]:
    """(program, version) of what this machine has."""
    found = [("lxmert", __version__), ("Python", platform.python_version())]
    for name in _PACKAGES:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _text(value: Any) -> str:
    return "–" if value is None else str(value)
