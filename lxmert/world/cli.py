"""The verb ``generate``: draw the embedded corpus and write its official raw files."""

from __future__ import annotations

import argparse
from pathlib import Path

from lxmert.specs.jobs import read_job_spec
from lxmert.world.generate import generate_world


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("--spec", required=True, help="world spec as JSON, or @file.json")
    parser.add_argument("--out-root", required=True, type=Path, help="raw folder to write")
    parser.add_argument("--out-manifest", required=True, type=Path, help="manifest, written last")


def run(args: argparse.Namespace) -> None:
    """Write the world."""
    generate_world(
        read_job_spec(args.spec), args.out_root, args.out_manifest, workers=getattr(args, "workers", 0)
    )
