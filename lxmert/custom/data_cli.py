"""Read your own examples: checked, split by image, and written as the graph reads them."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxmert.custom.coverage import coverage, coverage_lines
from lxmert.custom.data import OwnData, own_data_spec, read_own_data
from lxmert.custom.folder import link_images
from lxmert.custom.lines import SPLITS, Line
from lxmert.errors import DataError
from lxmert.files import atomic_path, atomic_write_json, atomic_write_text, sha256_file
from lxmert.progress import count
from lxmert.specs.jobs import read_job_spec

log = logging.getLogger(__name__)

NEEDS = ("seed", "shares/valid", "shares/test", "images_per_example", "test_answers", "min_answer_count")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `own-data`."""
    parser.add_argument("--spec", required=True, help="job spec as JSON, or @file")
    parser.add_argument("--examples", required=True, type=Path, help="your file of JSON lines")
    parser.add_argument("--images", required=True, type=Path, help="your folder of images")
    parser.add_argument("--out-root", required=True, type=Path, help="gets <split>.json and links in images/")
    parser.add_argument("--out-images", required=True, type=Path, help="which images they are, as JSON")
    parser.add_argument(
        "--out-manifest", required=True, type=Path, help="counts and answer coverage, as JSON"
    )
    parser.add_argument("--out-text", type=Path, help="the same in words")


def run(args: argparse.Namespace) -> None:
    """Writes the splits, links to their images, and what the answer vocabulary covers."""
    spec = read_job_spec(args.spec, needs=NEEDS)
    data = read_own_data(args.examples, args.images, own_data_spec(spec))
    ids = sorted({image for split in SPLITS for _, images in data.questions(split) for image in images})
    report = _coverage(data, int(spec["min_answer_count"]))
    link_images(data.folder, ids, args.out_root / "images")
    splits = {split: _write_split(data, split, args.out_root / f"{split}.json") for split in SPLITS}
    text = [
        *(
            f"{split}: {count(part['questions'])} questions on {count(part['images'])} images"
            for split, part in splits.items()
        ),
        *([f"{count(data.folder.unused)} images are named by no line"] if data.folder.unused else []),
        *coverage_lines(report),
    ]
    for line in text:
        log.info("%s", line)
    if args.out_text is not None:
        atomic_write_text(args.out_text, "".join(f"{line}\n" for line in text))
    # Last, since what follows is made anew when they change.
    atomic_write_json(args.out_images, _digest(data, ids))
    atomic_write_json(args.out_manifest, {"splits": splits, "coverage": report})


def _write_split(data: OwnData, split: str, path: Path) -> dict[str, Any]:
    """Writes one record a line, in the order of the file; returns counts and checksum."""
    images: set[str] = set()
    questions = 0
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as handle:
        separator = "["
        for record in _records(data, split):
            images.update(record["images"])
            questions += 1
            handle.write(separator + json.dumps(record, ensure_ascii=False, sort_keys=True))
            separator = ",\n"
        handle.write("]\n")
    return {"questions": questions, "images": len(images), "sha256": sha256_file(path)}


def _records(data: OwnData, split: str) -> Iterator[dict[str, Any]]:
    for line, ids in data.questions(split):
        record: dict[str, Any] = {"id": line.id, "question": line.question, "images": list(ids)}
        yield record | ({"answers": list(line.answers)} if line.answers is not None else {})


def _coverage(data: OwnData, min_count: int) -> dict[str, Any]:
    def answers(lines: Iterator[tuple[Line, tuple[str, ...]]]) -> list[tuple[str, ...]]:
        return [line.answers for line, _ in lines if line.answers is not None]

    found = {split: answers(data.questions(split)) for split in SPLITS}
    report = coverage({split: given for split, given in found.items() if given}, min_count)
    if not report["answers_kept"]:
        raise DataError(
            f"{data.path}: no answer is the commonest one of {min_count} training questions."
            " Lower custom/min_answer_count."
        )
    return report


def _digest(data: OwnData, ids: list[str]) -> dict[str, Any]:
    """Which images are there, short however many: it changes when one is added, removed or replaced."""
    digest = hashlib.sha256()
    for image_id in ids:
        status = data.folder.path(image_id).stat()
        digest.update(f"{image_id} {status.st_size} {status.st_mtime_ns}\n".encode())
    return {"folder": str(data.folder.folder), "images": len(ids), "sha256": digest.hexdigest()}
