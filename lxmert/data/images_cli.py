"""List the images of an image set: their ids and files."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from lxmert.data.images import gqa_image_ids, write_listing

log = logging.getLogger(__name__)

# What config says of questions whose images are missing. No parameter of the graph's jobs, since a listing of
# images that are all there is the same.
MISSING_IMAGES = "LXMERT_MISSING_IMAGES"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `list-images`."""
    parser.add_argument("--image-set", required=True, help="its name, for example mscoco_val2014")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--folder", type=Path, help="where its images lie, sub-folders included")
    source.add_argument("--store", type=Path, help="a region store of them, where the images are not here")
    parser.add_argument(
        "--only-gqa", type=Path, help="keep the images that this GQA question file asks about"
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        default=os.environ.get(MISSING_IMAGES) == "answer",
        help="with --only-gqa: keep those that are there",
    )
    parser.add_argument("--subset", type=int, help="keep at most so many images")
    parser.add_argument("--out", required=True, type=Path, help="JSON file to write")


def run(args: argparse.Namespace) -> None:
    """Writes the listing."""
    only = gqa_image_ids(args.only_gqa) if args.only_gqa else None
    if args.store:
        from lxmert.data.store_listing import write_store_listing  # lmdb, which a folder does without

        number = write_store_listing(args.image_set, args.store, only, args.subset, args.out)
    else:
        number = write_listing(
            args.image_set, args.folder, only, args.subset, args.out, not args.allow_missing
        )
    log.info("%s: %d images in %s", args.image_set, number, args.store or args.folder)
