"""Put your own boxes into Visual Genome's form, or name the classes of a detector that you give."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path

from lxmert.custom.boxes import FILES, collect_boxes, vocabulary_of_weights, write_boxes
from lxmert.custom.data import own_data_spec, read_own_data
from lxmert.custom.data_cli import NEEDS
from lxmert.custom.folder import link_images
from lxmert.errors import DataError, SpecError
from lxmert.files import atomic_write_json, atomic_write_text, sha256_file
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
    parser.add_argument("--out-manifest", required=True, type=Path, help="counts and checksums, as JSON")


def run(args: argparse.Namespace) -> None:
    """Writes the files that train the detector, or only its vocabularies."""
    if args.names_of is not None:
        names = _write_names(args.names_of, args.out_root)
        atomic_write_json(args.out_manifest, {"files": _checksums(args.out_root, names)})
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
    # Last: the detector is trained anew when it changes. The image files speak through their own sizes here.
    atomic_write_json(args.out_manifest, {**found, "files": _checksums(args.out_root, FILES)})
    log.info(
        "%s boxes on %s of %s images, %s labels, %s attributes",
        *map(
            count, (found["boxes"], found["images"], len(data.splits), found["labels"], found["attributes"])
        ),
    )


def _checksums(root: Path, names: Iterable[str]) -> dict[str, str]:
    return {name: sha256_file(root / name) for name in names}


def _write_names(weights: Path, out: Path) -> list[str]:
    """Writes the vocabularies of a detector; returns the names of the files."""
    from lxmert.detector.model import load_detector

    model, meta = load_detector(weights)
    classes = model.size.classes
    for name, number in (("objects", classes.objects), ("attributes", classes.attributes)):
        names = vocabulary_of_weights(meta, name, number or 0)
        atomic_write_text(out / f"{name}_vocab.txt", "".join(f"{text}\n" for text in names))
    return ["objects_vocab.txt", "attributes_vocab.txt"]
