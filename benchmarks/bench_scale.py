"""Preparing, opening and submitting a million questions: what grows with their number.

Official files of two sizes are generated, GQA's submission split (272 questions an image), shards to train
on, and the pretraining corpus; each step runs in a process of its own, whose peak memory counts. The larger
file must not need more than a few bytes a question beyond the smaller: 8 for a hash that finds repeated ids,
8 to sort them.

    OMP_NUM_THREADS=1 python benchmarks/bench_scale.py [--questions 1000000]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from many_questions import write_genome, write_gqa, write_vocabulary
from timing import parse, record

from lxmert.data.answers import read_answers
from lxmert.data.columns import Columns
from lxmert.specs import load_plan
from lxmert.tasks import task_spec
from lxmert.tasks.check_cli import check_submission
from lxmert.tasks.prepare_cli import prepare
from lxmert.tasks.submission import write_submission

BAR_BYTES = 64.0  # a question; held as objects of Python it would be a thousand


def prepare_gqa(folder: Path) -> None:
    """GQA's files to examples."""
    _prepare(task_spec("gqa", {}), folder)


def prepare_pretraining(folder: Path) -> None:
    """The pretraining corpus to examples."""
    _prepare(task_spec("pretrain", {}), folder)


def _prepare(task: dict[str, Any], folder: Path) -> None:
    listings = sorted((folder / "raw/listings").glob("*.json"))
    spec = {"max_tokens": 20, "min_answer_count": 1}
    prepare(task, spec, folder / "raw", folder / "vocab.txt", listings, folder / "examples")


def submit(folder: Path) -> None:
    """A submission of answers drawn at random, written, read back and checked."""
    examples = Columns(folder / "examples/submit.safetensors")
    answers = read_answers(folder / "examples/answers.json")
    predicted = np.random.default_rng(0).integers(0, len(answers), len(examples))
    write_submission(task_spec("gqa", {}), examples, answers, predicted, folder / "submit_predict.json", {})


def check(folder: Path) -> None:
    """The same file checked against the questions, as one that came from elsewhere."""
    number = check_submission(task_spec("gqa", {}), "submit", folder / "submit_predict.json", folder / "raw")
    assert number == len(Columns(folder / "examples/submit.safetensors"))


def prepare_train_all(folder: Path) -> None:
    """As many questions to train on, in ten shards, to examples."""
    plan = load_plan({"tasks": ["gqa"], "train_on": {"gqa": ["train_all", "valid"]}})
    task = plan.example_document("gqa")
    splits = {name: part for name, part in task["splits"].items() if name != "submit"}
    _prepare({**task, "splits": splits}, folder)


def open_examples(path: Path, examples: int = 5) -> float:
    """Median seconds from a path to the token ids and image keys of 32 questions."""
    taken = []
    for number in range(examples):
        began = time.perf_counter()
        columns = Columns(path)
        rows = np.random.default_rng(number).integers(0, len(columns), 32)
        columns.ragged("input_ids").take(rows)
        names, images = columns.strings("images"), columns.array("image")
        assert all(names[int(image)] for image in images[rows])
        taken.append(time.perf_counter() - began)
    return sorted(taken)[len(taken) // 2]


STEPS: dict[str, Callable[[Path], None]] = {
    "prepare_gqa": prepare_gqa,
    "prepare_pretraining": prepare_pretraining,
    "submit": submit,
    "check": check,
    "prepare_train_all": prepare_train_all,
}
GQA_STEPS = ["prepare_gqa", "submit", "check", "prepare_train_all"]
WRITERS: dict[str, Callable[[Path, int], list[Path]]] = {"gqa": write_gqa, "pretraining": write_genome}


def run_apart(step: str, folder: Path) -> dict[str, float]:
    """One step in a process of its own: its `seconds` and `peak_mb`."""
    paths = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def write_files(corpus: str, folder: Path, count: int) -> None:
    """Raw files of a size, and the vocabulary."""
    folder.mkdir(parents=True)
    write_vocabulary(folder / "vocab.txt")
    WRITERS[corpus](folder / "raw", count)


def measure(root: Path, corpus: str, steps: list[str], sizes: tuple[int, int]) -> dict[str, Any]:
    """Peaks of each step at both sizes, bytes a question between them, the time to open the larger file."""
    found: dict[str, Any] = {}
    for size in sizes:
        write_files(corpus, root / f"{corpus}-{size}", size)
    for step in steps:
        small, large = (run_apart(step, root / f"{corpus}-{size}") for size in sizes)
        growth = (large["peak_mb"] - small["peak_mb"]) * 2**20 / (sizes[1] - sizes[0])
        found[step] = {"small": small, "large": large, "bytes": growth}
    name = "submit" if corpus == "gqa" else "train"
    found["open_seconds"] = open_examples(root / f"{corpus}-{sizes[1]}/examples/{name}.safetensors")
    return found


def main() -> None:
    """Generates, measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=1_000_000)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parse(parser)
    if args.step:
        began = time.perf_counter()
        STEPS[args.step](args.folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": time.perf_counter() - began, "peak_mb": peak}))
        return
    if args.tiny:
        args.questions = 2000
    sizes = (args.questions // 10, args.questions)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        for corpus, steps in (("gqa", GQA_STEPS), ("pretraining", ["prepare_pretraining"])):
            found = measure(Path(name), corpus, steps, sizes)
            for step in steps:
                small, large = found[step]["small"], found[step]["large"]
                record(
                    f"bench_scale/{step}",
                    f"{step.replace('_', ' ')}: memory a question from {sizes[0]:,} to {sizes[1]:,} of them",
                    max(found[step]["bytes"], 0.0),
                    BAR_BYTES,
                    " bytes",
                    notes={
                        "peak_memory_mb": {
                            f"{size:,}": round(part["peak_mb"])
                            for size, part in zip(sizes, (small, large), strict=True)
                        },
                        "seconds": round(large["seconds"], 1),
                        "questions per second": round(sizes[1] / large["seconds"]),
                    },
                )
            claim = f"open {sizes[1]:,} examples of {corpus} and read 32 of them"
            record(f"bench_scale/open_{corpus}", claim, found["open_seconds"] * 1000, 50.0, " ms")


if __name__ == "__main__":
    main()
