"""Runs that go wrong: spoilt batches, spoilt weights, scores at chance."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from spoiling import history, spoiling, with_nan
from tiny_task import CPU, TinyTask, finetune_command, finetune_inputs, pretrain_inputs, weights_of

from lxmert.cli import main
from lxmert.errors import LxmertError, SpecError
from lxmert.models.weights import model_tensors, save_weights
from lxmert.training import loop
from lxmert.training.finetune import finetune
from lxmert.training.guards import BadBatches, Tripwire
from lxmert.training.pretrain import pretrain
from lxmert.types import Batch

STEPS = 18  # of the tiny task: three epochs of six


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_a_spoilt_batch_is_named_left_out_and_told(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spoiling(monkeypatch, {7: with_nan})
    trainer, _ = finetune(tiny.spec(), finetune_inputs(tiny), tmp_path, CPU, 0)
    assert trainer.step == STEPS and all(
        torch.isfinite(value).all() for value in model_tensors(trainer.job.model).values()
    )
    (name,) = trainer.bad.steps[7]
    assert name == trainer.job.batches.names(7)[2]
    assert (
        f"step 7: the loss or its gradient is not finite, examples {name}; no update is made" in caplog.text
    )
    (left_out,) = [record for record in history(tmp_path) if "left_out" in record]
    assert left_out == {"step": 8, "left_out": [name]}


def test_weights_that_went_bad_roll_back_and_the_batch_is_found(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An update with a finite gradient spoils the weights: the run goes back and leaves that batch out."""
    recipe = {"save_every_seconds": 3600, "max_steps": 10, "max_bad_batches": 2}
    seen, began = spoiling(monkeypatch, {}), time.monotonic()
    plain = loop.TrainingStep.run

    def run(self: Any, batch: Batch, seed: int, step: int, *rest: Any) -> Any:
        outcome = plain(self, batch, seed, step, *rest)
        if step == 3 and outcome.updated:
            time.sleep(0.2)
            self.optimizer.parameters["head.outer.bias"].data[0] = float("inf")
        return outcome

    monkeypatch.setattr(loop.TrainingStep, "run", run)
    trainer, _ = finetune(tiny.spec(recipe=recipe), finetune_inputs(tiny), tmp_path, CPU, 0)
    assert list(trainer.bad.steps) == [3] and trainer.step == 10
    assert all(torch.isfinite(value).all() for value in model_tensors(trainer.job.model).values())
    # Noticed by the next loss, found on the way from the saved state, left out the third time.
    assert seen == [0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert 0.4 < trainer.seconds() < time.monotonic() - began, "no second counts twice"
    assert "the weights are no longer finite; going back from step" in caplog.text
    assert "step 3: the loss or its gradient is not finite" in caplog.text


def test_too_many_spoilt_batches_end_the_run(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiling(monkeypatch, {1: with_nan, 4: with_nan})
    with pytest.raises(
        LxmertError, match=r"step 4: .* 2 such batches are as many as recipe/max_bad_batches allows"
    ):
        finetune(tiny.spec(recipe={"max_bad_batches": 2}), finetune_inputs(tiny), tmp_path, CPU, 0)


def test_weights_that_begin_not_finite_are_refused(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No state is good to go back to, so it would go back for ever."""
    plain = loop.Trainer.__init__

    def spoilt(self: Any, job: Any) -> None:
        plain(self, job)
        self.optimizer.parameters["head.outer.bias"].data[0] = float("nan")

    monkeypatch.setattr(loop.Trainer, "__init__", spoilt)
    with pytest.raises(
        LxmertError, match=r"begins with: head\.outer\.bias holds numbers that are not finite"
    ):
        finetune(tiny.spec(), finetune_inputs(tiny), tmp_path, CPU, 0)


def test_a_held_out_figure_that_is_not_finite_leaves_a_gap(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = loop.Trainer._evaluate

    def overflowing(self: Any) -> None:
        evaluate = self.job.evaluate

        def once() -> Any:
            found = evaluate()
            return replace(found, figures={**found.figures, "loss": float("inf")}, select_by=float("nan"))

        self.job.evaluate = once if self.step == 6 else evaluate
        plain(self)
        self.job.evaluate = evaluate

    monkeypatch.setattr(loop.Trainer, "_evaluate", overflowing)
    trainer, _ = finetune(tiny.spec(), finetune_inputs(tiny), tmp_path, CPU, 0)
    assert "step 6: loss of the held-out part is not finite and is left out" in caplog.text
    assert "loss" not in trainer.evaluations[0] and trainer.best is not None and trainer.best_step > 6
    json.dumps(trainer.evaluations, allow_nan=False)


def test_bad_batches_survive_a_state() -> None:
    bad = BadBatches(9)
    bad.add(3, ["q1", "q2"], "state")
    other = BadBatches(9)
    other.add(5, ["q7"], "state")
    other.restore(json.loads(json.dumps(bad.state())))
    assert other.steps == {3: ["q1", "q2"], 5: ["q7"]}


WIRE = {"metric": "score", "chance": 0.5, "margin": 0.01, "after_epochs": 1, "after_steps": 20}


@pytest.mark.parametrize(
    ("scores", "stops"),
    [
        ([(10, 1.0, 0.5)], False),  # too few updates yet
        ([(20, 0.5, 0.5)], False),  # no whole epoch yet
        ([(20, 1.0, 0.5086)], True),  # NLVR2's constant answers: 50.86 and 49.14
        ([(20, 1.0, 0.4914)], True),
        ([(20, 1.0, 0.52)], False),
        ([(10, 1.0, 0.5), (20, 2.0, 0.6), (30, 3.0, 0.5)], False),  # it has learnt once
    ],
)
def test_the_tripwire_looks_once(scores: list[tuple[int, float, float]], stops: bool) -> None:
    wire = Tripwire.of({**WIRE, "causes": ["first cause", "second cause"]})
    records = [{"step": step, "epoch": epoch, "score": score} for step, epoch, score in scores]
    assert wire is not None
    if not stops:
        wire.check(records, "state/x")
        return
    with pytest.raises(
        LxmertError, match=r"nothing was learnt.*\(1\) first cause; \(2\) second cause.*state/x"
    ):
        wire.check(records, "state/x")


def test_a_tripwire_without_its_figure_is_explained() -> None:
    wire = Tripwire.of({**WIRE, "metric": "acuracy", "after_steps": 0})
    assert wire is not None and Tripwire.of(None) is None
    with pytest.raises(SpecError, match='no figure "acuracy". Did you mean "accuracy"'):
        wire.check([{"step": 9, "epoch": 2.0, "accuracy": 0.5}], "x")


def test_a_run_at_chance_stops_after_an_epoch_and_says_so_again(tiny: TinyTask, tmp_path: Path) -> None:
    """At rate 0 nothing is learnt; the second start stops at once, without training again."""
    donor, meta = pretrain(
        tiny.pretrain_spec(max_steps=1),
        pretrain_inputs(tiny),
        tmp_path / "p",
        CPU,
        0,
    )
    save_weights(tmp_path / "p.safetensors", weights_of(donor), meta)
    inputs = replace(finetune_inputs(tiny), init=tmp_path / "p.safetensors")
    first, _ = finetune(
        tiny.spec(recipe={"max_steps": 1, "optimizer": {"name": "adamw", "lr": 0.0}}, init="pretrained"),
        inputs, tmp_path / "look", CPU, 0,
    )  # fmt: skip
    wire = {**WIRE, "chance": first.evaluations[0]["score"], "after_steps": 0, "causes": ["a known cause"]}
    recipe = {"optimizer": {"name": "adamw", "lr": 0.0}, "tripwire": wire}
    for _ in range(2):
        with pytest.raises(LxmertError, match=r"at step 6 .*within 0.01 of chance.*a known cause"):
            finetune(tiny.spec(recipe=recipe, init="pretrained"), inputs, tmp_path / "s", CPU, 0)
    assert [record["step"] for record in history(tmp_path / "s") if record.get("evaluation")] == [6]
    # A run from scratch or without images may stay at chance.
    finetune(tiny.spec(recipe=recipe), finetune_inputs(tiny), tmp_path / "scratch", CPU, 0)


@pytest.mark.parametrize(("scores", "told"), [([0.5], True), ([0.6, 0.495], True), ([0.5, 0.52], False)])
def test_the_last_look_of_a_short_run_is_only_told(scores: list[float], told: bool) -> None:
    wire = Tripwire.of({**WIRE, "after_steps": 2000, "causes": ["a known cause"]})
    assert wire is not None
    records = [{"step": number, "epoch": 1.0, "score": score} for number, score in enumerate(scores, 1)]
    wire.check(records, "x")
    complaint = wire.complaint_of_end(records)
    assert (complaint is not None) == told and wire.complaint_of_end([]) is None
    if complaint:
        assert "(1) a known cause" in complaint and f"at step {len(scores)}" in complaint


def test_a_run_that_ends_at_chance_keeps_its_results_and_says_so(
    tiny: TinyTask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too short for the tripwire to stop it; the warning goes into the run's metrics, too."""
    donor, meta = pretrain(tiny.pretrain_spec(max_steps=1), pretrain_inputs(tiny), tmp_path / "p", CPU, 0)
    init = tmp_path / "p.safetensors"
    save_weights(init, weights_of(donor), meta)
    wire = {**WIRE, "chance": 0.5, "margin": 0.5, "after_steps": 2000, "causes": ["a known cause"]}
    spec = tiny.spec(recipe={"max_steps": 2, "tripwire": wire}, init="pretrained")
    verb = finetune_command(tiny, spec, tmp_path)
    assert main([*verb, "--init", str(init), "--pretrain-answers", str(tiny.pretrain_answers)]) == 0
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if " WARNING " in line]
    kept = json.loads((tmp_path / "m.json").read_text())["at_chance"]
    assert warning.endswith(kept) and "nothing was learnt. Known causes: (1) a known cause." in kept
    spec["recipe"]["tripwire"] = {**wire, "chance": 3.0}
    verb = finetune_command(tiny, spec, tmp_path)
    assert main([*verb, "--init", str(init), "--pretrain-answers", str(tiny.pretrain_answers)]) == 0
    assert json.loads((tmp_path / "m.json").read_text())["at_chance"] is None
