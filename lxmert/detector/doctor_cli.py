"""Checks extraction on this machine: a shipped picture through every stage, beside the shipped numbers."""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
from pathlib import Path
from typing import Any

from lxmert import __version__
from lxmert.errors import DataError, SpecError

log = logging.getLogger(__name__)

_LIBRARIES = ("torch", "torchvision", "numpy", "PIL", "lmdb", "safetensors", "detectron2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `doctor`."""
    parser.add_argument(
        "--profile", nargs="+", help="extraction profiles; default: all that numbers are shipped for"
    )
    parser.add_argument("--weights", type=Path, nargs="+", default=[], help="detector weights to report on")
    parser.add_argument("--store", type=Path, nargs="+", default=[], help="region stores to report on")
    parser.add_argument(
        "--backend", choices=("torchvision", "detectron2"), default="torchvision",
        help="library the network is built from",
    )  # fmt: skip
    parser.add_argument(
        "--convolutions", choices=("rearranged", "plain"), default="rearranged", help="see `extract --help`"
    )


def run(args: argparse.Namespace) -> None:
    """Reports versions, weights and stores, then compares stage by stage.

    Raises:
        DataError: a stage differs; the first one is named.
        SpecError: there is no such profile, or detectron2 is not installed.
    """
    from lxmert.detector.train_cli import set_up

    device = set_up(args)
    for line in versions():
        print(line)
    for path in args.weights:
        print(about_weights(path))
    for path in args.store:
        print(about_store(path))
    sys.stdout.flush()
    check_stages(args.profile, args.backend, args.convolutions, str(device))


def versions() -> list[str]:
    """What runs here, a line each for the machine and for the libraries."""
    import importlib

    import torch

    found = []
    for name in _LIBRARIES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            found.append(f"{name} absent")
            continue
        version = getattr(module, "__version__", "?")
        found.append(f"{'pillow' if name == 'PIL' else name} {version}")
    capability = torch.backends.cpu.get_cpu_capability()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [
        f"lxmert {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()},"
        f" {capability}, {torch.get_num_threads()} threads, GPUs: {', '.join(gpus) or 'none'}",
        ", ".join(found),
    ]


def about_weights(path: Path) -> str:
    """Size, source, checksums and meaning of a detector's weights.

    Raises:
        WeightsError: the file holds no detector.
    """
    from lxmert.detector.model import count_parameters, load_detector
    from lxmert.files import fingerprint

    model, meta = load_detector(path)
    source = meta.get("source") or {}
    origin = "trained here"
    if source:
        files = source.get("files") or {}
        names = ", ".join(f"{name} sha256 {entry['sha256'][:12]}" for name, entry in files.items())
        origin = f"from {source.get('kind', '?')} {names}"
    classes, own = model.size.classes, model.proposal_generator.cells is not None
    counts = f"{classes.objects} objects, {classes.attributes} attributes"
    return (
        f"weights {path}: sha256 {fingerprint(path)['sha256'][:12]}, size {model.size.size},"
        f" {count_parameters(model):,} parameters, {counts},"
        f" {'its own' if own else 'Caffe'} anchors, box corrections / {list(model.bbox_divisors)}; {origin}"
    )


def about_store(path: Path) -> str:
    """How a region store was made.

    Raises:
        DataError: the file is no region store.
    """
    from lxmert.data.region_store import RegionStore

    with RegionStore(path) as store:
        made: dict[str, Any] = store.provenance
        schema, images = store.schema, len(store)
    weights = made.get("weights") or {}
    numerics, library = made.get("numerics") or {}, made.get("versions") or {}
    profile = f"{schema.profile_name} version {schema.profile.get('version', '?')}"
    said = ", ".join(f"{name} {value}" for name, value in {**library, **numerics}.items())
    return (
        f"store {path}: {images} images, profile {profile},"
        f" {schema.feature_dtype} {schema.feature_width} wide, weights sha256"
        f" {str(weights.get('sha256', 'not recorded'))[:12]}, exif {made.get('exif', 'not recorded')},"
        f" {len(made.get('quarantined') or [])} quarantined; {said or 'versions not recorded'}"
    )


def check_stages(profiles: list[str] | None, backend: str, convolutions: str, device: str) -> None:
    """Prints a line for each profile.

    Raises:
        DataError: a stage differs from the shipped numbers; the first one is named.
        SpecError: there is no such profile, or no numbers for it.
    """
    from lxmert.detector import golden_stages as golden

    failures, known = [], golden.shipped_profiles()
    for name in profiles or known:
        profile = golden.read_profile(name)
        if name not in known:
            raise SpecError(f"--profile {name}: no numbers are shipped for it. Known: {', '.join(known)}.")
        extractor = golden.doctor_extractor(profile, backend, convolutions, device)
        findings = golden.compare(name, extractor)
        for finding in findings:
            state = f"{finding.difference:.1e}" if finding.same else f"DIFFERS: {finding.text}"
            log.debug("%s: %s: %s (may be %g)", name, finding.stage.name, state, finding.stage.tolerance)
        first = next((finding for finding in findings if not finding.same), None)
        if first is None:
            stages = ", ".join(f"{finding.stage.name} {finding.difference:.0e}" for finding in findings)
            print(f"{name} version {profile.version}: every stage as shipped ({stages})")
            continue
        print(f"{name} version {profile.version}: {first.stage.name} differs first: {first.text}")
        failures.append((name, first))
    if failures:
        name, first = failures[0]
        raise DataError(
            f"doctor: {len(failures)} profiles differ from the shipped numbers; of {name} the stage"
            f" {json.dumps(first.stage.name)} is the first: {first.text} (may differ by"
            f" {first.stage.tolerance:g}). Look at {first.stage.look}."
        )
