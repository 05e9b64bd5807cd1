"""Every benchmark runs, at sizes of seconds, and prints each of its figures; no speed is asked."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
# Benchmark -> options, packages of its reference, and what it must print figures of.
RUNS = {
    "bench_inference": ((), ("transformers",), ("vqa", "gqa", "ladder", "alone", "int8")),
    "bench_step": (("--part", "step", "curve", "tricks"), ("transformers",), ("step", "curve", "tricks")),
    "bench_input": ((), (), ("masking", "pieces", "path")),
    "bench_store": (
        (),
        ("msgpack", "msgpack_numpy"),
        ("one_read", "one_read_arrays", "one_copy", "batch", "loaded_batch", "memcpy", "file_size"),
    ),
    "bench_tsv": ((), (), ("float16", "float32", "memory")),
    "bench_first_batch": ((), (), ("data", "command")),
    "bench_resident": ((), (), ("data",)),
    "bench_scale": (
        (),
        (),
        (
            "prepare_gqa",
            "submit",
            "check",
            "prepare_train_all",
            "open_gqa",
            "prepare_pretraining",
            "open_pretraining",
        ),
    ),
    "bench_extract": ((), (), ("torchvision",)),
}


def run(name: str, *options: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(BENCHMARKS.parent), str(BENCHMARKS)]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("name", RUNS)
def test_a_benchmark_runs(name: str) -> None:
    options, packages, figures = RUNS[name]
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{name}'s reference needs {package}, which is not installed")
    results = BENCHMARKS / "results.json"
    before = results.read_bytes()
    printed = run(name, *options, "--tiny", "--threads", "1")
    # Memory that did not grow may come out a little below nothing.
    found = re.findall(rf"^{name}/(\w+): -?[\d.]", printed, re.MULTILINE)
    # A reference that is not installed leaves out a figure that this list does not name.
    assert [figure for figure in found if figure != "detectron2"] == list(figures)
    assert results.read_bytes() == before, "a tiny run keeps no figures"


def test_every_benchmark_is_run_here() -> None:
    assert sorted(RUNS) == sorted(path.stem for path in BENCHMARKS.glob("bench_*.py"))


def test_the_table_is_made_of_the_results(tmp_path: Path) -> None:
    run("run", "--table", "--table-file", str(tmp_path / "results.md"))
    written = (tmp_path / "results.md").read_text()
    results = json.loads((BENCHMARKS / "results.json").read_text())
    assert written == (BENCHMARKS / "results.md").read_text()
    assert all(f"| {name} |" in written for name in results)
