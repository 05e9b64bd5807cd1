"""Shards of one extraction joined into one region store."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lxmert.data.region_builder import DROP_BYTES, sorted_provenance
from lxmert.data.region_parts import PART_BYTES, build_parts
from lxmert.data.region_record import StoreSchema, damaged, difference, record_slice, short
from lxmert.data.region_store import RegionStore
from lxmert.errors import DataError
from lxmert.progress import track

log = logging.getLogger(__name__)


def merge(
    parts: Sequence[str | Path],
    out: str | Path,
    expected_ids: Iterable[str] | None = None,
    part_bytes: int = PART_BYTES,
) -> str:
    """Joins shards of one extraction into one store, in id order; returns its digest.

    The file's bytes do not depend on the number or order of parts.

    Args:
        parts: stores that share schema and provenance, "quarantined" apart.
        out: final name of the joined store.
        part_bytes: a larger store is cut into files of at most this size, `out`, `out`.1 ...
        expected_ids: exactly these images must be there, as regions or quarantined. None: not checked.

    Raises:
        DataError: parts differ in profile or provenance, share an image, lack one or hold one too many.
    """
    if not parts:
        raise DataError(f"{out}: no parts to merge; name at least one.")
    stores = [RegionStore(part) for part in parts]
    schema, provenance = _common(stores)
    ids = np.concatenate([np.asarray(store.ids.array) for store in stores])
    order = np.argsort(ids, kind="stable")
    owners = np.repeat(np.arange(len(stores)), [len(store) for store in stores])
    starts = np.concatenate([[0], np.cumsum([len(store) for store in stores])])
    twice = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(twice):
        first, second = order[twice[0]], order[twice[0] + 1]
        raise DataError(
            f"{stores[owners[second]].path}: image {ids[first].decode()} "
            f"is in {stores[owners[first]].path} too; make the parts again from one listing."
        )
    if expected_ids is not None:
        _check_complete(Path(out), ids, provenance, expected_ids)

    def records() -> Iterator[tuple[bytes, memoryview]]:
        read_bytes = 0
        for index in track(order.tolist(), len(order), "images", label="merge"):
            store = stores[owners[index]]
            position = int(index - starts[owners[index]])
            record = checked_record(store, position)
            yield bytes(ids[index]), record.data
            read_bytes += len(record)
            if read_bytes >= DROP_BYTES:
                del record
                read_bytes = 0
                for each in stores:
                    each.close()

    digest, files = build_parts(Path(out), schema, records(), provenance, part_bytes)
    if files > 1:
        log.info("%s: %d files, %s to %s.%d", out, files, out, Path(out).name, files - 1)
    return digest


def checked_record(store: RegionStore, position: int) -> NDArray[np.uint8]:
    """Bytes of a record, once they are known to be what was written.

    Raises:
        DataError: they are not.
    """
    where, image_id = str(store.path), store.ids[position]
    block, offset = store.record(position)
    record = record_slice(block, offset, image_id, where)
    if hashlib.sha256(record.data).digest() != store.hashes[position].tobytes():
        raise damaged(where, image_id, "its checksum differs")
    return record


def _common(stores: list[RegionStore]) -> tuple[StoreSchema, dict[str, Any]]:
    """Schema and joined provenance of the parts."""
    first = stores[0]
    schema, provenance = first.schema, first.provenance
    quarantined: list[Any] = []
    for store in stores:
        if store.schema != schema:
            what = difference(schema.to_json(), store.schema.to_json(), str(first.path), str(store.path))
            raise DataError(f"{store.path}: mixed extractions: {what}; extract all parts with one profile.")
        other = store.provenance
        quarantined += other.get("quarantined", [])
        for name in sorted((provenance.keys() | other.keys()) - {"quarantined"}):
            if provenance.get(name) != other.get(name):
                raise DataError(
                    f"{store.path}: mixed extractions: {name} is {short(other.get(name))}, in {first.path} "
                    f"it is {short(provenance.get(name))}; extract all parts with the same weights and code."
                )
    return schema, sorted_provenance({**provenance, "quarantined": quarantined})


def _check_complete(
    out: Path, ids: np.ndarray[Any, Any], provenance: dict[str, Any], expected_ids: Iterable[str]
) -> None:
    expected = set(expected_ids)
    present = {encoded.decode("utf-8", "surrogatepass") for encoded in ids.tolist()}
    present |= {str(entry["id"]) for entry in provenance["quarantined"]}
    for wrong, what, remedy in (
        (expected - present, "have no regions in any part", "extract the missing shard again"),
        (
            present - expected,
            "are in the parts but not in the listing",
            "make parts and listing again from one folder",
        ),
    ):
        if wrong:
            first = ", ".join(sorted(wrong)[:5]) + (", ..." if len(wrong) > 5 else "")
            raise DataError(f"{out}: {len(wrong)} of {len(expected)} images {what}: {first}; {remedy}.")
