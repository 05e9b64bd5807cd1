"""The tiny task, made once."""

from __future__ import annotations

import pytest
from tiny_task import TinyTask


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyTask:
    return TinyTask(tmp_path_factory.mktemp("tiny"))
