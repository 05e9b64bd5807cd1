"""Runs from start to end: resumed, with workers, with losses that begin late, with wrong input."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_task import CPU, TinyTask, assert_same, finetune_inputs, pretrain_inputs, weights_of

from lxmert.data.batching import Examples, FinetuneBatches, PretrainBatches
from lxmert.data.regions import RegionSource
from lxmert.data.wordpiece import read_vocabulary
from lxmert.errors import DataError, Interrupted, LxmertError, SpecError, WeightsError
from lxmert.models.weights import save_weights
from lxmert.training import loop
from lxmert.training import pretrain as pretrain_module
from lxmert.training.finetune import finetune
from lxmert.training.job import Evaluation
from lxmert.training.loop import Trainer
from lxmert.training.pretrain import pretrain
from lxmert.training.stream import stream
from lxmert.types import Batch


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("kind", ["finetune", "pretrain"])
def test_a_stopped_run_equals_an_unbroken_one(
    tiny: TinyTask, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: Path) -> Trainer:
        if kind == "finetune":
            return finetune(tiny.spec(), finetune_inputs(tiny), folder, CPU, 0)[0]
        return pretrain(tiny.pretrain_spec(), pretrain_inputs(tiny), folder, CPU, 0)[0]

    whole = run(tmp_path / "whole")
    stops = [1, 2, 5, 6, 9, whole.total_steps - 1]
    original = loop.stream

    def stopping(batches: Any, start: int, stop: int, workers: int) -> Any:
        for step, batch in original(batches, start, stop, workers):
            if step + 1 in stops:
                stops.remove(step + 1)
                os.kill(os.getpid(), signal.SIGTERM)
            yield step, batch

    monkeypatch.setattr(loop, "stream", stopping)
    interruptions = 0
    while True:
        try:
            broken = run(tmp_path / "broken")
            break
        except Interrupted:
            interruptions += 1
    assert interruptions == 6 and not stops
    assert_same(weights_of(whole), weights_of(broken))
    assert whole.best == broken.best and whole.evaluations == broken.evaluations

    def curve(trainer: Trainer) -> list[tuple[Any, ...]]:
        lines = trainer.job.state.history_path.read_text().splitlines()
        records = [json.loads(line) for line in lines]
        return [(record["step"], record["loss"]) for record in records if "losses" in record]

    assert curve(whole) == curve(broken) and len(curve(whole)) >= 6
    whole.load_best()
    broken.load_best()
    assert_same(weights_of(whole), weights_of(broken))


def test_training_lowers_the_loss(tiny: TinyTask, tmp_path: Path) -> None:
    recipe = {"max_epochs": 20, "optimizer": {"name": "adamw", "lr": 1e-2, "weight_decay": 0.0}}
    size = {**tiny.spec()["size"], "hidden_dropout": 0.0, "attention_dropout": 0.0}
    trainer, _ = finetune(tiny.spec(recipe=recipe, size=size), finetune_inputs(tiny), tmp_path, CPU, 0)
    losses = [json.loads(line) for line in trainer.job.state.history_path.read_text().splitlines()]
    losses = [record["loss"] for record in losses if "losses" in record]
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])


def test_the_published_optimiser_reaches_the_expected_score(tiny: TinyTask, tmp_path: Path) -> None:
    """Answers follow from the first word: 40 % before training, all held-out ones after 300 updates."""
    recipe: dict[str, Any] = {"max_epochs": 100, "max_steps": 300}
    recipe["optimizer"] = {"name": "bert_adam", "lr": 3e-3, "weight_decay": 0.0}
    size = {**tiny.spec()["size"], "hidden_dropout": 0.0, "attention_dropout": 0.0}
    trainer, _ = finetune(tiny.spec(recipe=recipe, size=size), finetune_inputs(tiny), tmp_path, CPU, 0)
    assert trainer.evaluations[0]["score"] < 0.7 and trainer.best is not None and trainer.best >= 0.95


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(tiny: TinyTask, workers: int) -> None:
    regions = RegionSource(tiny.features)
    pretraining = PretrainBatches(
        tiny.folder / "pretrain" / "train.safetensors",
        regions,
        tiny.pretrain_spec()["recipe"],
        read_vocabulary(tiny.vocabulary),
        1,
    )
    examples = Examples([tiny.folder / "pairs" / "train.safetensors"], regions, regions.feature_width)
    for batches in (pretraining, FinetuneBatches(examples, 3, 8, 1)):
        here = dict(stream(batches, 3, 11, 0))
        there = dict(stream(batches, 3, 11, workers))
        assert list(here) == list(there) == list(range(3, 11))
        for step in here:
            assert_batches_equal(here[step], there[step])


def assert_batches_equal(left: Batch, right: Batch) -> None:
    for name in ("input_ids", "attention_mask", "features", "boxes_norm", "region_mask"):
        a, b = getattr(left, name), getattr(right, name)
        assert (a is None) == (b is None), name
        assert a is None or torch.equal(a, b), name
    assert_same(left.targets, right.targets)


def test_objectives_begin_when_the_recipe_says(tiny: TinyTask, tmp_path: Path) -> None:
    spec = tiny.pretrain_spec(start_epochs={"matching": 1.5, "qa": 0.5}, max_epochs=3, log_every_steps=1)
    batches = PretrainBatches(
        tiny.folder / "pretrain" / "train.safetensors",
        RegionSource(tiny.features),
        spec["recipe"],
        read_vocabulary(tiny.vocabulary),
        1,
    )
    each = batches.steps_per_epoch
    asked = {"matched": [], "answer": []}
    for step in range(3 * each):
        targets = batches.batch(step).targets
        for name, steps in asked.items():
            steps.append(bool((targets[name] != -1).any()))
        if not asked["matched"][-1]:
            assert (targets["matched"] == -1).all()
    assert asked["matched"] == [step >= 1.5 * each for step in range(3 * each)]
    assert asked["answer"] == [step >= 0.5 * each for step in range(3 * each)]

    trainer, _ = pretrain(spec, pretrain_inputs(tiny), tmp_path, CPU, 0)
    records = [json.loads(line) for line in trainer.job.state.history_path.read_text().splitlines()]
    logged = {record["step"]: record["losses"] for record in records if "losses" in record}
    assert {step for step, losses in logged.items() if "matching" in losses} == {
        step for step in logged if step - 1 >= 1.5 * each
    }
    # The held-out part is always asked everything, so that curves begin at step 0.
    assert all(record["matching"] > 0 and record["qa"] > 0 for record in trainer.evaluations)


def test_what_does_not_fit_is_one_line(tiny: TinyTask, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match='unknown loss "hinge"'):
        finetune(tiny.spec(recipe={"loss": {"name": "hinge"}}), finetune_inputs(tiny), tmp_path / "a", CPU, 0)
    with pytest.raises(SpecError, match="no --init weights"):
        finetune(tiny.spec(init="pretrained"), finetune_inputs(tiny), tmp_path / "b", CPU, 0)
    with pytest.raises(DataError, match=r"of image set right, but the stores given are left"):
        only_left = replace(finetune_inputs(tiny), features=tiny.features[:1])
        finetune(tiny.spec(), only_left, tmp_path / "c", CPU, 0)
    wrong_size = tiny.spec(init="pretrained", size={**tiny.spec()["size"], "hidden": 32})
    trainer, meta = pretrain(tiny.pretrain_spec(), pretrain_inputs(tiny), tmp_path / "p", CPU, 0)
    save_weights(tmp_path / "p.safetensors", weights_of(trainer), meta)
    with pytest.raises(WeightsError, match="of another shape"):
        finetune(wrong_size, finetune_inputs(tiny, init=tmp_path / "p.safetensors"), tmp_path / "d", CPU, 0)


def test_a_loss_that_is_not_finite_stops_the_run(tiny: TinyTask, tmp_path: Path) -> None:
    recipe = {"optimizer": {"name": "adamw", "lr": 1e30, "weight_decay": 0.0}, "clip_norm": None}
    with pytest.raises(LxmertError, match=r"step 4: the loss .* not finite, examples q.* 3 such"):
        finetune(tiny.spec(recipe=recipe), finetune_inputs(tiny), tmp_path, CPU, 0)


def test_a_changed_spec_starts_again(
    tiny: TinyTask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    finetune(tiny.spec(), finetune_inputs(tiny), tmp_path, CPU, 0)
    with caplog.at_level("INFO"):
        finetune(tiny.spec(seed=4), finetune_inputs(tiny), tmp_path, CPU, 0)
    assert "spec/seed changed since the unfinished run; starting again" in caplog.text


class _Damaged:
    steps_per_epoch = 3

    def batch(self, step: int) -> Batch:
        raise DataError(f"x.lmdb: record {step} is damaged; extract it again.")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_while_loading_stays_one_line(workers: int) -> None:
    with pytest.raises(DataError, match=r"^x\.lmdb: record 1 is damaged; extract it again\.$"):
        list(stream(_Damaged(), 1, 3, workers))


def test_evaluations_cost_no_speed_and_attempts_add_up(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {"max_epochs": 2, "log_every_steps": 1000}
    plain = pretrain_module.held_out_losses

    def slow(*args: Any) -> Evaluation:
        time.sleep(1.0)
        return plain(*args)

    monkeypatch.setattr(pretrain_module, "held_out_losses", slow)
    spec = tiny.pretrain_spec(**recipe)
    trainer, _ = pretrain(spec, pretrain_inputs(tiny), tmp_path, CPU, 0)
    lines = [json.loads(line) for line in trainer.job.state.history_path.read_text().splitlines()]
    (window,) = [line for line in lines if "losses" in line]
    assert len(trainer.evaluations) == 3 and trainer.seconds() > 3.0
    # The one window holds all steps, but of the three evaluations not even the first.
    training = trainer.total_steps * 8 / window["examples_per_second"]
    assert training < trainer.seconds() - 2.0 and window["data_seconds"] * trainer.total_steps < training
    again, _ = pretrain(spec, pretrain_inputs(tiny), tmp_path, CPU, 0)
    assert again.seconds() > 3.0 and again.step == trainer.step
