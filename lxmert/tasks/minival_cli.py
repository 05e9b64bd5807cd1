"""Draw images of COCO val2014 for selecting weights on, where LXMERT's list of them cannot be had."""

from __future__ import annotations

import argparse
import hashlib
import logging
from pathlib import Path

from lxmert.data.raw_json import list_records
from lxmert.errors import DataError
from lxmert.files import atomic_write_json
from lxmert.progress import count
from lxmert.tasks.records import field, numbered

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `draw-minival`."""
    parser.add_argument("--questions", required=True, type=Path, help="VQA's questions on val2014")
    parser.add_argument("--number", type=int, default=5000, help="how many images")
    parser.add_argument("--out", required=True, type=Path, help="JSON list of image numbers")


def run(args: argparse.Namespace) -> None:
    """Writes the list."""
    drawn = draw_minival(args.questions, args.number)
    atomic_write_json(args.out, drawn)
    log.info("%s images drawn from %s", count(len(drawn)), args.questions)


def draw_minival(questions: Path, number: int) -> list[int]:
    """Image numbers, ascending: those that come first by a hash, so the same ones everywhere.

    Raises:
        DataError: the file is faulty, or has too few images.
    """
    images = {
        field(record, "image_id", int, place)
        for place, record in numbered(list_records(questions, "questions"), questions)
    }
    if len(images) <= number:
        raise DataError(
            f"{questions}: asks about {count(len(images))} images, of which {count(number)} cannot be drawn."
            " Put the whole file there."
        )
    return sorted(
        sorted(images, key=lambda image: hashlib.sha256(f"minival {image}".encode()).digest())[:number]
    )
