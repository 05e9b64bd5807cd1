"""Runs that go wrong: spoilt batches, spoilt weights, scores at chance; and where scalars go."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import TinyTask

from lxmert.cli import main
from lxmert.errors import Interrupted, LxmertError, SpecError
from lxmert.models.weights import model_tensors, save_weights
from lxmert.training import loop
from lxmert.training.finetune import FinetuneInputs, finetune
from lxmert.training.guards import BadBatches, Tripwire
from lxmert.training.loop import Trainer
from lxmert.training.pretrain import PretrainInputs, pretrain
from lxmert.types import Batch

CPU = torch.device("cpu")
STEPS = 18  # of the tiny task: three epochs of six


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def inputs_of(tiny: TinyTask) -> FinetuneInputs:
    return FinetuneInputs(tiny.features, tiny.folder / "single", tiny.vocabulary, None, None)


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


def test_a_spoilt_batch_is_named_left_out_and_told(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spoiling(monkeypatch, {7: with_nan})
    trainer, _ = finetune(tiny.spec(), inputs_of(tiny), tmp_path, CPU, 0)
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
    seen = spoiling(monkeypatch, {})
    plain = loop.TrainingStep.run

    def run(self: Any, batch: Batch, seed: int, step: int, *rest: Any) -> Any:
        outcome = plain(self, batch, seed, step, *rest)
        if step == 3 and outcome.updated:
            self.optimizer.parameters["head.outer.bias"].data[0] = float("inf")
        return outcome

    monkeypatch.setattr(loop.TrainingStep, "run", run)
    trainer, _ = finetune(tiny.spec(recipe=recipe), inputs_of(tiny), tmp_path, CPU, 0)
    assert list(trainer.bad.steps) == [3] and trainer.step == 10
    assert all(torch.isfinite(value).all() for value in model_tensors(trainer.job.model).values())
    # Noticed by the next loss, found on the way from the saved state, left out the third time.
    assert seen == [0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert "the weights are no longer finite; going back from step" in caplog.text
    assert "step 3: the loss or its gradient is not finite" in caplog.text


def test_too_many_spoilt_batches_end_the_run(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiling(monkeypatch, {1: with_nan, 4: with_nan})
    with pytest.raises(
        LxmertError, match=r"step 4: .* 2 such batches are as many as recipe/max_bad_batches allows"
    ):
        finetune(tiny.spec(recipe={"max_bad_batches": 2}), inputs_of(tiny), tmp_path, CPU, 0)


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
        PretrainInputs(
            tiny.features,
            tiny.folder / "pretrain" / "train.safetensors",
            tiny.folder / "pretrain" / "valid.safetensors",
            tiny.pretrain_answers,
            tiny.vocabulary,
        ),
        tmp_path / "p",
        CPU,
        0,
    )
    save_weights(tmp_path / "p.safetensors", model_tensors(donor.job.model), meta)
    inputs = replace(inputs_of(tiny), init=tmp_path / "p.safetensors")
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
    finetune(tiny.spec(recipe=recipe), inputs_of(tiny), tmp_path / "scratch", CPU, 0)


def test_scalars_stand_beside_the_history_once_each(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def run() -> Trainer:
        return finetune(tiny.spec(), inputs_of(tiny), tmp_path / "s", CPU, 0, tensorboard=tmp_path / "tb")[0]

    def kill(batch: Batch) -> Batch:
        os.kill(os.getpid(), signal.SIGTERM)
        return batch

    with monkeypatch.context() as patch:
        spoiling(patch, {9: kill})
        with pytest.raises(Interrupted):
            run()
    run()
    assert len(list((tmp_path / "tb").iterdir())) == 1
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    records = [record for record in history(tmp_path / "s") if "losses" in record]
    losses = [(event.step, event.value) for event in events.Scalars("training/loss")]
    assert (
        [step for step, _ in losses] == [record["step"] for record in records] == list(range(2, STEPS + 1, 2))
    )
    assert [value for _, value in losses] == pytest.approx([record["loss"] for record in records])
    assert {"training/lr", "training/examples_per_second", "training/losses/bce_times_answers"} <= set(
        events.Tags()["scalars"]
    )
    assert [event.step for event in events.Scalars("evaluation/score")] == [6, 12, 18]


def test_the_graph_names_the_folder_of_scalars_beside_the_command(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("LXMERT_TENSORBOARD", str(tmp_path / "tb"))
    out = tmp_path / "out"
    verb = ["--threads", "1", "finetune", "--spec", json.dumps(tiny.spec(recipe={"max_steps": 2}))]
    verb += ["--features", *map(str, tiny.features), "--examples", str(tiny.folder / "single")]
    verb += ["--vocabulary", str(tiny.vocabulary), "--state", str(tmp_path / "s")]
    for name, file in (("weights", "w.safetensors"), ("last", "l.safetensors"), ("spec", "s.json")):
        verb += [f"--out-{name}", str(out / file)]
    verb += ["--out-metrics", str(out / "m.json"), "--out-history", str(out / "h.jsonl")]
    assert main(verb) == 0
    assert len(list((tmp_path / "tb" / "tiny").glob("events.out.tfevents.*"))) == 1
    assert json.loads((out / "m.json").read_text())["answer_rows"] is None
