"""Region features between TSV files and region stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lxmert import __version__
from lxmert.data.region_builder import DROP_BYTES, StoreBuilder
from lxmert.data.region_record import StoreSchema, encode_id, encode_record
from lxmert.data.region_store import RegionStore
from lxmert.data.tsv import TsvReader, write_row
from lxmert.errors import DataError
from lxmert.files import atomic_path
from lxmert.progress import Progress, track

_MEGABYTE = 1_000_000


def schema_from_documents(profile: dict[str, Any], size: dict[str, Any], dtype: str | None) -> StoreSchema:
    """The schema of a store that holds what a detector of that size gives under a profile.

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


def import_tsv(tsv: str | Path, out: str | Path, schema: StoreSchema, columns: str = "lxmert") -> str:
    """Writes a region store from a TSV file in constant memory; returns its digest.

    Records keep the order of the file. An import that was killed leaves nothing and starts again: the
    checksum of the file, which goes into the provenance, has to be computed over all of it anyway.

    Args:
        tsv: the file to read.
        out: the store to write.
        schema: what the rows must fit.
        columns: "lxmert" or "butd".

    Raises:
        DataError: a row is malformed, appears twice or does not fit; file and line are named.
    """
    reader = TsvReader(tsv, columns)
    progress = Progress(reader.size() // _MEGABYTE, "MB", "import")
    rows, buffer = 0, bytearray()
    with atomic_path(out) as temporary:
        builder = StoreBuilder(temporary, Path(out), schema)
        try:
            for line, image_id, regions in reader:
                where = f"{tsv}:{line}"
                if image_id in builder:
                    raise DataError(f"{where}: image {image_id} appears twice; remove one of the two lines.")
                encoded = encode_id(image_id, where)
                builder.add(encoded, encode_record(image_id, regions, schema, where, buffer))
                rows += 1
                progress.advance(reader.bytes_read // _MEGABYTE - progress.done)
            if not rows:
                raise DataError(f"{tsv}: holds no rows; fetch the file again.")
            source = {
                "file": Path(tsv).name,
                "bytes": reader.bytes_read,
                "sha256": reader.sha256,
                "columns": columns,
                "rows": rows,
            }
            digest = builder.close(
                {
                    "imported_from": source,
                    "profile": schema.profile_name,
                    "code_version": __version__,
                    "quarantined": [],
                }
            )
        finally:
            builder.abort()
    progress.close()
    return digest


def export_tsv(
    store_path: str | Path,
    out: str | Path,
    columns: str = "lxmert",
    line_end: bytes = b"\r\n",
    by_id: bool = False,
) -> int:
    """Writes a store as TSV in constant memory; returns the number of rows.

    Args:
        store_path: the store to read.
        out: the file to write.
        columns: "lxmert" or "butd".
        line_end: CRLF as the published files have it, or LF.
        by_id: rows in id order; otherwise in the order the store was written in, which for an imported
            store is that of the file it came from.

    Raises:
        DataError: the store is damaged or lacks object ids, or the disk is full.
    """
    store = RegionStore(store_path)
    order = np.arange(len(store)) if by_id else store.stored_order()
    read_bytes = 0
    with atomic_path(out) as temporary, open(temporary, "wb", buffering=1 << 20) as handle:
        for position in track(order.tolist(), len(order), "images", label="export"):
            regions = store.regions_at(position)
            write_row(handle, store.ids[position], regions, columns, line_end)
            read_bytes += regions.features.nbytes
            del regions
            if read_bytes >= DROP_BYTES:
                read_bytes = 0
                store.close()
    return len(order)
