"""Words of a recipe that change how a run computes, not what it learns: all the way through `finetune`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from spoiling import history
from tiny_task import CPU, SIZE, TinyTask, finetune_inputs, weights_of

from lxmert.training.finetune import finetune
from lxmert.training.loop import Trainer

RECIPE: dict[str, Any] = {"max_steps": 4, "log_every_steps": 1}
LAYERS = {"language_layers": 1, "relation_layers": 0, "cross_layers": 1}
# One piece of code, of 24 kernels: half a minute of a compiler's time, and what compiled code drops is
# compared in tests/unit/models/test_compiled_layers.py.
LEAST = {**LAYERS, "language_layers": 0, "hidden_dropout": 0.0, "attention_dropout": 0.0}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def trained(tiny: TinyTask, folder: Path, layers: dict[str, Any] = LAYERS, **recipe: Any) -> Trainer:
    spec = tiny.spec(recipe={**RECIPE, **recipe}, size={**SIZE, **layers})
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


def test_compiled_training_learns_the_same(tiny: TinyTask, tmp_path: Path) -> None:
    """By the backend that runs use; its own cache makes a second time quick."""
    if not any(map(shutil.which, ("g++", "clang++"))):
        pytest.skip("torch.compile needs a C++ compiler on the CPU, and there is neither g++ nor clang++")
    expected = weights_of(trained(tiny, tmp_path / "plain", LEAST))
    torch._dynamo.reset()
    graphs = torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    trainer = trained(tiny, tmp_path / "compiled", LEAST, compile=True)
    assert graphs["unique_graphs"] - before == 1, "the language half of the one cross layer"
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-5)
    assert_close(weights_of(trainer), expected, 1e-5)


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
