"""Join the shards of one extraction into one region store."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from lxmert.data.images import read_listing
from lxmert.data.region_merge import merge
from lxmert.data.region_parts import PART_BYTES
from lxmert.data.region_store import RegionStore
from lxmert.progress import count

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `merge`."""
    parser.add_argument("--parts", required=True, nargs="+", type=Path, help="the stores of all shards")
    parser.add_argument("--listing", type=Path, help="every image of this listing must be in a part")
    parser.add_argument("--out", required=True, type=Path, help="the store to write")
    parser.add_argument(
        "--part-size", type=parse_size, default=PART_BYTES, metavar="SIZE",
        help="a larger store becomes several files, out, out.1 ...; such as 8GB (default), 500MB",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Runs the verb.

    Raises:
        DataError: the parts do not belong together, or images are missing.
    """
    expected = None
    if args.listing is not None:
        expected = [image["id"] for image in read_listing(args.listing)["images"]]
    digest = merge(args.parts, args.out, expected, args.part_size)
    with RegionStore(args.out) as store:
        log.info("%s: %s images, digest %s", args.out, count(len(store)), digest)
        listed = store.provenance.get("quarantined", [])
    if listed:
        log.warning(
            "%s: %d images gave no regions, first %s (%s); `store info` lists them with their reasons",
            args.out, len(listed), listed[0]["id"], listed[0]["reason"],
        )  # fmt: skip


def parse_size(text: str) -> int:
    """Bytes of a size such as 8GB, 500MB, 300kB or 1000000."""
    number, unit = text.strip().lower(), 1
    for ending, factor in (("kb", 10**3), ("mb", 10**6), ("gb", 10**9), ("tb", 10**12)):
        if number.endswith(ending):
            number, unit = number[: -len(ending)], factor
            break
    try:
        size = float(number) * unit
    except ValueError:
        size = 0.0
    if not 0 < size < 2**63:
        raise argparse.ArgumentTypeError(f"{text}: must be a size such as 8GB or 500MB")
    return int(size)
