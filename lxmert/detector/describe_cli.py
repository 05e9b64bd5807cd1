"""Regions of single images: printed, drawn, and kept with their features."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.data.formats.npz import plain_name, write_image
from lxmert.detector.extract import Extractor
from lxmert.detector.given_boxes import GivenBoxes
from lxmert.detector.preprocess import decode_image
from lxmert.errors import DataError, SpecError, suggest
from lxmert.files import atomic_path, make_folder
from lxmert.types import Regions

log = logging.getLogger(__name__)

_SIDE_PX = 1000  # longer side of a drawn image
_SURE_ATTRIBUTE = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `describe`."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files")
    parser.add_argument("--weights", type=Path, required=True, help="a detector's weights")
    parser.add_argument("--profile", default="lxmert-36", help="extraction profile, by name")
    parser.add_argument("--boxes", type=Path, help="boxes to take instead of the network's proposals")
    parser.add_argument(
        "--boxes-as", choices=("regions", "proposals"), default="regions",
        help="regions: exactly these boxes, in their order; proposals: scored and selected by the profile",
    )  # fmt: skip
    parser.add_argument("--objects", type=Path, help="objects_vocab.txt, for weights that carry no names")
    parser.add_argument("--attributes", type=Path, help="attributes_vocab.txt, likewise")
    parser.add_argument("--show", type=int, default=10, help="regions to print and draw, best first")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object an image instead of a table"
    )
    parser.add_argument("--out", type=Path, help="folder for a .npz with everything and a .png of each image")


@dataclass(frozen=True)
class Names:
    """Object and attribute names by id; ids without a name are called by their number."""

    objects: Sequence[str]
    attributes: Sequence[str]

    def object(self, number: int) -> str:
        """Name of an object."""
        return self.objects[number] if number < len(self.objects) else f"object {number}"

    def attribute(self, number: int) -> str:
        """Name of an attribute."""
        return self.attributes[number] if number < len(self.attributes) else f"attribute {number}"


def run(args: argparse.Namespace) -> None:
    """Describes each image; those that cannot be read are told, and the others are done.

    Raises:
        DataError: images could not be read, share an id, or boxes do not fit.
    """
    if args.show < 0:
        raise SpecError(f"--show {args.show}: must be 0 or more.")
    ids = _ids(args.images)
    extractor, names = _extractor(args)
    boxes = GivenBoxes(args.boxes, args.boxes_as) if args.boxes else None
    bad = []
    for image_id, path in ids.items():
        try:
            regions = _regions(extractor, path, image_id, boxes)
        except DataError as error:
            log.warning("%s", error)
            bad.append(str(error))
            continue
        best = best_rows(regions, args.show)
        sys.stdout.write(
            as_json(path, regions, best, names) if args.json else as_table(path, regions, best, names)
        )
        if args.out:
            make_folder(args.out)
            write_image(args.out / plain_name(image_id), regions)
            _draw(args.out / f"{image_id}.png", path, extractor.profile.image.exif, regions, best, names)
    if bad:
        raise DataError(
            bad[0] if len(ids) == 1 else f"{len(bad)} of {len(ids)} images failed, first: {bad[0]}"
        )


def _ids(images: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in images:
        image_id = path.name.partition(".")[0]
        if image_id in found and found[image_id] != path:
            raise DataError(f"{path}: has the id {image_id} of {found[image_id]}; describe one at a time.")
        found[image_id] = path
    return found


def _extractor(args: argparse.Namespace) -> tuple[Extractor, Names]:
    from lxmert.detector.backends import for_inference
    from lxmert.detector.documents import parse_profile
    from lxmert.detector.model import load_detector
    from lxmert.detector.train_cli import set_up
    from lxmert.detector.vg_data import read_vocabulary
    from lxmert.specs.documents import read_document

    profile = parse_profile(read_document("profile", args.profile))
    named = {
        name: read_vocabulary(path).names
        for name, path in (("objects", args.objects), ("attributes", args.attributes))
        if path is not None
    }
    device = set_up(args)
    model, meta = load_detector(args.weights)
    for name, names in named.items():
        classes = getattr(model.size.classes, name)
        if len(names) != classes:
            raise DataError(
                f"{getattr(args, name)}: names {len(names)} {name}, {args.weights} has {classes}."
            )
    known = {name: named.get(name) or meta.get(name) or () for name in ("objects", "attributes")}
    return Extractor(for_inference(model.to(device)), profile), Names(**known)


def _regions(extractor: Extractor, path: Path, image_id: str, boxes: GivenBoxes | None) -> Regions:
    blob = extractor.read(path)
    if boxes is None:
        return extractor.regions(blob)
    try:
        given = boxes.of(image_id)
    except KeyError:
        raise DataError(
            f"{boxes.path}: image {image_id} has no boxes.{suggest(image_id, boxes.ids())}"
        ) from None
    return extractor.given(blob, given, boxes.meaning, boxes.where(image_id))  # type: ignore[arg-type]


def best_rows(regions: Regions, most: int) -> list[int]:
    """Rows of the regions to show, best first."""
    return [int(row) for row in np.argsort(-regions.selection_scores, kind="stable")[:most]]


def _described(regions: Regions, row: int, names: Names) -> dict[str, Any]:
    return {
        "row": row,
        "box_px": [round(float(value), 1) for value in regions.boxes_px[row]],
        "object": names.object(int(regions.object_ids[row])),
        "object_score": round(float(regions.object_scores[row]), 4),
        "attribute": names.attribute(int(regions.attribute_ids[row])),
        "attribute_score": round(float(regions.attribute_scores[row]), 4),
        "selection_score": round(float(regions.selection_scores[row]), 4),
    }


def as_json(path: Path, regions: Regions, rows: Sequence[int], names: Names) -> str:
    """One line of JSON."""
    size = {"width": regions.width, "height": regions.height, "boxes": len(regions)}
    found = [_described(regions, row, names) for row in rows]
    return json.dumps({"image": str(path), **size, "regions": found}) + "\n"


def as_table(path: Path, regions: Regions, rows: Sequence[int], names: Names) -> str:
    """A line for the image, and one for each region."""
    width = regions.features.shape[1]
    many = "region" if len(regions) == 1 else "regions"
    lines = [f"{path}: {regions.width} x {regions.height} px, {len(regions)} {many} of {width} features"]
    if rows:
        lines.append("  row       x1      y1      x2      y2  object, attribute")
    for row in rows:
        found = _described(regions, row, names)
        corners = " ".join(f"{value:7.1f}" for value in found["box_px"])
        lines.append(
            f"  {row:3d}  {corners}  {found['object']} {found['object_score']:.2f},"
            f" {found['attribute']} {found['attribute_score']:.2f}"
        )
    return "\n".join(lines) + "\n"


def _draw(out: Path, path: Path, exif: str, regions: Regions, rows: Sequence[int], names: Names) -> None:
    from PIL import Image

    from lxmert.report.drawing import Box, draw_boxes

    boxes = []
    for row in rows:
        x1, y1, x2, y2 = (float(value) for value in regions.boxes_px[row])
        label = f"{names.object(int(regions.object_ids[row]))} {regions.object_scores[row]:.2f}"
        if regions.attribute_scores[row] >= _SURE_ATTRIBUTE:
            label = f"{names.attribute(int(regions.attribute_ids[row]))} {label}"
        boxes.append(Box((x1, y1, x2, y2), label))
    image = Image.fromarray(decode_image(path, exif, "rgb"))
    with atomic_path(out) as temporary:
        draw_boxes(image, boxes, _SIDE_PX).save(temporary, "PNG")
