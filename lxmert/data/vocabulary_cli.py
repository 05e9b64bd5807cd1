"""Train a WordPiece vocabulary on the questions, captions, phrases and sentences of raw files."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxmert.data.raw_json import any_records
from lxmert.data.wordpiece import train_vocabulary, write_vocabulary
from lxmert.progress import track
from lxmert.specs import read_job_spec

log = logging.getLogger(__name__)

_FIELDS = frozenset({"question", "caption", "phrase", "sentence"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `vocabulary`."""
    parser.add_argument(
        "--spec", default="{}", help="job spec as JSON, or @file: vocabulary_size, min_pair_count"
    )
    parser.add_argument(
        "--texts", required=True, nargs="+", type=Path, help="official raw files, any of their forms"
    )
    parser.add_argument("--out", required=True, type=Path, help="vocab.txt to write")


def run(args: argparse.Namespace) -> None:
    """Writes the vocabulary."""
    spec = read_job_spec(args.spec)
    texts = track(read_texts(sorted(args.texts)), None, "texts", "vocabulary")
    tokens = train_vocabulary(
        texts, int(spec.get("vocabulary_size", 2000)), int(spec.get("min_pair_count", 2))
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
