"""Describe a region store, or check every record of it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lxmert.data.region_store import RegionStore
from lxmert.progress import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `store`."""
    parser.add_argument("action", choices=("info", "verify"), help="info reads one page, verify every record")
    parser.add_argument("store", type=Path, metavar="PATH", help="a region store (.lmdb)")
    parser.add_argument("--json", action="store_true", help="info as one JSON object")


def run(args: argparse.Namespace) -> None:
    """Runs the verb.

    Raises:
        DataError: the file is no region store, or it is damaged.
    """
    if args.action == "verify":
        from lxmert.data.region_check import check_store_apart

        found = check_store_apart(args.store)
        print(f"{args.store}: {count(found['count'])} images, every checksum right, digest {found['digest']}")
        return
    with RegionStore(args.store) as store:
        described = describe(store)
    if args.json:
        print(json.dumps(described, indent=4, sort_keys=True))
        return
    width = max(map(len, described))
    for name, value in described.items():
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        sys.stdout.write(f"{name:{width}s}  {text}\n")


def describe(store: RegionStore) -> dict[str, object]:
    """What `store info` prints, in its order."""
    schema, contents = store.schema, store.contents
    size = store.fingerprint()["size"]
    provenance = store.provenance
    return {
        "path": str(store.path),
        "images": len(store),
        "files": len(getattr(store, "files", [store.path])),
        "quarantined": len(provenance.get("quarantined", [])),
        "first id": store.ids[0] if len(store) else "",
        "last id": store.ids[len(store) - 1] if len(store) else "",
        "features": f"{schema.feature_dtype}, {schema.feature_width} wide, at most {schema.max_boxes} boxes",
        "classes": f"{schema.object_classes} objects, {schema.attribute_classes} attributes",
        "profile": f"{schema.profile_name}, version {schema.profile.get('version', '?')}",
        "format": f"{contents['format']} {contents['version']}",
        "size_bytes": size,
        "payload_bytes": store.payload_bytes,
        "size_per_payload": round(size / store.payload_bytes, 4) if store.payload_bytes else None,
        "digest": store.digest,
        "profile document": schema.profile,
        "provenance": provenance,
    }
