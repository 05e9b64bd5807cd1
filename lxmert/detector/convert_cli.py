"""Published detector weights into ours, and ours into the forms other programs read."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from lxmert.detector.documents import parse_size
from lxmert.detector.weights.convert import KINDS, TARGETS, export_weights, import_weights, save_imported
from lxmert.detector.weights.imagenet import import_backbone
from lxmert.errors import SpecError
from lxmert.files import atomic_write_json
from lxmert.specs.documents import read_document

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `convert-detector`."""
    parser.add_argument(
        "--weights", type=Path, required=True,
        help=".caffemodel, detectron2 .pkl or Hugging Face folder; with --to, our .safetensors",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="file to write (huggingface: folder)")
    parser.add_argument("--to", choices=TARGETS, help="write our weights in this form instead")
    parser.add_argument("--report", type=Path, help="JSON: what became of every tensor")
    parser.add_argument("--kind", choices=KINDS, help="default: what the file looks like")
    parser.add_argument("--size", default="full", help="detector size document (default: full)")
    parser.add_argument(
        "--background", choices=("last", "first"), default="last",
        help="row of the background in detectron2 and Hugging Face files",
    )  # fmt: skip
    parser.add_argument(
        "--backbone", action="store_true",
        help="weights are a ResNet-101's on ImageNet: makes what training begins with, the rest random",
    )  # fmt: skip
    parser.add_argument(
        "--bbox-divisors", help="four numbers that box corrections are divided by, such as 10,10,5,5"
    )


def run(args: argparse.Namespace) -> None:
    """Converts one set of weights."""
    if args.backbone and (args.to or args.kind or args.bbox_divisors):
        raise SpecError(
            "--backbone: reads a classifier's weights, which have no heads, and writes ours; leave out --to,"
            " --kind and --bbox-divisors."
        )
    if args.to:
        tensors = export_weights(args.weights, args.to, args.out)
        log.info("%s: %d tensors written as %s", args.out, len(tensors), args.to)
        return
    size = parse_size(read_document("detector_size", args.size))
    if args.backbone:
        model, meta, report = import_backbone(args.weights, size)
    else:
        model, meta, report = import_weights(
            args.weights, size, kind=args.kind, background=args.background,
            divisors=_divisors(args.bbox_divisors),
        )  # fmt: skip
    for warning in report.warnings:
        log.warning("%s: %s", args.weights, warning)
    if args.report:
        atomic_write_json(args.report, report.document())
    save_imported(args.out, model, meta)
    log.info(
        "%s: %d tensors, %d convolutions, %s elements from %s; %d arrays not used, %d with rows moved",
        args.out, report.facts["tensors"], report.facts["convolutions"],
        f"{sum(report.counts.values()):,}", report.source["kind"], len(report.ignored),
        len(report.permutations),
    )  # fmt: skip


def _divisors(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 4 or min(values) <= 0:
        raise SpecError(f"--bbox-divisors {text}: must be four numbers above 0, such as 10,10,5,5.")
    return values
