"""Resident memory of a training's data: what the store and the questions cost, by workers and start method.

A loader runs over a large data set and over a tiny one, in a process of its own; meanwhile the process and
all its workers are added up, anonymous and shared memory in proportion (PSS), without the page cache, which
the system takes back when it needs it. What a worker costs by itself (Python, PyTorch, the batches on their
way) is the same over both, so the difference is what the data costs.

    OMP_NUM_THREADS=1 python benchmarks/bench_resident.py [--images 20000 --questions 500000]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from big_data import write_store, write_task
from timing import parse, record

WORKERS = (0, 2, 8)
METHODS = ("fork", "spawn", "forkserver")
TINY = (40, 400)  # images, questions
STEPS = 24
BAR_MB = 64.0
KINDS = ("Pss_Anon", "Pss_Shmem")


def resident_mb(process: int) -> float:
    """Anonymous and shared memory of a process and all it started, in proportion, without the page cache."""
    total = 0.0
    for one in (process, *_started(process)):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:  # it ended meanwhile
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(KINDS))
    return total / 1024


def _started(process: int) -> list[int]:
    """The children of a process, and theirs."""
    try:
        tasks = Path(f"/proc/{process}/task").glob("*/children")
        children = [int(child) for task in tasks for child in task.read_text().split()]
    except OSError:
        return []
    return [*children, *(later for child in children for later in _started(child))]


def run_loader(folder: Path, workers: int) -> float:
    """The most that is resident, looked at after each batch."""
    from lxmert.data.batching import Examples, FinetuneBatches
    from lxmert.data.regions import RegionSource
    from lxmert.training.stream import stream

    regions = RegionSource([folder / "mscoco_train2014.lmdb"])
    train = Examples([folder / "examples/train.safetensors"], regions, regions.feature_width, True)
    batches = FinetuneBatches(train, 3129, 8, 3)
    return max(resident_mb(os.getpid()) for _ in stream(batches, 0, STEPS, workers))


def run_apart(folder: Path, method: str, workers: int) -> float:
    """The same in a fresh process whose workers start by `method`."""
    paths = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        __file__,
        "--folder",
        str(folder),
        "--method",
        method,
        "--workers",
        str(workers),
    ]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def write_data(folder: Path, images: int, questions: int, width: int = 2048) -> None:
    """A store and examples of a size."""
    write_store(folder / "mscoco_train2014.lmdb", images, width)
    write_task(folder / "examples", "mscoco_train2014", images, questions)


def main() -> None:
    """Writes both data sets, measures every way and records the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--questions", type=int, default=500_000)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    args = parse(parser)
    if args.folder:
        multiprocessing.set_start_method(args.method)
        print(json.dumps(run_loader(args.folder, args.workers)))
        return
    methods, counts = METHODS, WORKERS
    if args.tiny:
        args.images, args.questions = 2 * TINY[0], 2 * TINY[1]
        methods, counts = METHODS[:1], WORKERS[:1]
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        tiny, large = Path(name, "tiny"), Path(name, "large")
        write_data(tiny, *TINY)
        write_data(large, args.images, args.questions)
        store_mb = sum(file.stat().st_size for file in large.rglob("*") if file.is_file()) / 2**20
        found = {
            f"{method}, {workers} workers": (
                run_apart(tiny, method, workers),
                run_apart(large, method, workers),
            )
            for workers in counts
            for method in (methods if workers else METHODS[:1])
        }
    record(
        "bench_resident/data",
        f"Most that {args.images:,} images and {args.questions:,} questions add to resident memory",
        max(after - before for before, after in found.values()),
        BAR_MB,
        " MB",
        notes={
            "data on disk": f"{store_mb:,.0f} MB",
            **{name: f"{after:.0f} MB, tiny data {before:.0f} MB" for name, (before, after) in found.items()},
        },
    )


if __name__ == "__main__":
    main()
