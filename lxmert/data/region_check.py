"""Whether a region store still is what was written, record by record."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.data.region_builder import DROP_BYTES, content_digest
from lxmert.data.region_merge import checked_record
from lxmert.data.region_record import damaged, decode_record, dump_json, rebuild
from lxmert.data.region_store import RegionStore
from lxmert.errors import DataError
from lxmert.progress import track


def check_store(path: str | Path) -> dict[str, Any]:
    """Reads every record and compares checksums; returns {"count", "digest", "payload_bytes"}.

    Raises:
        DataError: the file is damaged; the first bad image is named.
    """
    store = RegionStore(path)
    where = str(path)
    count = len(store)
    ids = np.array(store.ids.array)
    unsorted = np.flatnonzero(ids[1:] <= ids[:-1])
    if len(unsorted):
        raise damaged(where, store.ids[int(unsorted[0]) + 1], "it is out of order in the index")
    payload_bytes = read_bytes = 0
    schema = store.schema
    for position in track(range(count), count, "images", label="verify"):
        record = checked_record(store, position)
        regions = decode_record(record, 0, store.ids[position], where)
        if regions.features.shape[1] != schema.feature_width or not 1 <= len(regions) <= schema.max_boxes:
            raise damaged(where, store.ids[position], "its record does not fit the schema")
        payload_bytes += len(record)
        read_bytes += len(record)
        del record, regions
        if read_bytes >= DROP_BYTES:
            read_bytes = 0
            store.close()
    _check_sums(store, ids, payload_bytes)
    return {"count": count, "digest": store.digest, "payload_bytes": payload_bytes}


def _check_sums(store: RegionStore, ids: np.ndarray[Any, Any], payload_bytes: int) -> None:
    """Compares what the index says of the whole with the whole."""
    provenance = hashlib.sha256(dump_json(store.provenance).encode()).hexdigest()
    for what, found, written in (
        ("digest", content_digest(store.schema.to_json(), ids, store.hashes), store.digest),
        ("payload size", payload_bytes, store.payload_bytes),
        ("provenance", provenance, store.contents["provenance_sha256"]),
    ):
        if found != written:
            raise DataError(
                f"{store.path}: damaged ({what} is {found}, was written as {written}); {rebuild(store.path)}"
            )


def check_store_apart(path: str | Path) -> dict[str, Any]:
    """As `check_store`, in a process of its own.

    LMDB trusts its page tree: one wrong page number makes it read outside the map, which kills the process.

    Raises:
        DataError: the file is damaged, or so damaged that it killed the reader.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_check_and_send, args=(str(path), sender))
    process.start()
    sender.close()
    try:
        result, message = receiver.recv()
    except EOFError:
        process.join()
        raise DataError(
            f"{path}: damaged (its page tree leads outside the file, reader ended with {process.exitcode}); "
            f"{rebuild(path)}"
        ) from None
    finally:
        receiver.close()
    process.join()
    if message:
        raise DataError(message)
    return dict(result)


def _check_and_send(path: str, sender: Connection) -> None:
    try:
        outcome: tuple[Iterable[tuple[str, Any]], str] = (tuple(check_store(path).items()), "")
    except DataError as error:
        outcome = ((), str(error))
    sender.send(outcome)
    sender.close()
