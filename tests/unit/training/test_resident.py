"""What a data set adds to the resident memory of a training and its workers, however they start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

from bench_resident import run_apart, write_data  # noqa: E402

WIDTH = 256
MOST_MB = 12.0  # where the questions alone, held as arrays by each of three processes, would be 40 and more
WAYS = [
    *((0, "fork"), (2, "fork"), (2, "spawn")),
    pytest.param(2, "forkserver", marks=pytest.mark.slow),
]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data set, and one of 110 MB."""
    folder = tmp_path_factory.mktemp("resident")
    write_data(folder / "tiny", 40, 400, WIDTH)
    write_data(folder / "large", 3_000, 300_000, WIDTH)
    return folder


@pytest.mark.parametrize(("workers", "method"), WAYS)
def test_data_is_in_the_page_cache_and_nowhere_else(data: Path, workers: int, method: str) -> None:
    tiny, large = (run_apart(data / size, method, workers) for size in ("tiny", "large"))
    assert large - tiny < MOST_MB, f"{large:.0f} MB, with tiny data {tiny:.0f} MB"
