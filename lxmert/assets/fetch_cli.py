"""`assets fetch`: assets, files or all that a target needs."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

from lxmert.assets.asset import BRANCHES, DEFAULT_BRANCHES, Asset
from lxmert.assets.catalogue import Catalogue
from lxmert.assets.places import Places, Settings, missing_name
from lxmert.assets.planning import named_crawls
from lxmert.errors import DownloadError, SpecError
from lxmert.state import StopSignal

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `assets fetch` beside those of every action."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="assets, or files such as data/full/raw/gqa/val_choices.json"
    )
    parser.add_argument("--for", dest="targets", nargs="+", metavar="TARGET", default=[], help="targets")
    add_branches(parser)
    parser.add_argument("--everything", action="store_true", help="unpack what is left out by default too")
    parser.add_argument(
        "--out-receipt",
        type=Path,
        help="one asset, of which what you put in place is used as it is; write what there is of it",
    )
    parser.add_argument(
        "--places", nargs="+", default=[], metavar="PLACE", help="with --out-receipt: what is read of it"
    )


def add_branches(parser: argparse.ArgumentParser) -> None:
    """One option for each branch of the graph."""
    for name, choices in BRANCHES.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            choices=choices,
            help=f"branch; {DEFAULT_BRANCHES[name]} for named targets",
        )


def branches_of(args: argparse.Namespace) -> dict[str, str]:
    """The branches that options name, the others as they are by default."""
    return {name: getattr(args, name) or DEFAULT_BRANCHES[name] for name in BRANCHES}


@dataclass
class _Wish:
    """An asset, and what of it was asked for by name: places by the name that was given for them."""

    asset: Asset
    named: dict[str, str]


def run(args: argparse.Namespace, catalogue: Catalogue, places: Places, settings: Settings) -> None:
    """Fetches what is named."""
    if args.out_receipt:
        _fetch_for_graph(args, catalogue, places, settings)
    else:
        _fetch(_wishes(args, catalogue, places), places, settings, args.everything)
        _tell_of_crawls(args, catalogue, places)


def _wishes(args: argparse.Namespace, catalogue: Catalogue, places: Places) -> list[_Wish]:
    if not (args.names or args.targets):
        raise SpecError("assets fetch: nothing named. Name assets or files, or a target with --for.")
    wishes: dict[str, _Wish] = {}

    def wish(asset: Asset) -> _Wish:
        return wishes.setdefault(asset.id, _Wish(asset, {}))

    for name in args.names:
        if "/" not in name:
            wish(catalogue[name])
            continue
        place = _place(name, places)
        asset = catalogue.producer(place)
        # A derived file may have been brought without the one it is made of.
        if place not in [entry["place"] for entry in asset.derived] or not places.path(place).exists():
            wish(asset).named[place] = name
    for asset in catalogue.needed(args.targets, branches_of(args)) if args.targets else []:
        wish(asset)
    return list(wishes.values())


def _tell_of_crawls(args: argparse.Namespace, catalogue: Catalogue, places: Places) -> None:
    """Says which images the targets read that only a crawl brings, and has not yet."""
    crawls = named_crawls(args.targets, branches_of(args), catalogue)
    left = [asset for asset in crawls if not (places.crawls / missing_name(asset.id)).is_file()]
    if left:
        ids = ", ".join(asset.id for asset in left)
        groups = " ".join(dict.fromkeys(asset.catalogue for asset in left))
        log.info("to crawl: %s: python -m lxmert assets crawl %s", ids, groups)


def _place(name: str, places: Places) -> str:
    """`data/full/raw/vqa/x.json` as the catalogue writes it, `raw/vqa/x.json`."""
    path = Path(name)
    if path.is_absolute() and path.is_relative_to(places.root):
        path = path.relative_to(places.root)
    for top in ("raw", "weights"):
        folder = places.path(f"{top}/x").parent.relative_to(places.root)
        if path.is_relative_to(folder):
            return f"{top}/{path.relative_to(folder).as_posix()}"
    return path.as_posix()


def _fetch(wishes: list[_Wish], places: Places, settings: Settings, everything: bool) -> None:
    from lxmert.assets.fetch import fetch  # requests, which listing does without

    failed = []
    with StopSignal() as signal:
        for wish in wishes:
            asset = wish.asset
            also = asset.everything if everything else list(wish.named)
            try:
                paths = fetch(asset, places, settings, stopped=lambda: signal.requested, also=also)
                _refuse_absent(wish, places)
            except DownloadError as error:
                failed.append(str(error))
                log.warning("%s", error)
                continue
            for path in paths:
                print(places.shown(path))
    if failed:
        head = f"{len(failed)} of {len(wishes)} assets were not fetched: " if len(wishes) > 1 else ""
        raise DownloadError(head + " ".join(failed))


def _refuse_absent(wish: _Wish, places: Places) -> None:
    for place, name in wish.named.items():
        if not places.path(place).exists():
            raise DownloadError(
                f"{name}: {wish.asset.id} is there and does not hold it. python -m lxmert assets verify"
                f" {wish.asset.id} lists what it holds."
            )


def _fetch_for_graph(
    args: argparse.Namespace, catalogue: Catalogue, places: Places, settings: Settings
) -> None:
    from lxmert.assets.fetch import fetch
    from lxmert.assets.receipt import is_brought, write_receipt

    if len(args.names) != 1:
        raise SpecError("assets fetch --out-receipt: one asset at a time. Name it.")
    asset = catalogue[args.names[0]]
    also = asset.everything if args.everything else args.places
    if not is_brought(asset, places, args.places):
        with StopSignal() as signal:
            fetch(asset, places, settings, stopped=lambda: signal.requested, also=also, keep_own=True)
    write_receipt(asset, places, args.out_receipt, also)
