"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# One thread each: tests run side by side, and sums in one order give the same bytes everywhere.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Small real files of the public projects, which live beside the checkout and not in it."""
    for folder in (os.environ.get("LXMERT_SHARED_DATA"), ROOT.parent / "shared" / "data"):
        if folder and Path(folder).is_dir():
            return Path(folder)
    pytest.skip(
        f"no real sample files: neither LXMERT_SHARED_DATA nor {ROOT.parent / 'shared' / 'data'} is a folder"
    )
