"""What was fetched and proved whole, in data/assets.lock.json: the first copy decides for later ones.

    {"version": 1, "assets": {"vqa_questions_val": {
        "file": {"name": "vqa/v2_Questions_Val_mscoco.zip", "bytes": 1, "sha256": "…"},
        "from": "https://…", "recorded": "2026-03-01",
        "places": {"raw/vqa/….json": {"bytes": 1, "sha256": "…"},
                   "raw/coco/val2014": {"files": 40504, "bytes": 1, "sha256": "…", "names": "…"}}}}}

The checksum of a folder is that of its listing, one line `<sha256>  <bytes>  <path>` a file, sorted by
path; `names` is the same without the files' checksums, to be compared without reading them.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lxmert.assets.places import alone
from lxmert.errors import DataError, DownloadError
from lxmert.files import atomic_write_json, read_json
from lxmert.specs.checks import mistakes, schema

VERSION = 1
_REMEDY = "Restore it, or move it away; what is fetched is recorded anew."
Record = dict[str, Any]


class Lock:
    """The lock file; every change reads it again while holding it, so processes do not lose each other's."""

    def __init__(self, path: Path) -> None:
        """Takes the path; the file need not exist."""
        self.path = path

    def read(self) -> dict[str, Record]:
        """Records by asset.

        Raises:
            DataError: the file is no lock file of this version, or is damaged.
        """
        if not self.path.exists():
            return {}
        try:
            document = read_json(self.path)
        except RecursionError as error:
            raise DataError(f"{self.path}: nested too deeply. {_REMEDY}") from error
        if not isinstance(document, dict) or document.get("version") != VERSION:
            raise DataError(f"{self.path}: not a lock file of version {VERSION}. {_REMEDY}")
        found = mistakes(document, schema("asset_lock"), str(self.path))
        if found:
            raise DataError(f"{found[0]} {_REMEDY}")
        return dict(document["assets"])

    def record(self, asset: str) -> Record | None:
        """What is recorded of an asset."""
        return self.read().get(asset)

    def add(self, asset: str, file: Record | None, origin: str, places: dict[str, Record]) -> None:
        """Records an asset, keeping what is known of its other places.

        Raises:
            DownloadError: it differs from what was recorded before.
        """
        with alone(self.path.with_name(f".{self.path.name}.guard"), self.path.name):
            records = self.read()
            old = records.get(asset, {})
            for place, value in places.items():
                self.refuse_change(asset, place, old.get("places", {}).get(place), value)
            record = {
                "from": origin,
                "places": {**old.get("places", {}), **places},
                "recorded": old.get("recorded") or datetime.date.today().isoformat(),
            }
            if file or "file" in old:
                record["file"] = file or old["file"]
            if {**record, "from": None} == {**old, "from": None}:
                return
            records[asset] = record
            atomic_write_json(self.path, {"version": VERSION, "assets": records})

    def refuse_change(self, asset: str, what: str, old: Record | None, new: Record) -> None:
        """Nothing, or an error if a file differs from its record."""
        if old is not None and old.get("sha256") != new["sha256"]:
            raise DownloadError(self.change(asset, what, old, new["sha256"]))

    def change(self, asset: str, what: str, old: Record, sha256: str) -> str:
        """What to say of a file that differs from its record."""
        return (
            f"{asset}: {what} has sha256 {sha256[:16]}…, but {self.path} recorded {old['sha256'][:16]}…"
            f" ({old['bytes']} bytes). Use a copy that fits; only if its publisher says that the file was"
            f' replaced, remove "{asset}" from {self.path} and fetch again.'
        )


def listing_record(entries: Iterable[tuple[str, int, str]]) -> Record:
    """The record of a folder from (path, bytes, sha256) of its files."""
    ordered = sorted(entries)
    digest = hashlib.sha256()
    for path, length, sha256 in ordered:
        digest.update(f"{sha256}  {length}  {path}\n".encode())
    names = names_digest((path, length) for path, length, _ in ordered)
    size = sum(length for _, length, _ in ordered)
    return {"files": len(ordered), "bytes": size, "sha256": digest.hexdigest(), "names": names}


def names_digest(entries: Iterable[tuple[str, int]]) -> str:
    """Checksum of the names and sizes of a folder's files."""
    digest = hashlib.sha256()
    for path, length in sorted(entries):
        digest.update(f"{length}  {path}\n".encode())
    return digest.hexdigest()
