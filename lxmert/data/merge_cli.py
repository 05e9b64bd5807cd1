"""Join the shards of one extraction into one region store."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from lxmert.data.images import read_listing
from lxmert.data.region_merge import merge
from lxmert.data.region_store import RegionStore
from lxmert.progress import count

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `merge`."""
    parser.add_argument("--parts", required=True, nargs="+", type=Path, help="the stores of all shards")
    parser.add_argument("--listing", type=Path, help="every image of this listing must be in a part")
    parser.add_argument("--out", required=True, type=Path, help="the store to write")


def run(args: argparse.Namespace) -> None:
    """Runs the verb.

    Raises:
        DataError: the parts do not belong together, or images are missing.
    """
    expected = None
    if args.listing is not None:
        expected = [image["id"] for image in read_listing(args.listing)["images"]]
    digest = merge(args.parts, args.out, expected)
    with RegionStore(args.out) as store:
        log.info("%s: %s images, digest %s", args.out, count(len(store)), digest)
