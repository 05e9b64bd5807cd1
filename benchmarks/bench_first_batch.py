"""From the command to the first training batch, beside parsing LXMERT's TSV as its code does.

20,000 images of 36 x 2048 and 500,000 questions. Reading a TSV takes time in proportion to its rows, so it is
measured on `--rows` of them (2,000) and multiplied up to 20,000. Ours is measured whole: from the moment
when the data is asked for, in this process and taking turns with the TSV; and from the moment when `lxmert
finetune` is typed, until the batch stands in memory and until the model takes it. In between PyTorch is
imported, which whoever parses a TSV has to do as well; that is not counted for the TSV.

    OMP_NUM_THREADS=1 python benchmarks/bench_first_batch.py
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from big_data import ANSWERS, BOXES, draw_regions, image_name, task_job, write_store, write_task
from timing import Timing, alternate, parse, record

from lxmert.data.formats.tsv import write_row

IMAGES, QUESTIONS = 20_000, 500_000
FIELDS = (
    *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
    *("num_boxes", "boxes", "features"),
)
ARRAYS: dict[str, tuple[type, tuple[int, ...]]] = {
    "objects_id": (np.int64, (BOXES,)),
    "objects_conf": (np.float32, (BOXES,)),
    "attrs_id": (np.int64, (BOXES,)),
    "attrs_conf": (np.float32, (BOXES,)),
    "boxes": (np.float32, (BOXES, 4)),
    "features": (np.float32, (BOXES, -1)),
}


def parse_tsv(path: Path) -> dict[str, dict[str, Any]]:
    """Every row as Python objects, by image: how such files are read where there is no region store."""
    csv.field_size_limit(sys.maxsize)
    found = {}
    with path.open() as handle:
        for row in csv.DictReader(handle, FIELDS, delimiter="\t"):
            item: dict[str, Any] = dict(row)
            for name in ("img_h", "img_w", "num_boxes"):
                item[name] = int(item[name])
            for name, (dtype, shape) in ARRAYS.items():
                item[name] = np.frombuffer(base64.b64decode(item[name]), dtype).reshape(shape)
            found[item["img_id"]] = item
    return found


def first_batch(folder: Path) -> None:
    """What `finetune` does with its data before it imports PyTorch."""
    from lxmert.training.finetune_data import FinetuneData, FinetuneInputs

    examples = folder / "examples"
    inputs = FinetuneInputs([folder / "mscoco_train2014.lmdb"], examples, examples / "vocab.txt")
    inputs.fingerprints(["train", "valid"])
    data = FinetuneData.open(task_job(), inputs)
    batch = data.batches.arrays(0)
    assert batch.features.shape[:2] == (32, BOXES) and len(data.answers) == ANSWERS


def from_the_command(folder: Path, state: Path) -> tuple[float, float]:
    """Seconds from starting `lxmert finetune` until its first batch stands, and until its model takes it.

    The process itself says when.
    """
    watch = (
        "import os, sys, time\n"
        "from lxmert.cli import main\n"
        "from lxmert.data.batching import FinetuneBatches\n"
        "arrays, batch = FinetuneBatches.arrays, FinetuneBatches.batch\n"
        "def made(self, step):\n"
        "    found = arrays(self, step); print(time.time(), 'torch' in sys.modules); return found\n"
        "def taken(self, step):\n"
        "    batch(self, step); print(time.time(), flush=True); os._exit(0)\n"
        "FinetuneBatches.arrays, FinetuneBatches.batch = made, taken; main(sys.argv[1:])"
    )
    options: dict[str, Any] = {
        "--spec": json.dumps(task_job()),
        "--features": folder / "mscoco_train2014.lmdb",
        "--examples": folder / "examples",
        "--vocabulary": folder / "examples/vocab.txt",
        "--state": state,
        **{f"--out-{name}": folder / name for name in ("weights", "last", "spec", "metrics", "history")},
    }
    words = [str(word) for pair in options.items() for word in pair]
    command = [sys.executable, "-c", watch, "--threads", "1", "finetune", *words]
    began = time.time()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    stood, *_, taken = done.stdout.splitlines()
    at, imported = stood.split()
    assert imported == "False", "the data was opened after PyTorch had been imported"
    return float(at) - began, float(taken) - began


def main() -> None:
    """Writes the files, measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000, help="rows of the TSV that is parsed")
    parser.add_argument("--repeats", type=int, default=3)
    args = parse(parser)
    if args.tiny:
        global IMAGES, QUESTIONS
        IMAGES, QUESTIONS = 60, 200
        args.rows, args.repeats = 4, 1
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        write_store(folder / "mscoco_train2014.lmdb", IMAGES)
        write_task(folder / "examples", "mscoco_train2014", IMAGES, QUESTIONS)
        rng = np.random.default_rng(0)
        with (folder / "part.tsv").open("wb") as handle:
            for row in range(args.rows):
                write_row(handle, image_name(row), draw_regions(rng), "lxmert")
        measure(folder, args.rows, args.repeats)


def measure(folder: Path, rows: int, repeats: int) -> None:
    """Both ways in turn; then the command, which imports what it needs."""
    candidates = {"TSV": lambda: parse_tsv(folder / "part.tsv"), "ours": lambda: first_batch(folder)}
    timings = alternate(candidates, repeats)
    times = IMAGES / rows
    part = timings["TSV"]
    timings["TSV"] = Timing(part.median * times, part.low * times, part.high * times, part.peak_mb)
    runs = [from_the_command(folder, folder / f"state{number}") for number in range(repeats)]
    typed, taken = (Timing.of(seconds) for seconds in zip(*runs, strict=True))
    ours, tsv = timings["ours"], timings["TSV"]
    shown = f"{rows:,} rows parsed in {part.median:.1f} s, times {times:g}"
    data = f"{IMAGES:,} images and {QUESTIONS:,} questions"
    record(
        "bench_first_batch/data",
        f"First training batch of {data}, once it is asked for, against parsing the TSV",
        tsv.median / ours.median,
        100.0,
        timings=timings,
        spread={"low": tsv.low / ours.high, "high": tsv.high / ours.low},
        notes={"TSV": shown, "first batch": f"{ours.median * 1000:.0f} ms"},
    )
    record(
        "bench_first_batch/command",
        f"First training batch of {data}, from typing the command, against parsing the TSV",
        tsv.median / typed.median,
        100.0,
        timings={"TSV": tsv, "ours": typed, "ours, taken by the model": taken},
        spread={"low": tsv.low / typed.high, "high": tsv.high / typed.low},
        notes={
            "TSV": shown,
            "first batch": f"stands after {typed.median:.2f} s, before PyTorch is imported",
            "taken by the model": f"after {taken.median:.2f} s, {tsv.median / taken.median:.0f} times sooner",
        },
    )


if __name__ == "__main__":
    main()
