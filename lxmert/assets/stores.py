"""How large the region stores become that a target reads, whichever way its features come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lxmert.assets.asset import TASKS
from lxmert.assets.catalogue import expand_targets
from lxmert.data.region_record import layout
from lxmert.specs import Plan

# The page of the database: a record fills whole pages, and its first 16 bytes are the database's own.
_PAGE_BYTES, _PAGE_HEADER_BYTES = 4096, 16
_ITEM_BYTES = {"float16": 2, "float32": 4}
_FEATURE_WIDTH = 2048


def store_bytes(plan: Plan, targets: Iterable[str], branches: Mapping[str, str]) -> int:
    """Size of the region stores of targets and of the stages they stand on, about.

    Args:
        plan: of the published corpus, with every task.
        targets: tasks, or stages such as `pretrain`.
        branches: what is downloaded and what is made.
    """
    profile = plan.detector["profile"]
    item_bytes = _ITEM_BYTES[profile["store"]["dtype"]]
    _, record = layout(profile["selection"]["max_boxes"], _FEATURE_WIDTH, item_bytes)
    image_bytes = -(-(record + _PAGE_HEADER_BYTES) // _PAGE_BYTES) * _PAGE_BYTES
    reading = [name for name in expand_targets(targets, branches) if name in (*TASKS, "pretrain")]
    sets = dict.fromkeys(name for target in reading for name in plan.image_sets(target))
    return sum(plan.image_set(name)["images"] * image_bytes for name in sets)
