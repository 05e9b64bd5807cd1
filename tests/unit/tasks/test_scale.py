"""Preparing examples and writing a submission needs no more memory for more questions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

from bench_scale import GQA_STEPS, measure  # noqa: E402

# Bytes a question. Buffers fill up to some megabytes at any size; records held would cost a thousand more.
MOST = 250
SIZES = (6_000, 40_000)


@pytest.mark.parametrize(("corpus", "steps"), [("gqa", GQA_STEPS), ("pretraining", ["prepare_pretraining"])])
def test_memory_does_not_grow_with_the_questions(tmp_path: Path, corpus: str, steps: list[str]) -> None:
    found = measure(tmp_path, corpus, steps, SIZES)
    growth = {step: round(found[step]["bytes"]) for step in steps}
    assert max(growth.values()) < MOST, growth
    assert found["open_seconds"] < 0.05
