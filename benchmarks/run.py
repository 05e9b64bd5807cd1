"""Runs every benchmark and writes what they found to `results.md` and `results.json`.

    python benchmarks/run.py [--only bench_inference bench_step ...] [--threads N] [--tiny]

Each part of a benchmark runs in a process of its own, so that its peak memory is its own; within it the
candidates take turns. What is not run keeps its earlier figures. A part that fails (say, because its
reference is not installed) is named at the end, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from timing import RESULTS, format_figure, parse

HERE = Path(__file__).parent
TABLE = HERE / "results.md"
# Parts that run alone, each within about five minutes on two cores; the others in one go.
PARTS = {
    "bench_inference": ("vqa", "gqa", "int8", "ladder", "alone"),
    "bench_step": ("step", "curve", "tricks", "compile"),
}


def main() -> int:
    """Runs, and returns 1 if a part failed."""
    known = sorted(path.stem for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", choices=known, metavar="NAME", help=f"some of {', '.join(known)}"
    )
    parser.add_argument("--table", action="store_true", help="only write the table anew")
    parser.add_argument("--table-file", type=Path, default=TABLE, help=argparse.SUPPRESS)
    args = parse(parser)
    failed = []
    for name in [] if args.table else args.only or known:
        for part in PARTS.get(name, ("",)):
            print(f"== {name} {part}", flush=True)
            began = time.monotonic()
            if not _run(name, part, args):
                failed.append(f"{name} {part}".strip())
            print(f"   {time.monotonic() - began:.0f} s", flush=True)
    if not args.tiny:
        write_table(args.table_file)
        print(args.table_file.read_text())
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(name: str, part: str, args: argparse.Namespace) -> bool:
    command = [sys.executable, str(HERE / f"{name}.py"), "--threads", str(args.threads)]
    command += ["--part", part] if part else []
    command += ["--tiny"] if args.tiny else []
    path = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(args.threads)}
    return subprocess.run(command, env=environment, check=False).returncode == 0


def write_table(path: Path) -> None:
    """Makes the table of `results.json`."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    lines = [
        "# Benchmarks",
        "",
        "Made by `python benchmarks/run.py`: pinned threads, one warm-up round, candidates taking turns in"
        " one process, ratio of medians (smallest to largest the ranges allow).",
        "",
        "| benchmark | what | figure | bar | range | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in sorted(results.items()):
        bare = format_figure({**result, "bar": None, "spread": None})
        bar = "" if result["bar"] is None else format_figure({**result, "figure": result["bar"], "bar": None,
                                                             "spread": None})  # fmt: skip
        shown = format_figure({**result, "bar": None})
        spread = shown.removeprefix(bare).strip(" ()")
        memory = f"{result['peak_memory_mb']:.0f} MB"
        lines.append(f"| {name} | {result['claim']} | {bare} | {bar} | {spread} | {memory} |")
    machines = sorted({result["machine"] for result in results.values()})
    lines += ["", *(f"Measured on: {machine}." for machine in machines)]
    for name, result in sorted(results.items()):
        if not result["notes"] and "command" not in result:
            continue
        lines += ["", f"**{name}**", ""]
        lines += [f"* {key}: {value}" for key, value in result["notes"].items()]
        if "command" in result:  # figures of earlier versions lack it
            versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
            lines += [f"* `{result['command']}` at {result['commit'] or 'no commit'}; {versions}"]
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
