"""Small models as files of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from convert_models import build, metadata

from lxmert.models.weights import model_tensors, save_weights


@pytest.fixture
def ours(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a file of ours of a kind."""

    def write(kind: str) -> Path:
        path = tmp_path / f"{kind}.safetensors"
        save_weights(path, model_tensors(build(kind)), metadata(kind))
        return path

    return write
