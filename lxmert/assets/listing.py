"""What there is: every asset with its state, and what each target costs in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lxmert.assets.asset import DEFAULT_BRANCHES, TARGETS, TASKS, Asset
from lxmert.assets.catalogue import Catalogue
from lxmert.assets.inventory import state
from lxmert.assets.lock import Lock, Record
from lxmert.assets.meter import gigabytes
from lxmert.assets.places import Places
from lxmert.assets.stores import store_bytes
from lxmert.specs import load_plan

# Everything made here that can be.
FROM_RAW = {"features": "extract", "weights": "pretrain", "detector": "train", "annotations": "rebuild"}
_SUMS = {
    "assets": "assets",
    "bytes": "to fetch",
    "missing_bytes": "missing",
    "disk_bytes": "unpacked",
    "store_bytes": "stores",
}


def listing(catalogue: Catalogue, places: Places) -> dict[str, list[dict[str, Any]]]:
    """`assets`, a row for each, and `totals`, a row for each target in both extremes of the branches."""
    records = Lock(places.lock_file).read()
    rows = [_row(asset, places, records.get(asset.id)) for asset in catalogue.assets.values()]
    return {"assets": rows, "totals": list(_totals(catalogue, rows))}


def _row(asset: Asset, places: Places, record: Record | None) -> dict[str, Any]:
    return {
        "id": asset.id,
        "what": asset.what,
        "bytes": asset.download_bytes,
        "exact": asset.bytes is not None,
        "disk_bytes": asset.unpacked_bytes,
        "state": state(asset, places, record),
        "needed_by": list(asset.needed_by),
        "only_if": dict(asset.only_if),
        "licence": asset.licence,
        "gate": asset.gate,
        "by_hand": not asset.fetchable,
        "checksum": "published" if asset.sha256 else "recorded" if record else "at first fetch",
    }


def _totals(catalogue: Catalogue, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    states = {row["id"]: row["state"] for row in rows}
    plan = load_plan({"corpus": "full", "tasks": list(TASKS)})
    for branches in (DEFAULT_BRANCHES, FROM_RAW):
        names = (
            ("features", "weights") if branches is DEFAULT_BRANCHES else ("features", "weights", "detector")
        )
        for targets in (*([name] for name in TARGETS), list(TASKS)):
            needed = catalogue.needed(targets, branches)
            missing = [asset for asset in needed if states[asset.id] != "ready"]
            yield {
                "target": "all tasks" if len(targets) > 1 else targets[0],
                "branch": ", ".join(f"{name}: {branches[name]}" for name in names),
                "assets": len(needed),
                "bytes": sum(asset.download_bytes for asset in needed),
                "missing_bytes": sum(asset.download_bytes for asset in missing),
                "disk_bytes": sum(asset.unpacked_bytes for asset in needed),
                "store_bytes": store_bytes(plan, targets, branches),
            }


def listing_text(found: dict[str, list[dict[str, Any]]]) -> str:
    """The same as lines for a person."""
    rows = found["assets"]
    lines = [f"{'asset':34s} {'size':>8s}  {'state':10s} {'needed by':28s} licence"]
    for row in rows:
        needed = ", ".join(row["needed_by"]) or "-"
        how = "by hand" if row["by_hand"] and row["state"] == "missing" else row["state"]
        size = ("" if row["exact"] else "~") + gigabytes(row["bytes"])
        lines.append(f"{row['id']:34s} {size:>8s}  {how:10s} {needed:28s} {row['licence']}")
    lines += ["", _total_line("target", "branch", _SUMS)]
    for total in found["totals"]:
        sums = {name: total[name] if name == "assets" else gigabytes(total[name]) for name in _SUMS}
        lines.append(_total_line(total["target"], total["branch"], sums))
    lines += [
        "",
        f"{len(rows)} assets. Sizes without a published figure are about right; ~ marks them. Archives lie"
        " beside their content while it is unpacked, one at a time; stores are made of what was fetched.",
    ]
    return "\n".join(lines)


def _total_line(target: str, branch: str, sums: dict[str, Any]) -> str:
    return f"{target:9s} {branch:55s} " + " ".join(f"{sums[name]:>8}" for name in _SUMS)
