"""Region stores from other projects' forms, and back."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import Any

from lxmert.data.formats.forms import FORM_NAMES, Form, Options, form_named
from lxmert.data.region_cut import Cut, parse_cut
from lxmert.data.region_record import StoreSchema
from lxmert.data.region_store import RegionStore
from lxmert.errors import DataError, SpecError
from lxmert.progress import count

log = logging.getLogger(__name__)

# Whose readers shape all images' arrays alike.
_ONE_COUNT = {"lxmert-tsv": "LXMERT", "vlp-hdf5": "VLP"}
LINE_ENDS = {"crlf": b"\r\n", "lf": b"\n"}
# Options of the forms: command line's name by `Options`' name.
_OPTIONS = {"line_end": "--line-end", "prefix": "--prefix", "database": "--database", "sizes": "--sizes"}


def add_import(parser: argparse.ArgumentParser) -> None:
    """Options of `store import`."""
    parser.add_argument("--form", required=True, help=f"what is read: {', '.join(FORM_NAMES)}")
    parser.add_argument("--source", required=True, type=Path, help="the file or folder to read")
    parser.add_argument("--out", required=True, type=Path, help="the store to write")
    parser.add_argument("--profile", help="extraction profile the features come from; default: lxmert-36")
    parser.add_argument(
        "--made-by",
        metavar="NAME",
        help="instead: a name for features that no profile describes, such as vlp",
    )
    parser.add_argument("--max-boxes", type=int, help="most boxes of an image; default: the profile's")
    parser.add_argument("--detector", default="full", help="size of the detector that made them")
    parser.add_argument("--like", type=Path, help="take profile, widths and classes from this store instead")
    parser.add_argument(
        "--dtype", choices=("float16", "float32"), help="of the stored features; default: the profile's"
    )
    parser.add_argument(
        "--sizes", type=Path,
        help="sizes of the images, which UNITER's and VLP's forms lack: COCO annotations, Visual Genome's"
        " image_data.json, or JSON lines of image, width, height",
    )  # fmt: skip
    parser.add_argument("--prefix", help="of UNITER's names of your own images; of VLP's files")


def add_export(parser: argparse.ArgumentParser) -> None:
    """Options of `store export`."""
    parser.add_argument("--form", required=True, help=f"what is written: {', '.join(FORM_NAMES)}")
    parser.add_argument("--store", required=True, type=Path, help="the store to read")
    parser.add_argument("--out", required=True, type=Path, help="the file or folder to write")
    parser.add_argument(
        "--cut",
        help="which boxes: a profile's name (lxmert-36), a number of best ones (36), or a cut document",
    )
    parser.add_argument(
        "--order", choices=("stored", "id"), default="stored", help="of the images, where the form has none"
    )
    parser.add_argument("--line-end", choices=sorted(LINE_ENDS), help="of TSV; as published: crlf")
    parser.add_argument("--prefix", help="of UNITER's names of numbered ones (vg), of VLP's files (regions)")
    parser.add_argument(
        "--database", help="UNITER's: feat_th0.2_max100_min10 (default), feat_numbb100 or all; _compressed"
    )


def run(args: argparse.Namespace) -> None:
    """Runs either.

    Raises:
        DataError: a file or store is malformed, or an option means nothing to the form.
        SpecError: there is no such profile, detector or cut.
    """
    form = form_named(args.form)
    options = _options(args, form)
    if args.action == "import":
        _import(args, form, options)
    else:
        _export(args, form, options)


def _options(args: argparse.Namespace, form: Form) -> Options:
    from lxmert.data.formats.sizes import ImageSizes

    values: dict[str, Any] = {}
    for name, option in _OPTIONS.items():
        value = getattr(args, name, None)
        if value is None:
            continue
        if name not in form.options:
            raise DataError(f"{option}: means nothing to {args.form}; leave it out.")
        values[name] = LINE_ENDS[value] if name == "line_end" else value
    if "sizes" in values:
        values["sizes"] = ImageSizes(values["sizes"])
    elif form.needs_sizes and args.action == "import":
        raise DataError(
            f"--sizes: is missing; {args.form} does not hold the images' sizes. Give COCO annotations, Visual"
            " Genome's image_data.json, or JSON lines of image, width, height."
        )
    return Options(**values)


def _import(args: argparse.Namespace, form: Form, options: Options) -> None:
    from lxmert.data.formats.transfer import import_store

    digest = import_store(form.reader(args.source, options), args.out, _schema(args))
    log.info("%s: digest %s", args.out, digest)


def _schema(args: argparse.Namespace) -> StoreSchema:
    from lxmert.data.formats.transfer import schema_from_documents
    from lxmert.specs.documents import read_document

    stated = [name for name in ("like", "profile", "made_by") if getattr(args, name)]
    if len(stated) > 1:
        one, other = (f"--{name.replace('_', '-')}" for name in stated[:2])
        raise SpecError(f"{one} and {other}: both say where the features come from; give one of them.")
    if args.made_by and args.max_boxes is None:
        raise SpecError(f"--made-by {args.made_by}: needs --max-boxes, the most boxes of an image.")
    if args.like:
        with RegionStore(args.like) as store:
            schema = store.schema
    else:
        profile = read_document("profile", args.profile or "lxmert-36")
        schema = schema_from_documents(profile, read_document("detector_size", args.detector), None)
    if args.made_by:
        schema = dataclasses.replace(schema, profile={"profile": args.made_by, "version": 1})
    if args.max_boxes is not None:
        schema = dataclasses.replace(schema, max_boxes=args.max_boxes)
    return dataclasses.replace(schema, feature_dtype=args.dtype) if args.dtype else schema


def _export(args: argparse.Namespace, form: Form, options: Options) -> None:
    from lxmert.data.formats.transfer import export_store

    store = RegionStore(args.store)
    if not store.schema.class_scores and args.form in ("uniter-npz", "uniter-img-db", "vlp-hdf5"):
        log.warning(
            "%s keeps no class scores: no %s, which pretraining reads; extract with a profile that has"
            " store: {class_scores: true}, such as uniter-10-100",
            args.store, "class files" if args.form == "vlp-hdf5" else "soft labels",
        )  # fmt: skip
    writer = form.writer(args.out, options, store.schema)
    done = export_store(store, writer, _cut(args.cut), args.order == "id")
    boxes = str(done.most) if done.least == done.most else f"{done.least} to {done.most}"
    kept = " before its cut" if args.form == "uniter-img-db" else ""
    log.info("%s: %s images of %s boxes%s", args.out, count(done.images), boxes, kept)
    if args.form in _ONE_COUNT and done.least != done.most:
        log.warning(
            "%s: %s's own reader takes one number of boxes only; here are %s", args.out,
            _ONE_COUNT[args.form], boxes,
        )  # fmt: skip


def _cut(text: str | None) -> Cut | None:
    """A cut from the command line.

    Raises:
        SpecError: it is none.
    """
    import yaml

    if text is None:
        return None
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"--cut {text}: not YAML ({' '.join(str(error).split())}).") from error
    if isinstance(document, str):
        document = {"rule": "profile", "profile": document}
    elif isinstance(document, int):
        document = {"rule": "top", "boxes": document}
    return parse_cut(document, "--cut")
