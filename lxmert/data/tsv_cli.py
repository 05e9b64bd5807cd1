"""Turn published TSV features into a region store, or a store into TSV."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path

from lxmert.progress import count

log = logging.getLogger(__name__)

LINE_ENDS = {"crlf": b"\r\n", "lf": b"\n"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `tsv`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="import|export")
    into = actions.add_parser("import", help="TSV to region store")
    into.add_argument("--tsv", required=True, type=Path, help="the file to read")
    into.add_argument("--out", required=True, type=Path, help="the store to write")
    into.add_argument("--profile", default="lxmert-36", help="extraction profile the features were made with")
    into.add_argument("--detector", default="full", help="size of the detector that made them")
    into.add_argument("--like", type=Path, help="take profile, widths and classes from this store instead")
    into.add_argument(
        "--dtype", choices=("float16", "float32"), help="of the stored features; default: the profile's"
    )
    out = actions.add_parser("export", help="region store to TSV")
    out.add_argument("--store", required=True, type=Path, help="the store to read")
    out.add_argument("--out", required=True, type=Path, help="the file to write")
    out.add_argument("--line-end", choices=sorted(LINE_ENDS), default="crlf", help="as published: crlf")
    out.add_argument("--order", choices=("stored", "id"), default="stored", help="order of the rows")
    for action in (into, out):
        action.add_argument(
            "--columns",
            choices=("lxmert", "butd"),
            default="lxmert",
            help="whose: LXMERT's or BUTD's",
        )


def run(args: argparse.Namespace) -> None:
    """Runs the verb.

    Raises:
        DataError: the file or store is malformed.
        SpecError: there is no such profile or detector.
    """
    from lxmert.data.region_store import RegionStore
    from lxmert.data.tsv_store import export_tsv, import_tsv, schema_from_documents
    from lxmert.specs.documents import read_document

    if args.action == "export":
        rows = export_tsv(args.store, args.out, args.columns, LINE_ENDS[args.line_end], args.order == "id")
        log.info("%s: %s rows", args.out, count(rows))
        return
    if args.like:
        with RegionStore(args.like) as store:
            schema = store.schema
        if args.dtype:
            schema = dataclasses.replace(schema, feature_dtype=args.dtype)
    else:
        schema = schema_from_documents(
            read_document("profile", args.profile), read_document("detector_size", args.detector), args.dtype
        )
    digest = import_tsv(args.tsv, args.out, schema, args.columns)
    log.info("%s: digest %s", args.out, digest)
