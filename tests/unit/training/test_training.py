"""Runs end to end on a tiny task: resumed, blind, paired, with workers, and with inputs that do not fit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_task import IMAGES, TinyTask

from lxmert.convert.converting import Wish, convert
from lxmert.data.batching import Examples, FinetuneBatches, PretrainBatches
from lxmert.data.regions import RegionSource
from lxmert.data.wordpiece import read_vocabulary
from lxmert.errors import DataError, Interrupted, LxmertError, SpecError, WeightsError
from lxmert.models.weights import KeyMap, from_ours, model_tensors, read_weights, save_weights
from lxmert.specs.documents import PACKAGE, read_yaml
from lxmert.training import loop
from lxmert.training import predict as predict_module
from lxmert.training import pretrain as pretrain_module
from lxmert.training.finetune import FinetuneInputs, finetune
from lxmert.training.inference import chunk_logits
from lxmert.training.loop import Trainer
from lxmert.training.predict import answers_of, predict
from lxmert.training.pretrain import PretrainInputs, pretrain
from lxmert.training.stream import stream
from lxmert.types import Batch

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def inputs_of(tiny: TinyTask, task: str = "single", init: Path | None = None) -> FinetuneInputs:
    answers = tiny.pretrain_answers if init else None
    return FinetuneInputs(tiny.features, tiny.folder / task, tiny.vocabulary, init, answers)


def pretrain_inputs(tiny: TinyTask) -> PretrainInputs:
    folder = tiny.folder / "pretrain"
    train, valid = folder / "train.safetensors", folder / "valid.safetensors"
    return PretrainInputs(tiny.features, train, valid, tiny.pretrain_answers, tiny.vocabulary)


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model_tensors(trainer.job.model).items()}


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


@pytest.mark.parametrize("kind", ["finetune", "pretrain"])
def test_a_stopped_run_equals_an_unbroken_one(
    tiny: TinyTask, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: Path) -> Trainer:
        if kind == "finetune":
            return finetune(tiny.spec(), inputs_of(tiny), folder, CPU, 0)[0]
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
    trainer, _ = finetune(tiny.spec(recipe=recipe, size=size), inputs_of(tiny), tmp_path, CPU, 0)
    losses = [json.loads(line) for line in trainer.job.state.history_path.read_text().splitlines()]
    losses = [record["loss"] for record in losses if "losses" in record]
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])


def test_the_published_optimiser_reaches_the_expected_score(tiny: TinyTask, tmp_path: Path) -> None:
    """Answers follow from the first word: 40 % before training, all held-out ones after 300 updates."""
    recipe: dict[str, Any] = {"max_epochs": 100, "max_steps": 300}
    recipe["optimizer"] = {"name": "bert_adam", "lr": 3e-3, "weight_decay": 0.0}
    size = {**tiny.spec()["size"], "hidden_dropout": 0.0, "attention_dropout": 0.0}
    trainer, _ = finetune(tiny.spec(recipe=recipe, size=size), inputs_of(tiny), tmp_path, CPU, 0)
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


def assert_batches_equal(left: Batch, right: Batch) -> None:
    for name in ("input_ids", "attention_mask", "features", "boxes_norm", "region_mask"):
        a, b = getattr(left, name), getattr(right, name)
        assert (a is None) == (b is None), name
        assert a is None or torch.equal(a, b), name
    assert_same(left.targets, right.targets)


def test_joined_files_give_the_rows_of_each(tiny: TinyTask) -> None:
    regions = RegionSource(tiny.features)
    paths = [tiny.folder / "single" / f"{name}.safetensors" for name in ("train", "more")]
    both = Examples(paths, regions, regions.feature_width)
    second = Examples(paths[1:], regions, regions.feature_width)
    assert len(both) == 51
    rows = np.array([45, 3, 50, 40, 0])
    joined, alone = both.batch(rows, 3), second.batch(np.array([5, 10, 0]), 3)
    length = alone.input_ids.shape[1]
    assert torch.equal(joined.input_ids[[0, 2, 3], :length], alone.input_ids)
    assert torch.equal(joined.targets["answer_targets"][[0, 2, 3]], alone.targets["answer_targets"])
    count = alone.features.shape[1]
    assert torch.equal(joined.features[[0, 2, 3], :count], alone.features)


def test_chunks_answer_as_plain_batches_do(tiny: TinyTask, tmp_path: Path) -> None:
    for task, head in (("single", "classification"), ("pairs", "pair_classification")):
        trainer, _ = finetune(tiny.spec(head), inputs_of(tiny, task), tmp_path / task, CPU, 0)
        model = trainer.job.model.eval()
        regions = RegionSource(tiny.features)
        examples = Examples([tiny.folder / task / "train.safetensors"], regions, regions.feature_width)
        rows = np.arange(len(examples))
        with torch.no_grad():
            plain = model(examples.batch(rows, 3))
        assert torch.allclose(chunk_logits(model, examples, rows, CPU), plain, atol=1e-5)


def test_a_blind_run_cannot_tell_images_apart(tiny: TinyTask, tmp_path: Path) -> None:
    trainer, _ = finetune(tiny.spec(vision=False), inputs_of(tiny), tmp_path, CPU, 0)
    model = trainer.job.model.eval()
    examples = Examples([tiny.folder / "single" / "train.safetensors"], None, 6)
    rows = np.arange(len(examples))
    logits = chunk_logits(model, examples, rows, CPU)
    tokens = examples.tokens(rows)
    same = [(i, j) for i in rows for j in rows if i < j and (tokens[i] == tokens[j]).all()]
    with torch.no_grad():
        plain = model(examples.batch(rows, 3))
    assert torch.allclose(logits, plain, atol=1e-5)
    assert all(torch.equal(logits[i], logits[j]) for i, j in same)


def test_prediction_by_integers_keeps_nearly_all_answers(tiny: TinyTask, tmp_path: Path) -> None:
    spec = tiny.spec(recipe={"evaluate_batch": 64})
    trainer, meta = finetune(spec, inputs_of(tiny), tmp_path / "state", CPU, 0)
    weights = tmp_path / "w.safetensors"
    save_weights(weights, weights_of(trainer), meta)
    arguments = (spec, tiny.features, tiny.folder / "single", "long", weights)
    plain, _ = predict(*arguments, tmp_path / "float", CPU)
    whole, state = predict(*arguments, tmp_path / "int8", CPU, "int8")
    assert len(plain) == len(whole) == 400 and (plain == whole).mean() >= 0.9
    # Work begun by integers is not gone on with in floating point.
    assert state.folder.exists() and predict(*arguments, tmp_path / "int8", CPU)[0].tolist() == plain.tolist()
    with pytest.raises(SpecError, match='--quantize: unknown kind "int9". Did you mean "int8"?'):
        predict(*arguments, tmp_path / "other", CPU, "int9")


def test_prediction_resumes_and_keeps_file_order(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny.spec(recipe={"evaluate_batch": 4})
    trainer, meta = finetune(spec, inputs_of(tiny), tmp_path / "state", CPU, 0)
    weights = tmp_path / "w.safetensors"
    save_weights(weights, weights_of(trainer), meta)
    arguments = (spec, tiny.features, tiny.folder / "single", "hidden", weights)
    whole, _ = predict(*arguments, tmp_path / "one", CPU)
    calls = 0
    plain_logits = predict_module.chunk_logits

    def interrupted(*args: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain_logits(*args)

    monkeypatch.setattr(predict_module, "chunk_logits", interrupted)
    with pytest.raises(Interrupted, match="saved 8 of 9"):
        predict(*arguments, tmp_path / "two", CPU)
    again, _ = predict(*arguments, tmp_path / "two", CPU)
    assert calls == 3 and np.array_equal(whole, again) and len(whole) == 9


def test_pretrained_weights_start_the_encoder_and_the_answers(tiny: TinyTask, tmp_path: Path) -> None:
    trainer, meta = pretrain(tiny.pretrain_spec(), pretrain_inputs(tiny), tmp_path / "p", CPU, 0)
    init = tmp_path / "p.safetensors"
    save_weights(init, weights_of(trainer), meta)
    spec = tiny.spec(init="pretrained", recipe={"optimizer": {"name": "bert_adam", "lr": 0.0}})
    started, _ = finetune(spec, inputs_of(tiny, init=init), tmp_path / "f", CPU, 0)
    pretrained, fresh = read_weights(init)[0], weights_of(started)
    assert_same(
        {name: value for name, value in pretrained.items() if name.startswith("encoder.")},
        {name: value for name, value in fresh.items() if name.startswith("encoder.")},
    )
    # Answers a, b, c against the table a, b, d: rows of a and b are copied, c starts at 0.
    assert torch.equal(fresh["head.outer.weight"][:2], pretrained["objectives.qa.head.outer.weight"][:2])
    assert not fresh["head.outer.weight"][2].any()


def test_a_run_lists_the_answers_that_start_at_zero(tiny: TinyTask, tmp_path: Path, caplog: Any) -> None:
    caplog.set_level("INFO")
    trainer, meta = pretrain(tiny.pretrain_spec(max_steps=1), pretrain_inputs(tiny), tmp_path / "p", CPU, 0)
    init = tmp_path / "p.safetensors"
    save_weights(init, weights_of(trainer), meta)
    spec = tiny.spec(init="pretrained", recipe={"max_steps": 1})
    _, described = finetune(spec, inputs_of(tiny, init=init), tmp_path / "f", CPU, 0)
    assert described["answers"] == ["a", "b", "c"]
    assert described["answer_rows"] == {"pretrained": 2, "zeroed": ["c"]}
    assert 'answer head: 2 of 3 answers begin with pretrained rows, 1 at zero: "c"' in caplog.text
    assert "matched, 0 missing, 0 unexpected, 0 of another shape" in caplog.text
    assert "tensors: heads of pretraining" in caplog.text


def test_answers_mean_what_they_meant_in_training(tiny: TinyTask, tmp_path: Path) -> None:
    """Published weights number their answers in an order that no rebuilt list has."""
    trainer, meta = finetune(tiny.spec(recipe={"max_steps": 20}), inputs_of(tiny), tmp_path / "state", CPU, 0)
    weights, folder = tmp_path / "w.safetensors", tmp_path / "single"
    save_weights(weights, weights_of(trainer), meta)
    arguments = (tiny.spec(), tiny.features, tiny.folder / "single", "hidden", weights)
    expected, _ = predict(*arguments, tmp_path / "one", CPU)
    shutil.copytree(tiny.folder / "single", folder)
    (folder / "answers.json").write_text(json.dumps(["d", "c", "b", "a"]))
    found, _ = predict(*arguments[:2], folder, *arguments[3:], tmp_path / "two", CPU)
    names = answers_of(weights, folder)
    assert names == ["a", "b", "c"] and np.array_equal(expected, found)
    save_weights(weights, weights_of(trainer), {key: meta[key] for key in ("spec", "model")})
    with pytest.raises(WeightsError, match="has 3 answers, but answers.json lists 4"):
        predict(*arguments[:2], folder, *arguments[3:], tmp_path / "three", CPU)
    save_weights(weights, weights_of(trainer), {"answers": ["a", "b", "c"]})
    with pytest.raises(WeightsError, match=r"w\.safetensors: the header does not say the model's vocabulary"):
        predict(*arguments, tmp_path / "four", CPU)
    with pytest.raises(WeightsError, match="does not say the model's vocabulary"):
        finetune(tiny.spec(init="pretrained"), inputs_of(tiny, init=weights), tmp_path / "five", CPU, 0)


def test_weights_of_another_program_predict(tiny: TinyTask, tmp_path: Path) -> None:
    """A folder as others write it, without our header, answers as the run it came from."""
    spec = tiny.spec(recipe={"max_steps": 3})
    trainer, meta = finetune(spec, inputs_of(tiny), tmp_path / "state", CPU, 0)
    save_weights(tmp_path / "w.safetensors", weights_of(trainer), meta)
    list(convert(tmp_path / "w.safetensors", tmp_path / "hub", Wish(to="transformers")))
    model = tmp_path / "hub" / "model.safetensors"
    save_file(load_file(model), model, {"format": "pt"})
    list(convert(tmp_path / "hub", tmp_path / "back.safetensors", Wish()))
    arguments = (spec, tiny.features, tiny.folder / "single", "valid")
    one, _ = predict(*arguments, tmp_path / "w.safetensors", tmp_path / "one", CPU)
    two, _ = predict(*arguments, tmp_path / "back.safetensors", tmp_path / "two", CPU)
    assert np.array_equal(one, two)
    assert answers_of(tmp_path / "back.safetensors", tiny.folder / "single") == ["a", "b", "c"]


def test_pretraining_begins_with_bert(tiny: TinyTask, tmp_path: Path) -> None:
    """One word of the recipe and one file; at rate 0 the language side stays BERT's."""
    donor, _ = pretrain(tiny.pretrain_spec(max_steps=3), pretrain_inputs(tiny), tmp_path / "d", CPU, 0)
    keys = KeyMap(read_yaml(PACKAGE / "systems" / "lxmert" / "keys.yaml"))
    named = from_ours(weights_of(donor), keys, "reference_pretraining")
    bert = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in named.items()
        if name.startswith(("bert.embeddings.", "bert.encoder.layer.", "bert.pooler.", "cls."))
    }
    torch.save(bert, tmp_path / "bert.bin")
    inputs = replace(pretrain_inputs(tiny), init=tmp_path / "bert.bin")
    rate = {"name": "bert_adam", "lr": 0.0}
    spec = tiny.pretrain_spec(max_steps=2, init="bert", optimizer=rate)
    started, _ = pretrain(spec, inputs, tmp_path / "p", CPU, 0)
    scratch = tiny.pretrain_spec(max_steps=2, optimizer=rate)
    fresh, _ = pretrain(scratch, pretrain_inputs(tiny), tmp_path / "s", CPU, 0)
    wanted, random, found = weights_of(donor), weights_of(fresh), weights_of(started)
    language = ("encoder.embeddings.", "encoder.language", "encoder.pooler.")
    heads = ("objectives.masked_lm.", "objectives.matching.")
    for name, value in found.items():
        assert torch.equal(value, (wanted if name.startswith(language + heads) else random)[name]), name
    with pytest.raises(SpecError, match='recipe/init is "bert", but no --init weights were given'):
        pretrain(spec, pretrain_inputs(tiny), tmp_path / "e", CPU, 0)
    with pytest.raises(SpecError, match='recipe/init is "scratch", but --init .*bert.bin was given'):
        pretrain(scratch, inputs, tmp_path / "e", CPU, 0)


def test_what_does_not_fit_is_one_line(tiny: TinyTask, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match='unknown loss "hinge"'):
        finetune(tiny.spec(recipe={"loss": {"name": "hinge"}}), inputs_of(tiny), tmp_path / "a", CPU, 0)
    with pytest.raises(SpecError, match="no --init weights"):
        finetune(tiny.spec(init="pretrained"), inputs_of(tiny), tmp_path / "b", CPU, 0)
    with pytest.raises(DataError, match=r"of image set right, but the stores given are left"):
        only_left = replace(inputs_of(tiny), features=tiny.features[:1])
        finetune(tiny.spec(), only_left, tmp_path / "c", CPU, 0)
    wrong_size = tiny.spec(init="pretrained", size={**tiny.spec()["size"], "hidden": 32})
    trainer, meta = pretrain(tiny.pretrain_spec(), pretrain_inputs(tiny), tmp_path / "p", CPU, 0)
    save_weights(tmp_path / "p.safetensors", weights_of(trainer), meta)
    with pytest.raises(WeightsError, match="of another shape"):
        finetune(wrong_size, inputs_of(tiny, init=tmp_path / "p.safetensors"), tmp_path / "d", CPU, 0)


def test_a_loss_that_is_not_finite_stops_the_run(tiny: TinyTask, tmp_path: Path) -> None:
    recipe = {"optimizer": {"name": "adamw", "lr": 1e30, "weight_decay": 0.0}, "clip_norm": None}
    with pytest.raises(LxmertError, match=r"step 4: the loss .* not finite, examples q.* 3 such"):
        finetune(tiny.spec(recipe=recipe), inputs_of(tiny), tmp_path, CPU, 0)


def test_a_changed_spec_starts_again(
    tiny: TinyTask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    finetune(tiny.spec(), inputs_of(tiny), tmp_path, CPU, 0)
    with caplog.at_level("INFO"):
        finetune(tiny.spec(seed=4), inputs_of(tiny), tmp_path, CPU, 0)
    assert "spec/seed changed since the unfinished run; starting again" in caplog.text


def test_stores_of_two_extractions_do_not_mix(tiny: TinyTask, tmp_path: Path) -> None:
    weights = [{"weights": {"sha256": letter * 64}} for letter in "ab"]
    one = tiny.other_store(tmp_path / "one.lmdb", provenance=weights[0])
    silent = tiny.other_store(tmp_path / "silent.lmdb")
    RegionSource([silent, one, *tiny.features])  # an imported store does not say who made it
    for number, (changes, told) in enumerate(
        (
            (
                {"version": 2},
                r"other0\.lmdb: made with extraction profile tiny \(version 2\), but .*silent\.lmdb with",
            ),
            ({"width": 8}, r"other1\.lmdb: features are 8 wide, but 6 in .*silent\.lmdb"),
            (
                {"provenance": weights[1]},
                r"other2\.lmdb: made with detector weights b{12}, but .*one\.lmdb with a{12}",
            ),
        )
    ):
        other = tiny.other_store(tmp_path / f"other{number}.lmdb", **changes)
        with pytest.raises(DataError, match=told):
            RegionSource([silent, one, other])


def test_examples_of_quarantined_images_are_left_out_of_training_and_answered_blind(
    tiny: TinyTask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed = [{"id": "i11", "file": "i11.jpg", "reason": "truncated file"}]
    path = tiny.other_store(tmp_path / "left.lmdb", images=IMAGES - 1, provenance={"quarantined": listed})
    regions = RegionSource([path, tiny.features[1]])
    with pytest.raises(DataError, match="image i12, .* run: snakemake"):
        regions.require(["left/i12", "left/i11"], Path("x"))
    columns = tiny.folder / "pairs" / "train.safetensors"
    kept = Examples([columns], regions, regions.feature_width, leave_out=True)
    every = Examples([columns], regions, regions.feature_width)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    lacking = (every.image_keys(np.arange(40)) == "left/i11").any(axis=1)
    assert 0 < lacking.sum() == len(every) - len(kept)
    assert f"{lacking.sum()} of 40 examples are left out: 1 quarantined images, first left/i11" in told[0]
    assert "are answered without their image" in told[1] and "truncated file" in told[1]
    assert (kept.image_keys(np.arange(len(kept))) == every.image_keys(np.flatnonzero(~lacking))).all()
    assert sorted(kept.by_image()) == list(range(len(kept)))
    np.testing.assert_array_equal(
        kept.tokens(kept.by_image()), every.tokens(every.by_image()[~lacking[every.by_image()]])
    )
    read = every.read_regions(["left/i11", "right/i0"])
    assert read.region_mask[0].tolist()[:2] == [1, 0] and not read.features[0].any()
    assert not regions.random_features(["left/i11"], np.array([0.5])).any()
    batches = PretrainBatches(
        tiny.folder / "pretrain" / "train.safetensors",
        regions,
        tiny.pretrain_spec()["recipe"],
        read_vocabulary(tiny.vocabulary),
        3,
    )
    for step in range(10):
        batch = batches.batch(step)
        assert batch.region_mask is None or (batch.region_mask.sum(dim=1) > 1).all()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": 2}, r"profile tiny \(version 1\), but .* tiny \(version 2\)"),
        ({"width": 8}, "6 wide, but .* 8"),
    ],
)
def test_prediction_takes_only_features_of_the_run_s_extraction(
    tiny: TinyTask, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    spec, weights = tiny.spec(recipe={"max_steps": 1}), tmp_path / "w.safetensors"
    trainer, meta = finetune(spec, inputs_of(tiny), tmp_path / "state", CPU, 0)
    save_weights(weights, weights_of(trainer), meta)
    others = [tiny.other_store(tmp_path / f"{side}.lmdb", **changes) for side in ("left", "right")]
    with pytest.raises(WeightsError, match=told) as error:
        predict(spec, others, tiny.folder / "single", "hidden", weights, tmp_path / "predict", CPU)
    assert str(weights) in str(error.value)


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

    def slow(*args: Any) -> loop.Evaluation:
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
