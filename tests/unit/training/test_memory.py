"""Memory that runs out beside forward and backward passes: answers go on with less, the rest is one line."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_model import batch, model, step_of
from tiny_task import CPU, TinyTask, finetune_command, finetune_inputs, pretrain_inputs, weights_of

from lxmert.cli import main
from lxmert.data.batching import Examples, FinetuneBatches
from lxmert.data.regions import RegionSource
from lxmert.errors import LxmertError
from lxmert.memory import explained, is_out_of_memory
from lxmert.models.lxmert import LxmertEncoder
from lxmert.models.pretraining import PretrainingModel
from lxmert.models.weights import save_weights
from lxmert.training import inference, optimizers
from lxmert.training.finetune import finetune
from lxmert.training.held_out import held_out_losses
from lxmert.training.predict import predict
from lxmert.training.pretrain import pretrain
from lxmert.training.pretrain_data import PretrainData
from lxmert.training.task_loss import task_loss

SAID_BY_THE_CPU = "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried 9"
SAID_BY_CUDA = "CUDA out of memory. Tried to allocate 9 GiB."
ERRORS = (RuntimeError(SAID_BY_THE_CPU), torch.OutOfMemoryError(SAID_BY_CUDA), MemoryError())


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def short_of_memory(monkeypatch: pytest.MonkeyPatch, rows: int, error: BaseException) -> list[int]:
    """Layers that cross the two streams hold so many rows; gives how many were asked for each time."""
    plain, asked = LxmertEncoder.fuse, []

    def fuse(self: LxmertEncoder, questions: Any, images: Any, *rest: Any, **more: Any) -> Any:
        asked.append(len(questions.states))
        if len(questions.states) > rows:
            raise error
        return plain(self, questions, images, *rest, **more)

    monkeypatch.setattr(LxmertEncoder, "fuse", fuse)
    return asked


def test_it_is_told_from_other_failures() -> None:
    assert all(map(is_out_of_memory, ERRORS)) and is_out_of_memory(torch.OutOfMemoryError("x"))
    assert not is_out_of_memory(RuntimeError("shapes do not match")) and not is_out_of_memory(OSError("x"))
    assert explained(RuntimeError("shapes do not match"), "predict") is None
    text = str(explained(RuntimeError("out of memory\n" + 999 * "x"), "predict"))
    assert text.startswith("predict: out of memory (out of memory xxx") and len(text) < 450


@pytest.mark.parametrize("error", ERRORS)
def test_answers_go_on_with_less_at_once(
    tiny: TinyTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    trainer, meta = finetune(tiny.spec(), finetune_inputs(tiny), tmp_path / "s", CPU, 0)
    save_weights(tmp_path / "w.safetensors", weights_of(trainer), meta)
    spec = tiny.spec(recipe={"evaluate_batch": 200})
    arguments = (spec, tiny.features, tiny.folder / "single", "long", tmp_path / "w.safetensors")
    plain, _ = predict(*arguments, tmp_path / "plain", CPU)
    asked = short_of_memory(monkeypatch, 20, error)
    short, _ = predict(*arguments, tmp_path / "short", CPU)
    assert np.array_equal(plain, short)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert 2 <= len(told) <= 4 and "out of memory on cpu; going on with 1024 tokens at once" in told[0]
    # What was learnt of the device in the first chunk holds for the second.
    assert [rows > 20 for rows in asked[:1]] == [True] and sum(rows > 20 for rows in asked) == len(told)


def test_an_evaluation_goes_on_with_less_at_once(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _ = finetune(tiny.spec(recipe={"max_steps": 3}), finetune_inputs(tiny), tmp_path, CPU, 0)
    regions = RegionSource(tiny.features)
    examples = Examples([tiny.folder / "single" / "valid.safetensors"], regions, regions.feature_width)
    loss = task_loss("bce_times_answers")
    arguments = (trainer.job.model.eval(), examples, 3, 13, CPU, loss)
    plain = inference.label_score(*arguments)
    asked = short_of_memory(monkeypatch, 2, ERRORS[0])
    short = inference.label_score(*arguments)
    assert max(asked) > 2 and short.figures == pytest.approx(plain.figures, rel=1e-6)


def test_held_out_losses_go_on_with_fewer_examples(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = tiny.pretrain_spec(max_steps=1)
    trainer, _ = pretrain(spec, pretrain_inputs(tiny), tmp_path, CPU, 0)
    made, held_out = trainer.job.model.eval(), PretrainData.open(spec, pretrain_inputs(tiny)).held_out
    plain = held_out_losses(made, held_out, CPU)
    forward = PretrainingModel.forward

    def short(self: PretrainingModel, piece: Any) -> Any:
        if len(piece) > 4:
            raise RuntimeError(SAID_BY_THE_CPU)
        return forward(self, piece)

    monkeypatch.setattr(PretrainingModel, "forward", short)
    found = held_out_losses(made, held_out, CPU)
    assert found.figures == pytest.approx(plain.figures, rel=1e-5)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told[0].startswith("out of memory with 16 held-out examples at once; going on with 8")
    monkeypatch.setattr(PretrainingModel, "forward", lambda self, piece: short(self, [0] * 9))
    with pytest.raises(LxmertError, match="out of memory on cpu with one held-out example at a time"):
        held_out_losses(made, held_out, CPU)


def test_answers_that_do_not_fit_one_by_one_are_one_line(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _ = finetune(tiny.spec(recipe={"max_steps": 3}), finetune_inputs(tiny), tmp_path, CPU, 0)
    short_of_memory(monkeypatch, 0, ERRORS[0])
    regions = RegionSource(tiny.features)
    examples = Examples([tiny.folder / "single" / "valid.safetensors"], regions, regions.feature_width)
    with pytest.raises(LxmertError, match=r"out of memory on cpu while answering one example at a time"):
        inference.chunk_logits(trainer.job.model.eval(), examples, np.arange(13), CPU)


def test_other_failures_of_an_answer_stay_what_they_are(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _ = finetune(tiny.spec(recipe={"max_steps": 3}), finetune_inputs(tiny), tmp_path, CPU, 0)
    asked = short_of_memory(monkeypatch, 0, RuntimeError("shapes do not match"))
    examples = Examples([tiny.folder / "single" / "valid.safetensors"], None, 6)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        inference.chunk_logits(trainer.job.model.eval(), examples, np.arange(13), CPU)
    assert len(asked) == 1


def test_an_optimiser_that_does_not_fit_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    training = step_of(model())

    def full(self: optimizers.Optimizer, name: str) -> None:
        raise RuntimeError(SAID_BY_THE_CPU)

    monkeypatch.setattr(optimizers.Optimizer, "_start", full)
    with pytest.raises(LxmertError, match=r"^step 5: out of memory on cpu for the optimiser's two moments"):
        training.run(batch(), 3, 5, 1.0)


@pytest.mark.parametrize("error", ERRORS)
def test_anything_else_is_one_line_and_status_2(
    tiny: TinyTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    def full(*arguments: Any, **more: Any) -> None:
        raise error

    monkeypatch.setattr("lxmert.training.building.build_head", full)
    assert main(finetune_command(tiny, tiny.spec(), tmp_path)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if " INFO " not in line]
    assert line.startswith("finetune: out of memory (") and "or use a device with more memory" in line
    assert not (tmp_path / "w.safetensors").exists()


def test_a_loader_that_is_killed_is_one_line(
    tiny: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = FinetuneBatches.batch

    def batch_of(self: FinetuneBatches, step: int) -> Any:
        if step == 2 and torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, step)

    monkeypatch.setattr(FinetuneBatches, "batch", batch_of)
    assert main(["--workers", "1", *finetune_command(tiny, tiny.spec(), tmp_path)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if " INFO " not in line]
    assert line.startswith("finetune: a process that loads data is gone (DataLoader worker (pid")
    assert line.count("fewer --workers") == 1 and not (tmp_path / "w.safetensors").exists()
    assert main(finetune_command(tiny, tiny.spec(), tmp_path)) == 0
