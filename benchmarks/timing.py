"""How every benchmark here measures: candidates take turns in one process, and only ratios are claimed.

Threads are pinned, each candidate runs once to warm up, and the median of the rest counts. Each round starts
with another candidate, so that none always follows the same one. A figure goes into `results.json` under its
benchmark's name with spread, ratio and peak memory; `benchmarks/run.py` makes `results.md` of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")
_CORES = len(os.sched_getaffinity(0))  # before a benchmark keeps to fewer
_results: Path | None = RESULTS  # where figures go; None: nowhere


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate over the counted rounds, and the most memory resident meanwhile.

    The memory is the process's: what all candidates hold throughout counts for each of them.
    """

    median: float
    low: float
    high: float
    peak_mb: float = 0.0

    @classmethod
    def of(cls, seconds: Sequence[float], peak_mb: float = 0.0) -> Timing:
        """Median and range of some measurements."""
        return cls(statistics.median(seconds), min(seconds), max(seconds), peak_mb)


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Arguments, with the options that every benchmark has; sets where figures go."""
    global _results
    parser.add_argument("--threads", type=int, default=_CORES)
    parser.add_argument(
        "--tiny", action="store_true", help="sizes of seconds, to see that it runs; keeps no figures"
    )
    args = parser.parse_args()
    _results = None if args.tiny else RESULTS
    return args


def pin(threads: int) -> None:
    """Fixes PyTorch's threads and keeps the process on as many cores.

    Imports torch; benchmarks of data alone need not call it.
    """
    import torch

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    torch.set_num_threads(threads)


def alternate(
    candidates: Mapping[str, Callable[[], object]], repeats: int = 5, warmup: int = 1
) -> dict[str, Timing]:
    """Runs the candidates in turn, every round starting one further on.

    Args:
        candidates: what to time, by name.
        repeats: counted rounds.
        warmup: rounds before them that do not count.
    """
    names = list(candidates)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    peaks = dict.fromkeys(names, 0.0)
    for number in range(warmup + repeats):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            reset_peak_memory()
            began = time.perf_counter()
            candidates[name]()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - began)
            peaks[name] = max(peaks[name], peak_memory_mb())
    return {name: Timing.of(values, peaks[name]) for name, values in seconds.items()}


def ratio(timings: Mapping[str, Timing], slower: str, faster: str) -> dict[str, float]:
    """How many times faster `faster` is: ratio of medians, and the least and most the ranges allow."""
    ours, theirs = timings[faster], timings[slower]
    return {
        "median": theirs.median / ours.median,
        "low": theirs.low / ours.high,
        "high": theirs.high / ours.low,
    }


def reset_peak_memory() -> None:
    """Starts the count of :func:`peak_memory_mb` anew, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Largest resident memory of this process since the last reset, or since it began."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def machine() -> str:
    """Processor and number of cores."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    return f"{name}, {_CORES} cores"


def commit() -> str:
    """Short name of the commit that is measured, with a plus sign if files differ from it; "" without git."""
    git = ["git", "-C", str(RESULTS.parent)]
    try:
        name = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", ":(top)", ":(exclude)results.*"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return name.stdout.strip() + ("+" if changed.stdout.strip() else "")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that were used."""
    names = ("numpy", "torch", "torchvision", "transformers", "detectron2", "lmdb", "msgpack")
    used = {name: sys.modules[name] for name in names if name in sys.modules}
    found = {name: getattr(module, "__version__", "") for name, module in used.items()}
    found = {name: str(version) for name, version in found.items() if isinstance(version, str) and version}
    return {"python": platform.python_version(), **found}


def record(
    benchmark: str,
    claim: str,
    figure: float,
    bar: float | None,
    unit: str = "x",
    timings: Mapping[str, Timing] | None = None,
    spread: Mapping[str, float] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Prints one figure and keeps it in `results.json`, in place of an earlier one of the same name.

    Tiny runs print only.

    Args:
        benchmark: file stem of the benchmark, a slash and a short name: "bench_store/one_read".
        claim: what the figure says, one line.
        figure: the ratio (or share) measured.
        bar: what it must reach; None for a figure without one.
        unit: "x" for a ratio, "%" for a share of 1 printed in percent, or a unit; "" for a bare number.
        timings: the candidates' seconds.
        spread: the figure's `low` and `high`, as `ratio` gives them.
        notes: anything else worth keeping, say {"peak_memory_mb": {...}}.
    """
    result = {
        "claim": claim,
        "figure": figure,
        "bar": bar,
        "unit": unit,
        "seconds": {name: asdict(timing) for name, timing in (timings or {}).items()},
        "spread": None if spread is None else [spread["low"], spread["high"]],
        "notes": dict(notes or {}),
        "peak_memory_mb": max(
            (timing.peak_mb for timing in (timings or {}).values()), default=peak_memory_mb()
        ),
        "machine": machine(),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "commit": commit(),
        "versions": versions(),
    }
    print(f"{benchmark}: {format_figure(result)}  {claim}", flush=True)
    for name, note in result["notes"].items():
        print(f"    {name}: {note}", flush=True)
    if _results is None:
        return
    results = json.loads(_results.read_text()) if _results.exists() else {}
    results[benchmark] = result
    temporary = _results.with_name(f"{_results.name}.tmp-{os.getpid()}")
    temporary.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    os.replace(temporary, _results)


def format_figure(result: Mapping[str, Any]) -> str:
    """A figure with its range and bar, as the tables show it."""
    percent = result["unit"] == "%"

    def show(value: float) -> str:
        if percent:
            return f"{value:.2%}"
        return f"{value:.2f}{result['unit']}" if result["unit"] else f"{value:.2g}"

    text = show(result["figure"])
    if result["spread"]:
        text += f" ({show(result['spread'][0])} to {show(result['spread'][1])})"
    if result["bar"] is not None:
        text += f", bar {show(result['bar'])}"
    return text
