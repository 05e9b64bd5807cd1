"""What a long download would be: bytes, disk, what is there already, what needs a person."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lxmert.assets.asset import Asset
from lxmert.assets.catalogue import Catalogue
from lxmert.assets.inventory import Slot, own_slots, slots, state_of, unfilled
from lxmert.assets.lock import Lock
from lxmert.assets.meter import gigabytes
from lxmert.assets.mirrors import hint, sources
from lxmert.assets.places import Places, Settings, missing_name
from lxmert.specs.plan import CRAWL, Plan

_WORDS = {
    "skip": "there already, skipped",
    "own": "yours, used as it is",
    "fetch": "to fetch",
    "by_hand": "to be brought by hand",
    "crawl": "to crawl",
    "accept": "terms not accepted",
}


def needed_assets(plan: Plan, catalogue: Catalogue) -> list[Asset]:
    """Assets that the graph of a configuration reads, in the catalogue's order; none if it makes its data."""
    if plan.corpus["raw"] != "assets":
        return []
    wanted = {asset.id for name in plan.all_raw_files() for asset in catalogue.providers(f"raw/{name}")}
    wanted |= {asset.id for asset in catalogue.read_together(plan.published_assets())}
    crawled = crawled_assets(plan, catalogue)
    wanted |= {catalogue.producer(place).id for asset in crawled for place in asset.crawl.values()}
    wanted -= {asset.id for asset in crawled}
    return [asset for asset in catalogue.assets.values() if asset.id in wanted]


def crawled_assets(plan: Plan, catalogue: Catalogue) -> list[Asset]:
    """Archives whose images the graph gets one by one from their own addresses instead."""
    if not plan.crawls_images():
        return []
    wanted = [asset.id for name in plan.feature_files() for asset in catalogue.providers(f"raw/{name}")]
    return [catalogue[name] for name in dict.fromkeys(wanted) if catalogue[name].crawl]


def named_crawls(targets: Iterable[str], branches: Mapping[str, str], catalogue: Catalogue) -> list[Asset]:
    """The same of targets in these branches."""
    if branches["nlvr2_images"] != CRAWL:
        return []
    return [
        asset for asset in catalogue.needed(targets, {**branches, "nlvr2_images": "archive"}) if asset.crawl
    ]


def read_places(plan: Plan) -> list[str]:
    """Places of the catalogue that the graph of a configuration reads."""
    return [f"raw/{name}" for name in plan.all_raw_files()]


@dataclass
class DownloadPlan:
    """Assets by what becomes of them, and what they cost.

    Attributes:
        groups: `skip`, `own`, `fetch`, `by_hand`, `crawl` and `accept` -> assets.
        free_bytes: on the disk they go to.
        keep_archives: whether archives stay once they are unpacked.
        unpacked_bytes: of each asset, what is still to be put in place.
        gated: assets to crawl whose terms are not accepted yet; others are in a group of their own.
    """

    groups: dict[str, list[Asset]]
    free_bytes: int
    keep_archives: bool
    unpacked_bytes: dict[str, int]
    gated: list[Asset] = field(default_factory=list)
    fetch_bytes: int = field(init=False)
    by_hand_bytes: int = field(init=False)
    disk_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        by_hand = self.groups["by_hand"] + self.groups["accept"]
        coming = self.groups["fetch"] + by_hand
        archives = [asset.download_bytes for asset in coming if asset.is_archive]
        coming = coming + self.groups["crawl"]
        self.fetch_bytes = sum(asset.download_bytes for asset in self.groups["fetch"])
        self.by_hand_bytes = sum(asset.download_bytes for asset in by_hand)
        # An archive lies beside its content while it is unpacked, one at a time.
        beside = sum(archives) if self.keep_archives else max(archives, default=0)
        self.disk_bytes = sum(self.unpacked_bytes[asset.id] for asset in coming) + beside

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to fetch or to bring."""
        return not any(self.groups[name] for name in ("fetch", "by_hand", "crawl", "accept"))

    @property
    def is_enough(self) -> bool:
        """Whether the disk has room for it."""
        return self.disk_bytes <= self.free_bytes

    def to_json(self) -> dict[str, Any]:
        """Figures, and ids by group."""
        figures = ("fetch_bytes", "by_hand_bytes", "disk_bytes", "free_bytes")
        ids = {name: [asset.id for asset in assets] for name, assets in self.groups.items()}
        return {**{name: getattr(self, name) for name in figures}, **ids}

    def text(self, title: str) -> str:
        """The plan as lines: one an asset, the terms that are not accepted yet, the sum."""
        lines = [title]
        for name, assets in self.groups.items():
            for asset in assets:
                how = f" ({hint(asset)})" if name in ("by_hand", "accept") and asset.by_hand else ""
                lines.append(f"  {_WORDS[name]:22s} {gigabytes(asset.download_bytes):>8s}  {asset.id}{how}")
        gates = {asset.gate: asset for asset in self.groups["accept"] + self.gated}
        for gate, asset in gates.items():
            lines.append(
                f"terms of {gate}: {asset.terms or asset.licence} If you accept them, write in config.yaml:"
                f" assets: {{accept_terms: [{gate}]}}"
            )
        by_hand = len(self.groups["by_hand"]) + len(self.groups["accept"])
        crawl = self.groups["crawl"]
        size = gigabytes(sum(asset.download_bytes for asset in crawl))
        crawling = f" to crawl: {size} in {len(crawl)};" if crawl else ""
        lines.append(
            f"to fetch: {gigabytes(self.fetch_bytes)} in {len(self.groups['fetch'])} files;{crawling}"
            f" by hand: {gigabytes(self.by_hand_bytes)} in {by_hand}; skipped:"
            f" {len(self.groups['skip']) + len(self.groups['own'])}; disk needed:"
            f" {gigabytes(self.disk_bytes)}, free: {gigabytes(self.free_bytes)},"
            f" {'enough' if self.is_enough else 'NOT enough'}"
        )
        return "\n".join(lines)


def plan_download(
    assets: Iterable[Asset],
    places: Places,
    settings: Settings,
    crawled: Iterable[Asset] = (),
    also: Collection[str] = (),
) -> DownloadPlan:
    """What fetching these assets would be, and crawling those; reads no bytes and asks nobody.

    Args:
        assets: what is wanted.
        places: where it goes.
        settings: what the user decided.
        crawled: archives whose images are asked for one by one instead.
        also: places that are left out by default and wanted all the same.
    """
    records = Lock(places.lock_file).read()
    groups: dict[str, list[Asset]] = {name: [] for name in _WORDS}
    unpacked = {}
    for asset in assets:
        record = records.get(asset.id)
        found = slots(asset, places, also)
        groups[_group(asset, found, places, settings, record)].append(asset)
        own = own_slots(found, record)
        missing = [slot.member for slot in unfilled(found, record) if slot.member and slot not in own]
        unpacked[asset.id] = asset.unpacked_bytes_of(missing)
    for asset in crawled:
        # Crawled to its end; what did not come is not expected to.
        ended = (places.crawls / missing_name(asset.id)).is_file()
        groups["skip" if ended else "crawl"].append(asset)
        unpacked[asset.id] = asset.unpacked_bytes
    existing = next(folder for folder in (places.root, *places.root.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    gated = [asset for asset in groups["crawl"] if asset.gate not in (None, *settings.accept_terms)]
    return DownloadPlan(groups, free, settings.keep_archives, unpacked, gated)


def _group(
    asset: Asset, found: list[Slot], places: Places, settings: Settings, record: dict[str, Any] | None
) -> str:
    own = own_slots(found, record)
    made = [places.path(entry["place"]) for entry in asset.derived]
    if len(own) == len(found) or (not own and made and all(path.is_file() for path in made) and not record):
        return "own"
    if state_of([slot for slot in found if slot not in own], record) == "ready":
        return "skip"
    if asset.gate and asset.gate not in settings.accept_terms:
        return "accept"
    if not (settings.mirrors or asset.fetchable) or (settings.offline and not sources(asset, settings)):
        return "by_hand"
    return "fetch"
