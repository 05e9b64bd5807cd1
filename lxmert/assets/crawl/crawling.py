"""Crawling the images of assets whose archive is not at hand: terms, records, crawl, report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path

from lxmert.assets.asset import Asset
from lxmert.assets.catalogue import Catalogue
from lxmert.assets.crawl.crawler import Crawl
from lxmert.assets.crawl.manners import Manners
from lxmert.assets.crawl.missing import Outcome
from lxmert.assets.crawl.status import StatusFile
from lxmert.assets.crawl.wanted import read_nlvr2
from lxmert.assets.fetch import announce, fetch, guard_file, refuse_gate
from lxmert.assets.lock import Lock
from lxmert.assets.places import Places, Settings, alone, missing_name
from lxmert.errors import DownloadError, SpecError, suggest

log = logging.getLogger(__name__)


def crawlable(catalogue: Catalogue, names: Collection[str]) -> list[Asset]:
    """Assets whose images can be crawled: named ones, or all of a named group that some target needs.

    Raises:
        SpecError: there are none of a name.
    """
    able = {asset.id: asset for asset in catalogue.assets.values() if asset.crawl}
    groups = {asset.catalogue for asset in able.values()}
    found: list[Asset] = []
    for name in names:
        if name in able:
            found.append(able[name])
        elif name in groups:
            found += [asset for asset in able.values() if asset.catalogue == name and asset.needed_by]
        else:
            raise SpecError(f"{name}: nothing that can be crawled.{suggest(name, [*groups, *able])}")
    if not found:
        raise SpecError(f"assets crawl: nothing named. Name one of: {', '.join(sorted([*groups, *able]))}.")
    return list({asset.id: asset for asset in found}.values())


def status_path(asset: Asset, places: Places) -> Path:
    """The file that says what became of each image."""
    return places.crawled(asset.id)


def report_path(asset: Asset, places: Places) -> Path:
    """The file that says which images are missing; written when a crawl has ended."""
    return places.crawls / missing_name(asset.id)


def receipt_path(asset: Asset, places: Places) -> Path:
    """What the graph knows of the images."""
    return places.crawls / f"{asset.id}.json"


def crawl(
    asset: Asset,
    catalogue: Catalogue,
    places: Places,
    settings: Settings,
    manners: Manners,
    again: Collection[str] = (),
    stopped: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Brings what can be had of an asset's images to their places.

    Crawls of one working directory take turns: manners towards a host are not kept by two at once.

    Args:
        asset: the archive whose images are wanted.
        catalogue: where its records come from.
        places: where things lie.
        settings: what the user decided.
        manners: how the web is asked.
        again: states that are asked once more.
        stopped: polled; True stops, keeping what came.

    Raises:
        DownloadError: its terms were not accepted, or its records cannot be had.
        DataError: its records are faulty, or the disk is full.
        Interrupted: `stopped` said so.
    """
    refuse_gate(asset, settings)
    announce(asset)
    files = {what: _records(place, catalogue, places, settings) for what, place in asset.crawl.items()}
    with alone(places.downloads / ".crawl.lock", "crawl"), alone(guard_file(places, asset), asset.id):
        records = read_nlvr2(files["records"], files.get("hashes"))
        status = StatusFile(status_path(asset, places))
        try:
            brought = Lock(places.lock_file).record(asset.id) is not None
            Crawl(asset, records, places, settings, status, manners, again, brought, stopped).run()
        finally:
            status.close()
        outcome = Outcome(asset, records, status.entries)
        outcome.write(report_path(asset, places))
    for line in outcome.lines(places.shown(report_path(asset, places))):
        log.info("%s", line)
    if not outcome.there:
        raise DownloadError(
            f"{asset.id}: not one of {len(records.images)} images came. Is this machine on the net?"
            f" Reasons stand in {places.shown(report_path(asset, places))}."
        )
    return outcome


def _records(place: str, catalogue: Catalogue, places: Places, settings: Settings) -> Path:
    """A file that the crawl reads, fetched if it is not there."""
    path = places.path(place)
    if not path.is_file():
        fetch(catalogue.producer(place), places, settings, keep_own=True)
    return path
