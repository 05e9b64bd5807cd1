"""Region features of one shard of an image set; may be killed and run again at any moment."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from lxmert.detector.documents import parse_profile, parse_size
from lxmert.detector.extract import (
    Extractor,
    extract_images,
    open_writer,
    parse_shard,
    provenance,
    settle_bad_images,
    shard_images,
    store_schema,
)
from lxmert.detector.model import Detector, load_detector, with_classes
from lxmert.detector.train_cli import set_up
from lxmert.errors import SpecError, WeightsError
from lxmert.files import fingerprint
from lxmert.specs.jobs import read_job_spec
from lxmert.state import JobState

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `extract`."""
    parser.add_argument("--spec", required=True, help="JSON, or @file: size (optional) and profile")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--listing", type=Path, required=True, help="listing of the image set")
    parser.add_argument("--shard", default="1/1", help="i/n: the i-th of n parts, by a hash of image ids")
    parser.add_argument("--state", type=Path, required=True, help="folder for unfinished work")
    parser.add_argument("--out", type=Path, required=True, help="part of a region store")


def run(args: argparse.Namespace) -> None:
    """Extracts a shard and writes its part."""
    spec = read_job_spec(args.spec)
    if "profile" not in spec:
        raise SpecError("--spec: profile is missing; give the document.")
    profile = parse_profile(spec["profile"])
    index, count = parse_shard(args.shard)
    device = set_up(args)
    weights = fingerprint(args.weights)
    model, meta = load_detector(args.weights)
    _check_size(model, spec, args.weights)
    model.to(device).fold_norms()
    inputs = {"weights": weights, "listing": fingerprint(args.listing)}
    state = JobState(args.state, {"spec": spec, "shard": f"{index + 1}/{count}", "inputs": inputs})
    images = shard_images(args.listing, index, count)
    schema = store_schema(model, profile, spec["profile"])
    began = time.monotonic()
    with open_writer(args.out, schema, state.folder) as writer:
        before = len(writer)
        bad = extract_images(Extractor(model, profile), images, writer, args.workers)
        done, seconds = len(writer) - before, time.monotonic() - began
        listed = settle_bad_images(bad, profile.bad_images, len(images))
        writer.finish({**provenance(spec["profile"], model, weights["sha256"], meta), "quarantined": listed})
    state.clear()
    log.info("%d images in %.1f s, %.1f images/s, %d bad", done, seconds, done / max(seconds, 1e-9), len(bad))


def _check_size(model: Detector, spec: dict, weights: Path) -> None:  # type: ignore[type-arg]
    if "size" not in spec:
        return
    stated, classes = parse_size(spec["size"]), model.size.classes
    assert classes.objects and classes.attributes
    if with_classes(stated, classes.objects, classes.attributes, str(weights)) != model.size:
        raise WeightsError(f"{weights}: holds another detector than size {stated.size}; train it again.")
