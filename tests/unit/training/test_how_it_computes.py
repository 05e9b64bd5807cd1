"""Words of a recipe that change how a run computes, not what it learns: all the way through `finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from spoiling import history
from tiny_task import CPU, SIZE, TinyTask, finetune_inputs, weights_of

from lxmert.training.finetune import finetune
from lxmert.training.loop import Trainer

RECIPE: dict[str, Any] = {"max_steps": 4, "log_every_steps": 1}
# As small as layers of every kind get; with dropout, which compiled code must draw alike.
LAYERS = {"language_layers": 1, "relation_layers": 0, "cross_layers": 1}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def trained(tiny: TinyTask, folder: Path, **recipe: Any) -> Trainer:
    spec = tiny.spec(recipe={**RECIPE, **recipe}, size={**SIZE, **LAYERS})
    return finetune(spec, finetune_inputs(tiny), folder, CPU, 0)[0]


def losses(folder: Path) -> list[float]:
    found = [record["loss"] for record in history(folder) if "losses" in record]
    assert len(found) == RECIPE["max_steps"]
    return found


@pytest.fixture(scope="module")
def plain(tiny: TinyTask, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[float], dict[str, Any]]:
    """Losses and weights without any of these words."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("plain")
    trainer = trained(tiny, folder)
    return losses(folder), weights_of(trainer)


def assert_close(weights: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=tolerance, msg=name)


def test_recomputed_layers_learn_the_same(tiny: TinyTask, tmp_path: Path, plain: tuple) -> None:
    trainer = trained(tiny, tmp_path, checkpoint_layers=True)
    assert losses(tmp_path) == pytest.approx(plain[0], rel=1e-5)
    assert_close(weights_of(trainer), plain[1], 1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_learns_nearly_the_same(
    tiny: TinyTask, tmp_path: Path, plain: tuple, precision: str
) -> None:
    trainer = trained(tiny, tmp_path, precision=precision)
    found = losses(tmp_path)
    assert found == pytest.approx(plain[0], rel=0.01) and found != plain[0]
    weights = weights_of(trainer)
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert_close(weights, plain[1], 4 * 1e-3 * 4)  # what four steps at the peak rate can move a weight
