"""Answers of a split: as plain batches give them, resumed, by integers, with weights from elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_task import CPU, TinyTask, finetune_inputs, weights_of

from lxmert.cli import main
from lxmert.convert.converting import Wish, convert
from lxmert.data.batching import Examples
from lxmert.data.regions import RegionSource
from lxmert.errors import Interrupted, SpecError, WeightsError
from lxmert.models.weights import save_weights
from lxmert.training import inference
from lxmert.training import predict as predict_module
from lxmert.training.finetune import finetune
from lxmert.training.inference import chunk_logits
from lxmert.training.predict import answers_of, predict


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_chunks_answer_as_plain_batches_do(tiny: TinyTask, tmp_path: Path) -> None:
    for task, head in (("single", "classification"), ("pairs", "pair_classification")):
        trainer, _ = finetune(tiny.spec(head), finetune_inputs(tiny, task), tmp_path / task, CPU, 0)
        model = trainer.job.model.eval()
        regions = RegionSource(tiny.features)
        examples = Examples([tiny.folder / task / "train.safetensors"], regions, regions.feature_width)
        rows = np.arange(len(examples))
        with torch.no_grad():
            plain = model(examples.batch(rows, 3))
        assert torch.allclose(chunk_logits(model, examples, rows, CPU), plain, atol=1e-5)


def test_a_blind_run_cannot_tell_images_apart(tiny: TinyTask, tmp_path: Path) -> None:
    trainer, _ = finetune(tiny.spec(vision=False), finetune_inputs(tiny), tmp_path, CPU, 0)
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
    trainer, meta = finetune(spec, finetune_inputs(tiny), tmp_path / "state", CPU, 0)
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


def test_a_run_answers_in_the_precision_it_was_chosen_in(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluation that chose the weights, and the submission: the same logits, bit for bit."""
    seen: list[torch.Tensor] = []
    plain = chunk_logits

    def noting(*arguments: Any) -> torch.Tensor:
        seen.append(plain(*arguments))
        return seen[-1]

    monkeypatch.setattr(inference, "chunk_logits", noting)
    monkeypatch.setattr(predict_module, "chunk_logits", noting)
    for precision, kind in (("bf16", torch.bfloat16), ("fp64", torch.float64)):
        spec = tiny.spec(recipe={"precision": precision, "max_steps": 6})
        trainer, meta = finetune(spec, finetune_inputs(tiny), tmp_path / precision, CPU, 0)
        save_weights(tmp_path / "w.safetensors", weights_of(trainer), meta)
        chosen = seen[-1]
        folder, weights = tiny.folder / "single", tmp_path / "w.safetensors"
        predict(spec, tiny.features, folder, "valid", weights, tmp_path / f"p-{precision}", CPU)
        assert seen[-1].dtype == kind and torch.equal(seen[-1], chosen)


def test_the_command_answers_as_the_spec_says_unless_told_otherwise(
    tiny: TinyTask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tiny.spec(recipe={"max_steps": 3})
    trainer, meta = finetune(spec, finetune_inputs(tiny), tmp_path / "state", CPU, 0)
    save_weights(tmp_path / "w.safetensors", weights_of(trainer), meta)
    verb = ["--threads", "1", "--workers", "2", "predict", "--spec", json.dumps({**spec, "quantize": "int8"})]
    verb += ["--features", *map(str, tiny.features), "--examples", str(tiny.folder / "single")]
    verb += ["--split", "valid", "--weights", str(tmp_path / "w.safetensors")]
    verb += ["--state", str(tmp_path / "p"), "--out", str(tmp_path / "valid.json")]
    for options, quantize in (([], "int8"), (["--quantize", "none"], "none")):
        assert main([*verb, *options]) == 0
        record = json.loads((tmp_path / "valid.json.meta.json").read_text())
        assert (record["quantize"], record["precision"]) == (quantize, "fp32")
    assert "WARNING lxmert.cli: --workers 2: predict loads its data itself" in capsys.readouterr().err


def test_prediction_resumes_and_keeps_file_order(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny.spec(recipe={"evaluate_batch": 4})
    trainer, meta = finetune(spec, finetune_inputs(tiny), tmp_path / "state", CPU, 0)
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


def test_answers_mean_what_they_meant_in_training(tiny: TinyTask, tmp_path: Path) -> None:
    """Published weights number their answers in an order that no rebuilt list has."""
    trainer, meta = finetune(
        tiny.spec(recipe={"max_steps": 20}), finetune_inputs(tiny), tmp_path / "state", CPU, 0
    )
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
        finetune(tiny.spec(init="pretrained"), finetune_inputs(tiny, init=weights), tmp_path / "five", CPU, 0)


def test_weights_of_another_program_predict(tiny: TinyTask, tmp_path: Path) -> None:
    """A folder as others write it, without our header, answers as the run it came from."""
    spec = tiny.spec(recipe={"max_steps": 3})
    trainer, meta = finetune(spec, finetune_inputs(tiny), tmp_path / "state", CPU, 0)
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
    trainer, meta = finetune(spec, finetune_inputs(tiny), tmp_path / "state", CPU, 0)
    save_weights(weights, weights_of(trainer), meta)
    others = [tiny.other_store(tmp_path / f"{side}.lmdb", **changes) for side in ("left", "right")]
    with pytest.raises(WeightsError, match=told) as error:
        predict(spec, others, tiny.folder / "single", "hidden", weights, tmp_path / "predict", CPU)
    assert str(weights) in str(error.value)
