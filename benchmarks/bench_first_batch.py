"""From the command to the first training batch, beside parsing LXMERT's TSV as its code does.

20,000 images of 36 x 2048 and 500,000 questions. Reading a TSV takes time in proportion to its rows, so it is
measured on `--rows` of them (2,000) and multiplied up to 20,000. Ours is measured whole, twice: from the
moment when the data is asked for, in this process and taking turns with the TSV; and from the moment when
`lxmert finetune` is typed, with Python and PyTorch to import.

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
from big_data import ANSWERS, BOXES, RECIPE, draw_regions, image_name, task_job, write_store, write_task
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
    """What `finetune` does with its data before its first step, without the model."""
    from lxmert.data.answers import read_answers
    from lxmert.data.batching import Examples, FinetuneBatches
    from lxmert.data.regions import RegionSource
    from lxmert.data.wordpiece import read_vocabulary
    from lxmert.training.finetune import FinetuneInputs

    store, examples = folder / "mscoco_train2014.lmdb", folder / "examples"
    inputs = FinetuneInputs([store], examples, examples / "vocab.txt", None, None)
    inputs.fingerprints(["train", "valid"])
    regions = RegionSource([store])
    train = Examples([inputs.split("train")], regions, regions.feature_width, True)
    Examples([inputs.split("valid")], regions, regions.feature_width)
    read_vocabulary(inputs.vocabulary)
    answers = read_answers(examples / "answers.json")
    batch = FinetuneBatches(train, len(answers), int(str(RECIPE["global_batch"])), 3).batch(0)
    assert batch.features.shape[:2] == (32, BOXES) and len(answers) == ANSWERS


def from_the_command(folder: Path, state: Path) -> float:
    """Seconds from starting `lxmert finetune` to its first batch, as the process itself reports."""
    stop = (
        "import sys, time; from lxmert.data.batching import FinetuneBatches; from lxmert.cli import main\n"
        "real = FinetuneBatches.batch\n"
        "def batch(self, step):\n"
        "    made = real(self, step); print(time.time(), flush=True); import os; os._exit(0)\n"
        "FinetuneBatches.batch = batch; main(sys.argv[1:])"
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
    command = [sys.executable, "-c", stop, "--threads", "1", "finetune", *words]
    began = time.time()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1]) - began


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
    typed = Timing.of([from_the_command(folder, folder / f"state{number}") for number in range(repeats)])
    ours, tsv = timings["ours"], timings["TSV"]
    shown = f"{rows:,} rows parsed in {part.median:.1f} s, times {times:g}"
    data = f"{IMAGES:,} images and {QUESTIONS:,} questions"
    record(
        "bench_first_batch/data",
        f"First training batch of {data}, once PyTorch is imported, against parsing the TSV",
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
        timings={"TSV": tsv, "ours": typed},
        spread={"low": tsv.low / typed.high, "high": tsv.high / typed.low},
        notes={"TSV": shown, "first batch": f"{typed.median:.2f} s, nearly all of it importing PyTorch"},
    )


if __name__ == "__main__":
    main()
