"""Spoils batches on their way into a run, and reads what it wrote about them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lxmert.training import loop
from lxmert.types import Batch


def history(state: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (state / "history.jsonl").read_text().splitlines()]


def spoiling(monkeypatch: pytest.MonkeyPatch, spoil: dict[int, Any]) -> list[int]:
    """Lets steps see a changed batch; gives the steps in the order in which they ran."""
    original, seen = loop.stream, []

    def stream(batches: Any, start: int, stop: int, workers: int) -> Any:
        for step, batch in original(batches, start, stop, workers):
            seen.append(step)
            yield step, spoil[step](batch) if step in spoil else batch

    monkeypatch.setattr(loop, "stream", stream)
    return seen


def with_nan(batch: Batch) -> Batch:
    """The third example's features, and no other's, are no numbers."""
    features = batch.features.float().clone()
    features[2] = float("nan")
    return replace(batch, features=features)
