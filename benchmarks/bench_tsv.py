"""TSV to region store beside bare base64 decoding plus writing, and the peak memory of the import.

Prints ratios from one run: candidates take turns, one round to warm up, then the median and range of the
rest. Every candidate ends with its file flushed to the disk. Run from the root of a checkout:

    OMP_NUM_THREADS=1 python benchmarks/bench_tsv.py
"""

from __future__ import annotations

import argparse
import binascii
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from lxmert.data.formats.transfer import import_store, schema_from_documents
from lxmert.data.formats.tsv import write_row
from lxmert.data.formats.tsv_form import Rows
from lxmert.specs.documents import read_document
from lxmert.types import Regions

ARRAY_COLUMNS = (3, 4, 5, 6, 8, 9)


def write_tsv(path: Path, rows: int) -> None:
    """Rows of 36 boxes, as LXMERT published them."""
    rng = np.random.default_rng(0)
    with open(path, "wb") as handle:
        for number in range(rows):
            corners = np.sort(rng.random((36, 2, 2)), axis=1) * (640, 480)
            regions = Regions(
                boxes_px=corners.reshape(36, 4).astype(np.float32),
                features=np.maximum(rng.standard_normal((36, 2048), np.float32), 0),
                object_ids=rng.integers(0, 1600, 36),
                object_scores=rng.random(36, np.float32),
                attribute_ids=rng.integers(0, 400, 36),
                attribute_scores=rng.random(36, np.float32),
                selection_scores=np.full(36, np.nan, np.float32),
                width=640,
                height=480,
            )
            write_row(handle, f"COCO_train2014_{number:012d}", regions, "lxmert")


def decode_and_write(tsv: Path, out: Path) -> None:
    """The yardstick: the standard library's decoder and one plain file."""
    with open(tsv, "rb") as source, open(out, "wb") as target:
        for line in source:
            fields = line.rstrip().split(b"\t")
            for column in ARRAY_COLUMNS:
                target.write(binascii.a2b_base64(fields[column]))
        target.flush()
        os.fsync(target.fileno())


def run_import(tsv: Path, out: Path, dtype: str) -> None:
    """The import as the command line does it."""
    profile, detector = read_document("profile", "lxmert-36"), read_document("detector_size", "full")
    import_store(Rows(tsv, "lxmert"), out, schema_from_documents(profile, detector, dtype))


def main() -> None:
    """Builds, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--import-only", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.import_only:
        run_import(args.import_only, args.import_only.with_suffix(".peak"), "float16")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        measure(Path(name), args.rows, args.rounds)


def measure(folder: Path, rows: int, rounds: int) -> None:
    """Times the candidates in turn, then the memory of imports of two sizes."""
    tsv = folder / "a.tsv"
    write_tsv(tsv, rows)
    size = tsv.stat().st_size
    print(f"numpy {np.__version__}, {rows} rows of 36 x 2048, {size / 1e6:.0f} MB")
    seconds: dict[str, list[float]] = {"bare decoding and writing": [], "float16": [], "float32": []}
    for number in range(rounds + 1):
        for candidate, values in seconds.items():
            out = folder / "out"
            out.unlink(missing_ok=True)
            began = time.perf_counter()
            if candidate.startswith("bare"):
                decode_and_write(tsv, out)
            else:
                run_import(tsv, out, candidate)
            if number:
                values.append(time.perf_counter() - began)
    bare = statistics.median(seconds["bare decoding and writing"])
    for candidate, values in seconds.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(
            f"  {candidate:26s} {size / middle / 1e6:7.0f} MB/s of TSV ({size / high / 1e6:.0f} to "
            f"{size / low / 1e6:.0f}), speed / bare {bare / middle:.2f} (bar 0.80)"
        )
    short = folder / "short.tsv"
    write_tsv(short, max(1, rows // 10))
    for path in (short, tsv):
        command = [sys.executable, __file__, "--import-only", str(path)]
        peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"  peak memory, {path.stat().st_size / 1e6:6.0f} MB of TSV: {peak:.0f} MB (bar 500)")


if __name__ == "__main__":
    main()
