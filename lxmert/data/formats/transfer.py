"""Between region stores and other forms: one image at a time, whatever the size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lxmert import __version__
from lxmert.data.formats.forms import Reader, Writer
from lxmert.data.region_builder import DROP_BYTES, StoreBuilder
from lxmert.data.region_cut import Cut, in_proposal_order, ranked
from lxmert.data.region_record import StoreSchema, encode_id, encode_record
from lxmert.data.region_store import RegionStore
from lxmert.errors import DataError
from lxmert.files import atomic_path
from lxmert.progress import Progress, track
from lxmert.types import Regions


def schema_from_documents(profile: dict[str, Any], size: dict[str, Any], dtype: str | None) -> StoreSchema:
    """The schema of a store that holds what a detector of that size gives under a profile.

    Class scores are left to who knows whether there are any.

    Args:
        profile: an extraction profile document.
        size: a detector size document.
        dtype: "float16" or "float32" instead of what the profile says.
    """
    return StoreSchema(
        feature_width=size["head"]["channels"],
        feature_dtype=dtype or profile["store"]["dtype"],
        max_boxes=profile["selection"]["max_boxes"],
        object_classes=size["classes"]["objects"],
        attribute_classes=size["classes"]["attributes"],
        profile=profile,
    )


def import_store(reader: Reader, out: str | Path, schema: StoreSchema) -> str:
    """Writes a region store from a foreign form in constant memory; returns its digest.

    Records keep the order of the source. An import that was killed leaves nothing and starts again.

    Args:
        reader: what to read.
        out: the store to write.
        schema: what the images must fit; class scores are kept if the source has them.

    Raises:
        DataError: an image is malformed, appears twice or does not fit; its place is named.
    """
    schema = replace(schema, class_scores=reader.class_scores)
    progress = Progress(reader.total, reader.unit, "import")
    images, buffer = 0, bytearray()
    with atomic_path(out) as temporary:
        builder = StoreBuilder(temporary, Path(out), schema)
        try:
            for where, image_id, regions in reader:
                if image_id in builder:
                    raise DataError(f"{where}: image {image_id} appears twice; remove one of the two.")
                encoded = encode_id(image_id, where)
                builder.add(encoded, encode_record(image_id, regions, schema, where, buffer))
                images += 1
                progress.advance(reader.done - progress.done)
            if not images:
                raise DataError(f"{reader.path}: holds no images; fetch it again.")
            digest = builder.close(
                {
                    "imported_from": reader.describe(),
                    "profile": schema.profile_name,
                    "code_version": __version__,
                    "quarantined": [],
                }
            )
        finally:
            builder.abort()
    progress.close()
    return digest


@dataclass(frozen=True)
class Exported:
    """How many images were written, and the least and most boxes of one."""

    images: int
    least: int
    most: int


def export_store(store: RegionStore, writer: Writer, cut: Cut | None = None, by_id: bool = False) -> Exported:
    """Writes a store in a foreign form in constant memory; returns what was written.

    Args:
        store: what to read.
        writer: not yet entered.
        cut: which boxes are written; None writes all.
        by_id: images in id order; otherwise in the order the store was written in, which for an imported
            store is that of its source. Forms that prescribe an order go by theirs.

    Raises:
        DataError: the store is damaged or lacks what the form needs, or the disk is full.
    """
    if cut is not None:
        cut.check(store.schema, str(store.path))
    order = writer.order(list(store.ids))
    if order is None:
        order = (np.arange(len(store)) if by_id else store.stored_order()).tolist()
    proposals = in_proposal_order(store.schema)
    # Given boxes stand in their giver's order, by which other files refer to them.
    rank = writer.ranked and store.schema.profile.get("given_boxes") != "regions"
    read_bytes, counts = 0, set()
    with writer:
        for position in track(order, len(order), "images", label="export"):
            regions = store.regions_at(position)
            read_bytes += sum(getattr(value, "nbytes", 0) for value in vars(regions).values())
            try:
                if cut is not None:
                    regions = regions.take(cut.rows(regions.selection_scores, proposals))
                if rank:
                    regions = _best_first(regions, proposals and cut is None)
            except ValueError as error:
                raise DataError(f"{store.path}: image {store.ids[position]} {error}.") from error
            writer.put(store.ids[position], regions)
            counts.add(len(regions))
            del regions
            if read_bytes >= DROP_BYTES:
                read_bytes = 0
                store.close()
    return Exported(len(order), min(counts, default=0), max(counts, default=0))


def _best_first(regions: Regions, proposals: bool) -> Regions:
    scores = regions.selection_scores
    if np.isnan(scores).any():
        raise ValueError(
            "has no selection scores, by which this form is ordered; imported TSV files have none: extract it"
        )
    if not proposals and (scores[1:] <= scores[:-1]).all():
        return regions
    return regions.take(ranked(scores, proposals))
