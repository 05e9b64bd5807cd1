"""Put your own boxes into Visual Genome's form, or name the classes of a detector that you give."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from lxmert.custom.boxes import collect_boxes, vocabulary_of_weights, write_boxes
from lxmert.custom.data import own_data_spec, read_own_data
from lxmert.custom.data_cli import NEEDS
from lxmert.custom.folder import link_images
from lxmert.errors import DataError, SpecError
from lxmert.files import atomic_write_text
from lxmert.progress import count
from lxmert.specs.jobs import read_job_spec

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `own-boxes`."""
    parser.add_argument("--spec", default="{}", help="job spec as JSON, or @file")
    parser.add_argument("--examples", type=Path, help="your file of JSON lines, with boxes")
    parser.add_argument("--images", type=Path, help="your folder of images")
    parser.add_argument("--names-of", type=Path, help="write the class names of these weights instead")
    parser.add_argument("--out-root", required=True, type=Path, help="the `vg` folder of raw files")


def run(args: argparse.Namespace) -> None:
    """Writes the files that train the detector, or only its vocabularies."""
    if args.names_of is not None:
        _write_names(args.names_of, args.out_root)
        return
    if args.examples is None or args.images is None:
        raise SpecError("own-boxes: --examples and --images are needed, or --names-of a detector's weights.")
    spec = read_job_spec(args.spec, needs=NEEDS[:-1])
    data = read_own_data(args.examples, args.images, own_data_spec(spec))
    boxes = collect_boxes(data)
    if not boxes:
        raise DataError(
            f"{args.examples}: no line has boxes to train a detector on. Add some, or name a detector's"
            " weights: custom: {detector: {weights: FILE}}."
        )
    found = write_boxes(data, boxes, args.out_root)
    link_images(data.folder, list(boxes), args.out_root / "images")
    log.info(
        "%s boxes on %s of %s images, %s labels, %s attributes",
        *map(
            count, (found["boxes"], found["images"], len(data.splits), found["labels"], found["attributes"])
        ),
    )


def _write_names(weights: Path, out: Path) -> None:
    from lxmert.detector.model import load_detector

    model, meta = load_detector(weights)
    classes = model.size.classes
    for name, number in (("objects", classes.objects), ("attributes", classes.attributes)):
        names = vocabulary_of_weights(meta, name, number or 0)
        atomic_write_text(out / f"{name}_vocab.txt", "".join(f"{text}\n" for text in names))
