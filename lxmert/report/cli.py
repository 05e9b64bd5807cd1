"""Scores, curves and example panels as one page; scores as a table, printed and as a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lxmert.errors import SpecError
from lxmert.files import atomic_write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `report`."""
    parser.add_argument("--results", type=Path, help="folder that holds one folder a run")
    parser.add_argument("--runs", nargs="+", help="runs to report, in this order; by default all that ended")
    parser.add_argument("--detector", type=Path, help="the detector's results; RESULTS/detector by default")
    parser.add_argument("--examples", nargs="+", type=Path, default=[], help="each task's folder of examples")
    parser.add_argument("--listings", nargs="+", type=Path, default=[], help="listings, to show images")
    parser.add_argument("--features", nargs="+", type=Path, default=[], help="region stores, to draw boxes")
    parser.add_argument("--objects", type=Path, help="object vocabulary: what object ids of the stores mean")
    parser.add_argument("--attributes", type=Path, help="attribute vocabulary")
    parser.add_argument("--panels", type=int, default=8, help="example panels of a split")
    parser.add_argument("--out", type=Path, help="the page")
    parser.add_argument("--out-table", type=Path, help="the table of scores, tab-separated")
    parser.add_argument("--out-text", type=Path, help="the table of scores as it is printed")
    parser.add_argument("--out-figures", type=Path, help="folder for the figures as PNG")
    parser.add_argument("--print-only", type=Path, metavar="TABLE", help="print a table made before, no more")


def run(args: argparse.Namespace) -> None:
    """Prints the table; writes page, table and figures."""
    from lxmert.report.tables import plain_text, read_table

    if args.print_only is not None:
        sys.stdout.write(plain_text(read_table(args.print_only)))
        return
    if args.results is None or args.out is None:
        raise SpecError("report: --results and --out are needed, or --print-only with a table made before.")
    if args.panels < 0:
        raise SpecError(f"--panels {args.panels}: must be 0 or more.")
    from lxmert.report.build import ReportInputs, write_report

    inputs = ReportInputs(
        results=args.results,
        runs=args.runs,
        detector=args.detector,
        examples=args.examples,
        listings=args.listings,
        features=args.features,
        objects=args.objects,
        attributes=args.attributes,
        panels=args.panels,
    )
    text = plain_text(write_report(inputs, args.out, args.out_table, args.out_figures))
    if args.out_text is not None:
        atomic_write_text(args.out_text, text)
    sys.stdout.write(text)
