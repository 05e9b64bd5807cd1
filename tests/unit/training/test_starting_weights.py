"""What weights a run starts from: pretrained ones, BERT's; and what is said of those it does not take."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import CPU, TinyTask, assert_same, finetune_inputs, pretrain_inputs, weights_of

from lxmert.errors import SpecError
from lxmert.models.weights import KeyMap, from_ours, read_weights, save_weights
from lxmert.specs.documents import PACKAGE, read_yaml
from lxmert.training.finetune import finetune
from lxmert.training.pretrain import pretrain


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_pretrained_weights_start_the_encoder_and_the_answers(tiny: TinyTask, tmp_path: Path) -> None:
    trainer, meta = pretrain(tiny.pretrain_spec(), pretrain_inputs(tiny), tmp_path / "p", CPU, 0)
    init = tmp_path / "p.safetensors"
    save_weights(init, weights_of(trainer), meta)
    spec = tiny.spec(init="pretrained", recipe={"optimizer": {"name": "bert_adam", "lr": 0.0}})
    started, _ = finetune(spec, finetune_inputs(tiny, init=init), tmp_path / "f", CPU, 0)
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
    _, described = finetune(spec, finetune_inputs(tiny, init=init), tmp_path / "f", CPU, 0)
    assert described["answers"] == ["a", "b", "c"]
    assert described["answer_rows"] == {"pretrained": 2, "zeroed": ["c"]}
    assert 'answer head: 2 of 3 answers begin with pretrained rows, 1 at zero: "c"' in caplog.text
    assert "matched, 0 missing, 0 unexpected, 0 of another shape" in caplog.text
    assert "tensors: heads of pretraining" in caplog.text


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


def finetuned(tiny: TinyTask, folder: Path, head: str, **recipe: Any) -> tuple[Path, dict[str, Any]]:
    """Weights of a run, and what they say of themselves."""
    task = "pairs" if head == "pair_classification" else "single"
    recipe = {"max_steps": 2, **recipe}
    trainer, meta = finetune(tiny.spec(head, recipe=recipe), finetune_inputs(tiny, task), folder, CPU, 0)
    save_weights(folder / "w.safetensors", weights_of(trainer), meta)
    return folder / "w.safetensors", meta


@pytest.mark.parametrize("head", ["classification", "pair_classification"])
def test_fine_tuned_weights_start_the_head_by_their_own_answers(
    tiny: TinyTask, tmp_path: Path, caplog: pytest.LogCaptureFixture, head: str
) -> None:
    """Their order of answers is their own; "No" and "no" are one answer, which only one of them knows."""
    path, meta = finetuned(tiny, tmp_path / "f", head)
    tensors, _ = read_weights(path)
    save_weights(path, tensors, {**meta, "answers": ["c", "a", "No"]})
    task = tmp_path / "task"
    shutil.copytree(tiny.folder / ("pairs" if head == "pair_classification" else "single"), task)
    (task / "answers.json").write_text(json.dumps(["a", "no", "d"]))
    inputs = replace(finetune_inputs(tiny, init=path), examples=task)
    spec = tiny.spec(head, init="pretrained", recipe={"max_steps": 1, "optimizer": {"lr": 0.0}})
    caplog.set_level("INFO")
    started, described = finetune(spec, inputs, tmp_path / "again", CPU, 0)
    found = weights_of(started)
    for name, value in tensors.items():
        if not name.startswith("head.outer."):
            assert torch.equal(found[name], value), name
    for part in ("weight", "bias"):
        before = tensors[f"head.outer.{part}"]
        expected = torch.stack([before[1], before[2], torch.zeros_like(before[0])])
        assert torch.equal(found[f"head.outer.{part}"], expected)
    assert described["answer_rows"] == {"pretrained": 2, "zeroed": ["d"]}
    assert "left out: 6 tensors: the head of fine-tuned weights: rows are chosen by answer" in caplog.text
    assert "left out: 6 tensors: the task's head takes its rows by answer" in caplog.text
    assert 'answer head: 2 of 3 answers begin with pretrained rows, 1 at zero: "d"' in caplog.text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"answers": None}, "that do not list their answers (lxmert convert --answers)"),
        ({}, "of another kind than this task's"),
    ],
)
def test_a_head_that_is_not_taken_is_accounted_for(
    tiny: TinyTask, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, Any], told: str
) -> None:
    path, meta = finetuned(tiny, tmp_path / "f", "classification" if change else "pair_classification")
    save_weights(path, read_weights(path)[0], {**meta, **change})
    caplog.set_level("INFO")
    spec = tiny.spec(init="pretrained", recipe={"max_steps": 1, "optimizer": {"lr": 0.0}})
    _, described = finetune(spec, finetune_inputs(tiny, init=path), tmp_path / "again", CPU, 0)
    assert described["answer_rows"] is None
    (line,) = [text for text in caplog.messages if "the head of fine-tuned weights" in text]
    assert line.startswith("left out: 6 tensors: ") and line.endswith(told)
    assert "left out: 6 tensors: a task's head keeps its random values" in caplog.text
    assert any(
        text.endswith("unexpected, 0 of another shape, 12 left out knowingly") for text in caplog.messages
    )
