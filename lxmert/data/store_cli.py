"""Describe a region store, check every record of it, or turn it into another project's form and back."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lxmert.data import transfer_cli
from lxmert.data.region_store import RegionStore
from lxmert.progress import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `store`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="info|verify|import|export")
    info = actions.add_parser("info", help="what a store holds and how it was made; reads one page")
    verify = actions.add_parser("verify", help="reads every record and compares checksums")
    for action in (info, verify):
        action.add_argument("store", type=Path, metavar="PATH", help="a region store (.lmdb)")
    info.add_argument("--json", action="store_true", help="as one JSON object")
    transfer_cli.add_import(actions.add_parser("import", help="a store from another form"))
    transfer_cli.add_export(actions.add_parser("export", help="another form from a store"))


def run(args: argparse.Namespace) -> None:
    """Runs the verb.

    Raises:
        DataError: a file is no region store or malformed, or it is damaged.
        SpecError: there is no such profile, detector or cut.
    """
    if args.action in ("import", "export"):
        transfer_cli.run(args)
        return
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
        "classes": f"{schema.object_classes} objects, {schema.attribute_classes} attributes"
        + (", every class's score kept" if schema.class_scores else ""),
        "profile": f"{schema.profile_name}, version {schema.profile.get('version', '?')}",
        "format": f"{contents['format']} {contents['version']}",
        "size_bytes": size,
        "payload_bytes": store.payload_bytes,
        "size_per_payload": round(size / store.payload_bytes, 4) if store.payload_bytes else None,
        "digest": store.digest,
        "profile document": schema.profile,
        "provenance": provenance,
    }
