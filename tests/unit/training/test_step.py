"""One step: cut in pieces, short of memory, in lower precision, with batches that spoil it."""

from __future__ import annotations

import math

import pytest
import torch
from engine_model import B, batch, gradients_of, model, step_of

from lxmert.errors import LxmertError, SpecError
from lxmert.memory import is_out_of_memory
from lxmert.training.pieces import count_examples, cut, piece_of, rows_of, share_of
from lxmert.training.precision import LossScale, Precision
from lxmert.training.step import TrainingStep
from lxmert.types import Batch


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_spans_cover_a_batch_once() -> None:
    assert [share_of(7, rank, 3) for rank in range(3)] == [(0, 2), (2, 4), (4, 7)]
    assert [share_of(1, rank, 3) for rank in range(3)] == [(0, 0), (0, 0), (0, 1)]
    assert cut((2, 7), 2) == [(2, 4), (4, 6), (6, 7)] and cut((2, 7), None) == [(2, 7)]
    assert cut((3, 3), None) == [] and cut((3, 3), 4) == []


def test_a_pair_stays_together() -> None:
    rows = torch.arange(6).reshape(6, 1)
    whole = Batch(rows, rows, rows[:, None].float(), rows[:, None].float(), None, {"t": torch.arange(3)})
    piece = piece_of(whole, (1, 3))
    assert count_examples(whole) == 3 and rows_of(whole, (1, 3)) == (2, 6)
    assert piece.input_ids.flatten().tolist() == [2, 3, 4, 5] and piece.targets["t"].tolist() == [1, 2]
    assert piece.region_mask is None and piece_of(whole, (0, 3)) is whole


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_micro_batches_add_up_to_the_batch(dropout: float, micro_batch: int) -> None:
    """Loss and gradient to 1e-12 in float64, with the same dropout noise; pieces without some targets."""
    whole, pieces = (step_of(model(dropout), "fp64", size) for size in (None, micro_batch))
    expected, found = gradients_of(whole), gradients_of(pieces)
    assert expected.keys() == found.keys() and len(expected) > 40
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= 1e-12 * max(1.0, float(value.abs().max())), name
    outcomes = [training.run(batch(), 3, 6, 0.0) for training in (whole, pieces)]
    assert outcomes[0].loss == pytest.approx(outcomes[1].loss, rel=1e-12)
    assert outcomes[0].counts == outcomes[1].counts


def test_checkpointed_layers_give_the_same_gradient() -> None:
    kept, recomputed = step_of(model()), step_of(model(), micro_batch=3)
    recomputed.task.model.encoder.checkpoint_layers = True
    expected, found = gradients_of(kept), gradients_of(recomputed)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


def test_lack_of_memory_halves_the_micro_batch_and_changes_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device holds two examples; the failure comes in the middle of a step, with gradients left."""
    short, plain = step_of(model(), "fp64"), step_of(model(), "fp64", 1)
    losses = short.task.losses

    def of_a_small_device(piece: Batch) -> dict:
        if len(piece) > 2 or (len(piece) == 2 and not any("with 1," in text for text in caplog.messages)):
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory")
        return losses(piece)

    short.task.losses = of_a_small_device
    expected, found = gradients_of(plain), gradients_of(short)
    assert short.micro_batch == 1
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert "step 5: out of memory with 7 examples at once; going on with 3, to the same result" in caplog.text


def test_one_example_that_does_not_fit_is_one_line() -> None:
    training = step_of(model(), micro_batch=2)

    def never(piece: Batch) -> dict:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    training.task.losses = never
    with pytest.raises(LxmertError, match=r"step 5: out of memory .* one example .*checkpoint_layers: true"):
        training.run(batch(), 3, 5, 1.0)


def test_other_failures_are_not_taken_for_lack_of_memory() -> None:
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(torch.OutOfMemoryError("x"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    training = step_of(model())

    def broken(piece: Batch) -> dict:
        raise RuntimeError("shapes do not match")

    training.task.losses = broken
    with pytest.raises(RuntimeError, match="shapes do not match"):
        training.run(batch(), 3, 5, 1.0)


@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
def test_a_batch_without_a_finite_loss_changes_nothing(spoilt: float) -> None:
    training, bad = step_of(model(), micro_batch=2), batch()
    bad.features[3, 1, 2] = spoilt
    before = {name: value.clone() for name, value in training.optimizer.parameters.items()}
    outcome = training.run(bad, 3, 5, 1.0)
    assert not outcome.updated and not math.isfinite(outcome.loss)
    assert all(torch.equal(value, before[name]) for name, value in training.optimizer.parameters.items())
    assert not training.optimizer.first
    alone = [math.isfinite(training.loss_of(bad, (row, row + 1))) for row in range(B)]
    assert alone == [row != 3 for row in range(B)]
    assert training.run(batch(), 3, 6, 1.0).updated


def trained(precision: str, scale: float | None = None) -> tuple[list[float], TrainingStep]:
    training = step_of(model(0.0), precision, lr=1e-3)
    if scale is not None:
        training.precision.scale.value = scale
    return [training.run(batch(), 3, step, 1.0).loss for step in range(8)], training


def test_lower_precision_follows_float32() -> None:
    plain, _ = trained("fp32")
    assert plain[-1] < 0.9 * plain[0]
    for precision in ("bf16", "fp16"):
        lower, training = trained(precision)
        assert lower == pytest.approx(plain, rel=0.01) and lower != plain
        assert all(value.dtype == torch.float32 for value in training.optimizer.parameters.values())


def test_overflow_in_fp16_lowers_the_scale_and_loses_no_step() -> None:
    plain, _ = trained("fp16")
    lower, training = trained("fp16", 2.0**30)  # gradients of float16 end at 65504
    scale = training.precision.scale
    assert lower == pytest.approx(plain, rel=1e-3)
    assert 1 <= scale.value < 2.0**30 and scale.good_steps == 8


def test_a_gradient_that_no_scale_heals_leaves_the_scale_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch is the NaN guard's then, and those after it do not begin at the smallest scale."""
    training = step_of(model(), "fp16")
    training.precision.scale.restore([2.0**8, 5.0])
    plain = training.optimizer.grad_norm
    broken = iter([torch.tensor(math.nan)] * 40)
    monkeypatch.setattr(training.optimizer, "grad_norm", lambda: next(broken))
    outcome = training.run(batch(), 3, 5, 1.0)
    assert not outcome.updated and math.isfinite(outcome.loss)
    assert training.precision.scale.state() == [2.0**8, 5.0] and len(list(broken)) == 40 - 9
    monkeypatch.setattr(training.optimizer, "grad_norm", plain)
    assert training.run(batch(), 3, 6, 1.0).updated and training.precision.scale.state() == [2.0**8, 6.0]


def test_a_loss_scale_grows_shrinks_and_is_kept() -> None:
    scale = LossScale(4.0, growth_steps=2)
    for _ in range(3):
        scale.succeeded()
    assert scale.state() == [8.0, 1.0]
    assert scale.overflowed() and scale.state() == [4.0, 0.0]
    other = LossScale()
    other.restore(scale.state())
    assert other.state() == [4.0, 0.0]
    assert [scale.overflowed() for _ in range(3)] == [True, True, False]


def test_an_unknown_precision_is_explained() -> None:
    with pytest.raises(SpecError, match='unknown precision "bf61". Did you mean "bf16"'):
        Precision("bf61", torch.device("cpu"))
