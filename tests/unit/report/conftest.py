"""One results tree for all tests of the report; a test that changes it copies it first."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from make_results import make_tree  # noqa: E402


@pytest.fixture(scope="session")
def results_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("report"), images=6)


@pytest.fixture
def own_results(results_tree: Path, tmp_path: Path) -> Path:
    """A copy of the results folder that a test may spoil."""
    shutil.copytree(results_tree / "results", tmp_path / "results")
    return tmp_path / "results"
