"""Region features of one shard of an image set; may be killed and run again at any moment."""

from __future__ import annotations

import argparse
import logging
import os
import time
from pathlib import Path
from typing import Any

from lxmert.detector import parity
from lxmert.detector.backends import BACKENDS, CONVOLUTIONS, for_inference
from lxmert.detector.documents import Profile, parse_profile, parse_size
from lxmert.detector.extract import PRECISIONS, Extractor
from lxmert.detector.extract_job import (
    Job,
    extract_images,
    open_writer,
    parse_shard,
    provenance,
    settle_bad_images,
    shard_images,
    store_schema,
)
from lxmert.detector.given_boxes import GivenBoxes
from lxmert.detector.model import Detector, load_detector, with_classes
from lxmert.detector.train_cli import set_up
from lxmert.errors import SpecError, WeightsError
from lxmert.files import fingerprint
from lxmert.specs.documents import read_document
from lxmert.specs.jobs import read_job_spec
from lxmert.state import JobState

log = logging.getLogger(__name__)

BAD_IMAGES = "LXMERT_BAD_IMAGES"  # how the graph says --bad-images, which is no parameter of its jobs

USES_WORKERS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `extract`."""
    rules = parser.add_mutually_exclusive_group(required=True)
    rules.add_argument("--profile", help="extraction profile, by name")
    rules.add_argument("--spec", help="JSON, or @file: size (optional) and profile")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--listing", type=Path, required=True, help="listing of the image set")
    parser.add_argument("--shard", default="1/1", help="i/n: the i-th of n parts, by a hash of image ids")
    parser.add_argument("--state", type=Path, help="folder for unfinished work; default: OUT.state")
    parser.add_argument("--out", type=Path, required=True, help="part of a region store")
    parser.add_argument("--boxes", type=Path, help="JSON or JSON lines: an image and its boxes_px, for each")
    parser.add_argument(
        "--boxes-as", choices=("regions", "proposals"), default="regions",
        help="regions: exactly these boxes, in their order; proposals: scored and selected by the profile",
    )  # fmt: skip
    parser.add_argument(
        "--bad-images", choices=("quarantine", "stop"), default=os.environ.get(BAD_IMAGES) or None,
        help="list them in the store, or stop once all others are done; the profile's unless given",
    )  # fmt: skip
    parser.add_argument(
        "--backend", choices=BACKENDS, default="torchvision",
        help="library the network is built from; results agree to 1e-3 (detectron2: envs/detectron2.yaml)",
    )  # fmt: skip
    add_speed_arguments(parser)


def add_speed_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that trade exactness for speed."""
    group = parser.add_argument_group("speed (features then differ from float32's by what the log prints)")
    group.add_argument(
        "--precision", choices=sorted(PRECISIONS), default="float32", help="of the convolutions"
    )
    group.add_argument("--channels-last", action="store_true", help="memory format of the convolutions")
    group.add_argument("--batch", type=int, default=1, help="images of one shape run together")
    group.add_argument(
        "--convolutions", choices=CONVOLUTIONS, default="rearranged",
        help="on a CPU in float32: faster, equal to 1e-6, or as PyTorch does them",
    )  # fmt: skip
    group.add_argument(
        "--parity-limit", type=float, default=0.02,
        help="the median relative deviation of a region's features may be so large",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Extracts a shard and writes its part."""
    spec = read_job_spec(args.spec) if args.spec else _spec_of_profile(args.profile)
    if "profile" not in spec:
        raise SpecError("--spec: profile is missing; give the document.")
    if args.batch < 1:
        raise SpecError(f"--batch {args.batch}: must be 1 or more.")
    profile = parse_profile(spec["profile"])
    index, count = parse_shard(args.shard)
    images = shard_images(args.listing, index, count)
    boxes = _given_boxes(args, profile, images)
    device = set_up(args)
    weights = fingerprint(args.weights)
    model, meta = load_detector(args.weights)
    _check_size(model, spec, args.weights)
    network = for_inference(model.to(device), args.backend, args.convolutions)
    document = {name: value for name, value in spec["profile"].items() if name != "bad_images"}
    job = Job(
        profile, document, args.precision, args.channels_last, args.batch, args.backend,
        args.convolutions, boxes,
    )  # fmt: skip
    key: dict[str, Any] = {"spec": {**spec, "profile": document}, "shard": f"{index + 1}/{count}"}
    key["inputs"] = {"weights": weights, "listing": fingerprint(args.listing)}
    if boxes is not None:
        key["inputs"]["boxes"] = {**fingerprint(args.boxes), "as": boxes.meaning}
    if not job.exact:
        key["numerics"] = [job.precision, job.channels_last, job.batch]
    if (job.backend, job.convolutions) != ("torchvision", "rearranged"):
        key["network"] = [job.backend, job.convolutions]
    state = JobState(args.state or Path(f"{args.out}.state"), key)
    if job.precision != "float32" or job.channels_last:
        paths = [path for _, path in images]
        parity.check(network, profile, job.precision, job.channels_last, paths, args.parity_limit)
    extractor = Extractor(network, profile, job.precision, job.channels_last)
    began = time.monotonic()
    with open_writer(args.out, store_schema(network, job), state.folder) as writer:
        before = len(writer)
        tally = extract_images(extractor, images, writer, args.workers, job)
        done, seconds = len(writer) - before, max(time.monotonic() - began, 1e-9)
        listed = settle_bad_images(tally.bad, args.bad_images or profile.bad_images, len(images))
        writer.finish({**provenance(job, network, weights["sha256"], meta), "quarantined": listed})
    state.clear()
    log.info(
        "%d images in %.1f s, %.1f images/s, network busy %.0f %%, %d bad",
        done,
        seconds,
        done / seconds,
        100 * tally.device_seconds / seconds,
        len(tally.bad),
    )


def _spec_of_profile(name: str) -> dict[str, Any]:
    return {"kind": "extract", "profile": read_document("profile", name)}


def _given_boxes(
    args: argparse.Namespace, profile: Profile, images: list[tuple[str, Path]]
) -> GivenBoxes | None:
    if args.boxes is None:
        return None
    boxes = GivenBoxes(args.boxes, args.boxes_as)
    boxes.check_listing([image_id for image_id, _ in shard_images(args.listing, 0, 1)], args.listing)
    boxes.check_images(images, profile.image.exif, args.workers)
    return boxes


def _check_size(model: Detector, spec: dict, weights: Path) -> None:  # type: ignore[type-arg]
    if "size" not in spec:
        return
    stated, classes = parse_size(spec["size"]), model.size.classes
    assert classes.objects and classes.attributes
    if with_classes(stated, classes.objects, classes.attributes, str(weights)) != model.size:
        raise WeightsError(f"{weights}: holds another detector than size {stated.size}; train it again.")
