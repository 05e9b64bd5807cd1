"""Object and attribute vocabularies counted in Visual Genome's raw files, for detectors of your own."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from lxmert.detector.vg_data import read_split, read_vocabulary
from lxmert.detector.vg_vocabulary import count_names, join_aliases, vocabulary_lines
from lxmert.errors import DataError, SpecError
from lxmert.files import atomic_write_text
from lxmert.progress import count

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `vg-vocabulary`."""
    parser.add_argument("--raw", type=Path, required=True, help="folder of scene_graphs and attributes.json")
    parser.add_argument("--split", type=Path, help="count the images of this split file only")
    parser.add_argument("--object-aliases", type=Path, help="Visual Genome's object_alias.txt, or alike")
    parser.add_argument(
        "--attribute-aliases", type=Path, help="Visual Genome's attribute_alias.txt, or alike"
    )
    parser.add_argument("--objects", type=int, default=1600, help="classes to keep")
    parser.add_argument("--attributes", type=int, default=400, help="classes to keep")
    parser.add_argument("--least", type=int, default=1, help="leave out what occurs less often")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two vocabularies")


def run(args: argparse.Namespace) -> None:
    """Writes `objects_vocab.txt` and `attributes_vocab.txt`.

    Raises:
        DataError: a file is missing or malformed, or nothing is left.
    """
    for name in ("objects", "attributes", "least"):
        if getattr(args, name) < 1:
            raise SpecError(f"--{name} {getattr(args, name)}: must be 1 or more.")
    images = set(read_split(args.split)) if args.split else None
    aliases = {
        name: read_vocabulary(path) if path else None
        for name, path in (("objects", args.object_aliases), ("attributes", args.attribute_aliases))
    }
    counts = count_names(args.raw, images)
    written = {}
    for name in ("objects", "attributes"):
        classes = join_aliases(getattr(counts, name), aliases[name])
        lines = vocabulary_lines(classes, getattr(args, name), args.least)
        if not lines:
            file = "scene_graphs" if name == "objects" else name
            raise DataError(
                f"{args.raw / file}.json: no name occurs {args.least} times in the images counted."
            )
        written[name] = lines
        total = sum(getattr(counts, name).values())
        kept = sum(sum(classes[line.partition(",")[0]].values()) for line in lines)
        log.info(
            "%s: %d of %s classes, %.1f %% of %s labels", name, len(lines), count(len(classes)),
            100 * kept / total, count(total),
        )  # fmt: skip
    for name, lines in written.items():
        atomic_write_text(args.out / f"{name}_vocab.txt", "\n".join(lines) + "\n")
