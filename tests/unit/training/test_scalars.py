"""Where scalars go, and that they are those of the history, each once."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from spoiling import history, spoiling
from tiny_task import CPU, TinyTask, finetune_command, finetune_inputs

from lxmert.cli import main
from lxmert.errors import Interrupted
from lxmert.training import loop
from lxmert.training.finetune import finetune
from lxmert.training.loop import Trainer
from lxmert.types import Batch

STEPS = 18  # of the tiny task: three epochs of six


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    """Steps and values of one curve."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulators.EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_scalars_stand_beside_the_history_once_each(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")

    def run() -> Trainer:
        return finetune(
            tiny.spec(), finetune_inputs(tiny), tmp_path / "s", CPU, 0, tensorboard=tmp_path / "tb"
        )[0]

    def kill(batch: Batch) -> Batch:
        os.kill(os.getpid(), signal.SIGTERM)
        return batch

    with monkeypatch.context() as patch:
        spoiling(patch, {9: kill})
        with pytest.raises(Interrupted):
            run()
    run()
    assert len(list((tmp_path / "tb").iterdir())) == 1
    records = [record for record in history(tmp_path / "s") if "losses" in record]
    losses = scalars(tmp_path / "tb", "training/loss")
    assert (
        [step for step, _ in losses] == [record["step"] for record in records] == list(range(2, STEPS + 1, 2))
    )
    assert [value for _, value in losses] == pytest.approx([record["loss"] for record in records])
    for name in ("lr", "examples_per_second", "losses/bce_times_answers"):
        assert len(scalars(tmp_path / "tb", f"training/{name}")) == STEPS // 2
    assert [step for step, _ in scalars(tmp_path / "tb", "evaluation/score")] == [6, 12, 18]


def test_a_run_that_goes_back_shows_no_step_twice(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    plain = loop.TrainingStep.run

    def run(self: Any, batch: Batch, seed: int, step: int, *rest: Any) -> Any:
        outcome = plain(self, batch, seed, step, *rest)
        if step == 10 and outcome.updated:
            self.optimizer.parameters["head.outer.bias"].data[0] = float("inf")
        return outcome

    monkeypatch.setattr(loop.TrainingStep, "run", run)
    spec = tiny.spec(recipe={"log_every_steps": 1})
    finetune(spec, finetune_inputs(tiny), tmp_path / "s", CPU, 0, tensorboard=tmp_path / "tb")
    recorded = [record["step"] for record in history(tmp_path / "s") if "losses" in record]
    steps = [step for step, _ in scalars(tmp_path / "tb", "training/loss")]
    assert steps == recorded and len(set(steps)) == len(steps) >= STEPS - 1


def test_a_run_that_starts_again_keeps_the_earlier_curve(tiny: TinyTask, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    folder = tmp_path / "tb" / "tiny"
    curves = []
    for seed in (3, 4, 3, 4):
        spec = tiny.spec(seed=seed, recipe={"max_steps": 4})
        finetune(spec, finetune_inputs(tiny), tmp_path / "s", CPU, 0, tensorboard=folder)
        curves.append(scalars(folder, "training/loss"))
    (beside,) = set(folder.parent.iterdir()) - {folder}
    assert curves[0] == curves[2] != curves[1] == curves[3]
    assert scalars(beside, "training/loss") == curves[0] and beside.name.startswith("tiny.")
    assert len(list(beside.iterdir())) == len(list(folder.iterdir())) == 1


def test_the_graph_names_the_folder_of_scalars_beside_the_command(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("LXMERT_TENSORBOARD", str(tmp_path / "tb"))
    out = tmp_path / "out"
    verb = finetune_command(tiny, tiny.spec(recipe={"max_steps": 2}), out)
    assert main(verb) == 0
    assert len(list((tmp_path / "tb" / "tiny").glob("events.out.tfevents.*"))) == 1
    assert json.loads((out / "m.json").read_text())["answer_rows"] is None
