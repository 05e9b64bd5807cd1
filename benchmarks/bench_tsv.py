"""TSV to region store beside bare base64 decoding plus writing, and the peak memory of the import.

    python benchmarks/bench_tsv.py [--rows N]

Every candidate ends with its file flushed to the disk; one thread.
"""

from __future__ import annotations

import argparse
import binascii
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from timing import alternate, parse, peak_memory_mb, ratio, record

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
    """Builds and measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--import-only", type=Path, help=argparse.SUPPRESS)
    args = parse(parser)
    if args.import_only:
        run_import(args.import_only, args.import_only.with_suffix(".peak"), "float16")
        print(peak_memory_mb())
        return
    if args.tiny:
        args.rows, args.repeats = 20, 1
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        tsv = Path(name) / "a.tsv"
        write_tsv(tsv, args.rows)
        measure_speed(tsv, args.repeats)
        measure_memory(tsv, args.rows)


def measure_speed(tsv: Path, repeats: int) -> None:
    """Times the candidates in turn."""
    out, size = tsv.with_name("out"), tsv.stat().st_size

    def writing(write: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            out.unlink(missing_ok=True)
            write()

        return run

    timings = alternate(
        {
            "bare": writing(lambda: decode_and_write(tsv, out)),
            "float16": writing(lambda: run_import(tsv, out, "float16")),
            "float32": writing(lambda: run_import(tsv, out, "float32")),
        },
        repeats,
    )
    for dtype in ("float16", "float32"):
        spread = ratio(timings, "bare", dtype)
        record(
            f"bench_tsv/{dtype}",
            f"Speed of importing a TSV as {dtype}, of that of bare base64 decoding plus writing",
            spread["median"],
            0.8,
            "%",
            timings,
            spread,
            {"MB of TSV a second": f"{size / timings[dtype].median / 1e6:.0f}"},
        )


def measure_memory(tsv: Path, rows: int) -> None:
    """The peak of an import in a process of its own, and of one a tenth as long."""
    short = tsv.with_name("short.tsv")
    write_tsv(short, max(1, rows // 10))
    peaks = {}
    for path in (short, tsv):
        command = [sys.executable, __file__, "--import-only", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[f"{path.stat().st_size / 1e6:.0f} MB of TSV"] = float(done.stdout)
    notes = {what: f"{peak:.0f} MB" for what, peak in peaks.items()}
    claim = "Peak memory of importing a TSV; below the bar is better"
    record("bench_tsv/memory", claim, max(peaks.values()), 500.0, " MB", notes=notes)


if __name__ == "__main__":
    main()
