"""`assets crawl`: images one by one from the addresses in their data set's records."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from lxmert.assets.catalogue import Catalogue
from lxmert.assets.places import Places, Settings
from lxmert.errors import SpecError
from lxmert.state import StopSignal

# As `lxmert.assets.crawl.status` has them, which the other actions do without.
_AGAIN = ("gone", "refused", "no_picture", "wrong_hash", "too_large", "bad_address")


def add_crawl_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `assets crawl`."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="data sets, such as nlvr2, or archives of images"
    )
    parser.add_argument(
        "--again",
        nargs="+",
        choices=_AGAIN,
        default=[],
        help="ask once more for images that were so, beside those without an answer",
    )
    parser.add_argument(
        "--tolerance", type=_bits, metavar="BITS", help="of 64 of the published hash that may differ (4)"
    )
    parser.add_argument("--connections", type=_positive, metavar="N", help="addresses asked at once (48)")
    parser.add_argument("--per-host", type=_positive, metavar="N", help="of these, of one host (2)")
    parser.add_argument("--out-receipt", type=Path, help="one archive's images; write what there is of them")


def crawl_named(args: argparse.Namespace, catalogue: Catalogue, places: Places, settings: Settings) -> None:
    """Crawls what is named; with --out-receipt one asset, for the graph."""
    from lxmert.assets.crawl.crawling import crawl, crawlable, receipt_path, report_path  # requests, Pillow
    from lxmert.assets.crawl.manners import Manners

    assets = crawlable(catalogue, args.names)
    if args.out_receipt and len(assets) != 1:
        raise SpecError("assets crawl --out-receipt: one asset at a time. Name it.")
    given = {
        "tolerance_bits": args.tolerance, "connections": args.connections, "per_host": args.per_host,
    }  # fmt: skip
    manners = replace(Manners(), **{name: value for name, value in given.items() if value is not None})
    with StopSignal() as signal:
        for asset in assets:
            outcome = crawl(asset, catalogue, places, settings, manners, args.again, lambda: signal.requested)
            receipt = args.out_receipt or receipt_path(asset, places)
            if args.out_receipt or receipt.is_file():  # of the graph, which sees that more has come
                outcome.write_receipt(receipt)
            print(places.shown(report_path(asset, places)))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number above 0")
    return int(text)


def _bits(text: str) -> int:
    if not text.isdecimal() or int(text) > 64:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from 0 to 64")
    return int(text)
