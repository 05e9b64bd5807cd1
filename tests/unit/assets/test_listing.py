"""Totals of targets: what is fetched, what it becomes unpacked, and the stores made of it."""

from __future__ import annotations

import sys
from pathlib import Path

from lxmert.assets.asset import DEFAULT_BRANCHES, TARGETS
from lxmert.assets.catalogue import load_catalogue
from lxmert.assets.listing import FROM_RAW, listing, listing_text
from lxmert.assets.places import Places
from lxmert.assets.stores import store_bytes
from lxmert.data.region_writer import RegionWriter
from lxmert.specs import load_plan

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))

from region_samples import make_regions, make_schema  # noqa: E402

CATALOGUE = load_catalogue()


def test_each_target_has_its_sums_in_both_extremes(places: Places) -> None:
    found = listing(CATALOGUE, places)
    totals = found["totals"]
    assert [row["target"] for row in totals] == [*TARGETS, "all tasks"] * 2
    for row, branches in zip(totals, [DEFAULT_BRANCHES] * 6 + [FROM_RAW] * 6, strict=True):
        if row["target"] == "all tasks":
            continue
        needed = CATALOGUE.needed([row["target"]], branches)
        assert row["assets"] == len(needed) and row["bytes"] == sum(asset.download_bytes for asset in needed)
        assert row["disk_bytes"] == sum(asset.unpacked_bytes for asset in needed) > row["bytes"]
        assert (row["store_bytes"] > 10e9) == (row["target"] != "detector")
    text = listing_text(found)
    for word in ("to fetch", "unpacked", "stores", "71.7 GB", f"{len(CATALOGUE.assets)} assets."):
        assert word in text


def test_stores_are_as_large_as_those_that_are_written(tmp_path: Path) -> None:
    plan = load_plan({"corpus": "full", "tasks": ["vqa", "gqa", "nlvr2"]})
    images, count = sum(plan.image_set(name)["images"] for name in plan.image_sets("nlvr2")), 40
    path = tmp_path / "store.lmdb"
    with RegionWriter(path, make_schema(2048, boxes=36)) as writer:
        for number in range(count):
            writer.put(f"{number:05d}", make_regions(number, boxes=36, width=2048))
        writer.finish({"profile": "test"})
    written = path.stat().st_size / count
    told = store_bytes(plan, ["nlvr2"], DEFAULT_BRANCHES) / images
    assert 0.97 < written / told < 1.03, (written, told)
    # A stage that a target stands on reads stores too.
    assert store_bytes(plan, ["nlvr2"], FROM_RAW) > 3 * store_bytes(plan, ["nlvr2"], DEFAULT_BRANCHES)
