"""Train a WordPiece vocabulary on the questions, captions, phrases and sentences of raw files."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxmert.data.raw_json import any_records
from lxmert.data.wordpiece import read_vocabulary, train_vocabulary, write_vocabulary
from lxmert.errors import DataError
from lxmert.progress import track
from lxmert.specs import read_job_spec

log = logging.getLogger(__name__)

_FIELDS = frozenset({"question", "caption", "phrase", "sentence"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `vocabulary`."""
    parser.add_argument("--spec", default="{}", help="job spec as JSON, or @file: size, train, min_count")
    parser.add_argument("--texts", required=True, nargs="+", type=Path, help="official raw files, any form")
    parser.add_argument("--out", required=True, type=Path, help="vocab.txt to write")


def run(args: argparse.Namespace) -> None:
    """Trains a vocabulary, or with `"train": false` checks the one given and takes it as it is."""
    spec = read_job_spec(args.spec)
    if spec.get("train", True):
        size = int(spec.get("size", 2000))
        texts = track(read_texts(sorted(args.texts)), None, "texts", "vocabulary")
        tokens = train_vocabulary(texts, size, int(spec.get("min_count", 2)))
    else:
        tokens = read_vocabulary(args.texts[0]).tokens
        if "size" in spec and len(tokens) != spec["size"]:
            raise DataError(
                f"{args.texts[0]}: holds {len(tokens)} tokens where {spec['size']} are expected."
                " Fetch the file again, or correct the corpus document."
            )
    write_vocabulary(tokens, args.out)
    log.info("%s: %d tokens", args.out, len(tokens))


def read_texts(paths: list[Path]) -> Iterator[str]:
    """Every text of the files, wherever in a record it stands."""
    for path in paths:
        for record in any_records(path):
            yield from _texts(record)


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _texts(item)
    elif isinstance(node, dict):
        for name, value in node.items():
            if name in _FIELDS and isinstance(value, str):
                yield value
            elif isinstance(value, (dict, list)):
                yield from _texts(value)
