"""Listings of images of which only the features are here."""

from __future__ import annotations

from pathlib import Path

from lxmert.data.images import choose_subset
from lxmert.data.region_store import RegionStore
from lxmert.errors import DataError
from lxmert.files import atomic_write_json


def write_store_listing(
    image_set: str, store: Path, only: set[str] | None, subset: int | None, out: Path
) -> int:
    """Writes a listing of the images of a region store and returns how many it holds.

    Its `folder` is null and its images have no `file`: whoever needs pixels is told so by their absence.

    Args:
        image_set: its name.
        store: the region store.
        only: keep these ids; each must be there.
        subset: keep at most so many.
        out: JSON file to write.

    Raises:
        DataError: the store cannot be read, or an id of `only` has no features.
    """
    with RegionStore(store) as regions:
        ids = list(regions.ids)
    if only is not None:
        absent = sorted(only - set(ids))
        if absent:
            raise DataError(
                f"{store}: {len(absent)} images of {image_set} have no features, first: {absent[:5]}."
            )
        ids = [image_id for image_id in ids if image_id in only]
    chosen = choose_subset(ids, subset)
    images = [{"id": image_id, "file": None} for image_id in sorted(chosen)]
    atomic_write_json(out, {"image_set": image_set, "folder": None, "subset": subset, "images": images})
    return len(images)
