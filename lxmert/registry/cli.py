"""Compare scores with the values on record (compare), and fail where one is outside its tolerance (check)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from lxmert.errors import DataError, SpecError
from lxmert.files import atomic_write_json, atomic_write_text, read_json
from lxmert.registry.compare import OUTSIDE, compare, table
from lxmert.registry.entries import read_entries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `registry`."""
    actions = parser.add_subparsers(dest="action", required=True)
    make = actions.add_parser("compare", help="write our scores beside the values on record")
    make.add_argument("--corpus", required=True, help="whose values are compared")
    make.add_argument("--results", required=True, type=Path, help="folder with one folder a run")
    make.add_argument(
        "--runs", required=True, help='JSON: {"<run>": [stages whose settings are not the shipped ones]}'
    )
    make.add_argument("--out", required=True, type=Path, help="JSON file to write")
    make.add_argument("--out-text", required=True, type=Path, help="the same as a table")
    check = actions.add_parser("check", help="exit with status 2 where a score is outside its tolerance")
    check.add_argument("comparison", type=Path, help="what `compare` wrote")


def run(args: argparse.Namespace) -> None:
    """Compares or checks."""
    if args.action == "check":
        check(args.comparison)
        return
    comparisons = compare(read_entries(args.corpus), args.results, _runs(args.runs))
    text = table(comparisons)
    atomic_write_text(args.out_text, text)
    atomic_write_json(
        args.out, {"corpus": args.corpus, "comparisons": [item.record() for item in comparisons]}
    )
    print(text, end="")


def check(path: Path) -> None:
    """Ends well where every score of shipped settings is within its tolerance.

    Raises:
        DataError: one is outside, or the file is no comparison.
    """
    record = read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("comparisons"), list):
        raise DataError(f"{path}: no comparison of results. Make it again: snakemake registry")
    outside = [item for item in record["comparisons"] if item.get("status") == OUTSIDE]
    if outside:
        raise DataError(f"{path}: {'; '.join(map(_sentence, outside))}. See results/<run>/ for its curves.")


def _sentence(item: dict[str, Any]) -> str:
    return (
        f"{item['run']} {item['split']}: {item['metric']} {item['ours']:.2f} is outside"
        f" {item['value']:.2f} ± {item['tolerance']:.2f} ({item['source']})"
    )


def _runs(text: str) -> dict[str, list[str]]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise SpecError(
            f"--runs: not valid JSON: {error.msg}. Give what the graph gives this job."
        ) from error
    if not isinstance(value, dict) or not all(isinstance(stages, list) for stages in value.values()):
        raise SpecError('--runs: must be a JSON object such as {"vqa": []}.')
    return value
