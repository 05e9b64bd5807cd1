"""What the graph knows of a published file: a small receipt instead of gigabytes.

Snakemake removes the outputs of a job before it runs again and after it fails. Published files are no
outputs of any rule, so that nothing the engine does can cost one of them; their receipts are. A receipt
holds no dates and no mirrors, so that one written again is the same and makes nothing run again.

    {"asset": "vqa_questions_val", "places": {"raw/vqa/….json": {"bytes": 1, "sha256": "…"}}}
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from lxmert.assets.asset import Asset
from lxmert.assets.inventory import slots
from lxmert.assets.lock import Lock, Record
from lxmert.assets.places import Places
from lxmert.files import atomic_write_json, sha256_file

log = logging.getLogger(__name__)


def is_brought(asset: Asset, places: Places, needed: Sequence[str]) -> bool:
    """Whether a person brought all that is needed of an asset, made files without what they are made of."""
    made = [entry["place"] for entry in asset.derived]
    return bool(needed) and set(needed) <= set(made) and all(places.path(place).is_file() for place in needed)


def write_receipt(asset: Asset, places: Places, out: Path, also: Collection[str] = ()) -> None:
    """Writes what there is of an asset, recorded or a person's own, left-out members only where asked for."""
    recorded = (Lock(places.lock_file).record(asset.id) or {}).get("places", {})
    entries: dict[str, Record] = {
        slot.place: recorded.get(slot.place) or slot.measure()
        for slot in slots(asset, places, also)
        if slot.is_there()
    }
    for entry in asset.derived:
        path = places.path(entry["place"])
        if path.is_file():
            entries[entry["place"]] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    atomic_write_json(out, {"asset": asset.id, "places": entries})
