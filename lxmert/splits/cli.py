"""Show which photographs of each split training has seen, and prove that results are of unseen ones."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from lxmert.errors import DataError
from lxmert.files import atomic_write_json, atomic_write_text
from lxmert.specs import read_job_spec
from lxmert.splits.overlap import Row, overlap, table_lines
from lxmert.splits.photographs import Photographs, read_twins
from lxmert.splits.registry import read_splits

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `overlap`."""
    parser.add_argument("--spec", required=True, help="job spec as JSON, or @file")
    parser.add_argument(
        "--examples", required=True, nargs="+", type=Path, help="folders, each named as its task"
    )
    parser.add_argument("--raw", required=True, type=Path, help="folder of the raw files")
    parser.add_argument("--out", required=True, type=Path, help="JSON file to write")
    parser.add_argument("--out-text", type=Path, help="the same as a table")


def run(args: argparse.Namespace) -> None:
    """Writes the table; fails where a result would be of photographs that were learnt from."""
    spec = read_job_spec(args.spec, needs=("tasks", "pretraining", "detector", "image_data"))
    twins = read_twins(args.raw / spec["image_data"]) if spec["image_data"] else {}
    examples = {folder.name: folder for folder in args.examples}
    splits = read_splits(spec, examples, args.raw, Photographs(twins))
    rows = overlap(splits)
    notes = {seen.stage: seen.what for split in splits for seen in split.seen[:-1]}
    lines = table_lines(rows, {**notes, "fine-tuning": "the same task's training splits"})
    for line in lines:
        log.info("%s", line)
    if args.out_text is not None:
        atomic_write_text(args.out_text, "".join(f"{line}\n" for line in lines))
    leaking = [row for row in rows if row.leaks]
    if leaking:
        text = "; ".join(f"{row.task} {row.split}: {_shared(row)}" for row in leaking)
        raise DataError(
            f"{args.examples[0].parent}: results would be of photographs that were learnt from: {text}."
            " Take these out of training, or make no result of them."
        )
    atomic_write_json(args.out, {"splits": [row.to_json() for row in rows], "seen": notes})


def _shared(row: Row) -> str:
    return ", ".join(f"{row.shared[stage]} in {stage}" for stage in row.leaks)
