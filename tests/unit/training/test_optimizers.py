"""BertAdam against its formula in NumPy, AdamW against PyTorch's, state, clipping, mistakes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lxmert.errors import SpecError, WeightsError
from lxmert.training.optimizers import (
    AdamW,
    BertAdam,
    build_optimizer,
    clip_scale,
    global_norm,
)
from lxmert.training.schedules import linear

SHAPES = {"matrix.weight": (7, 5), "matrix.bias": (7,), "unused": (3,), "single": (1,)}


def parameters(dtype: torch.dtype = torch.float64) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return {
        name: nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype))
        for name, shape in SHAPES.items()
    }


def give_gradients(values: dict[str, nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for name, value in values.items():
        value.grad = None
        if name != "unused":
            value.grad = torch.randn(value.shape, generator=generator, dtype=value.dtype)


def test_bert_adam_follows_its_formula() -> None:
    """No bias correction, decay on biases too, rate 0 at the first step, a warm-up of two steps."""
    values = parameters()
    expected = {name: value.detach().numpy().copy() for name, value in values.items()}
    m = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    v = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    optimizer = BertAdam(values.items(), lr=0.05, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01)
    for step in range(10):
        give_gradients(values, step)
        factor = linear(step, 10, 0.2)
        for name, value in values.items():
            if value.grad is None:
                continue
            gradient = value.grad.numpy()
            m[name] = 0.9 * m[name] + 0.1 * gradient
            v[name] = 0.999 * v[name] + 0.001 * gradient**2
            update = m[name] / (np.sqrt(v[name]) + 1e-6) + 0.01 * expected[name]
            expected[name] = expected[name] - 0.05 * factor * update
        before = {name: value.detach().clone() for name, value in values.items()}
        optimizer.step(factor)
        if step == 0:
            assert all(torch.equal(value, before[name]) for name, value in values.items())
            assert optimizer.first["single"].abs().max() > 0  # the moments move all the same
        for name, value in values.items():
            np.testing.assert_allclose(value.detach().numpy(), expected[name], rtol=1e-10, atol=1e-13)
    assert torch.equal(values["unused"], parameters()["unused"])
    assert set(optimizer.first) == set(SHAPES) - {"unused"}


def test_bert_adam_in_float32_stays_close_to_float64() -> None:
    single, double = parameters(torch.float32), parameters()
    optimizers = [BertAdam(single.items(), lr=1e-3), BertAdam(double.items(), lr=1e-3)]
    for value in double:
        double[value].data.copy_(single[value].data)
    for step in range(50):
        give_gradients(double, step)
        for name, value in single.items():
            value.grad = None if double[name].grad is None else double[name].grad.float()
        for optimizer in optimizers:
            optimizer.step(0.7)
    for name, value in single.items():
        torch.testing.assert_close(value.double(), double[name], rtol=1e-5, atol=1e-6)


def test_adamw_equals_torch() -> None:
    ours, theirs = parameters(), parameters()
    optimizer = AdamW(ours.items(), lr=0.01, betas=(0.8, 0.99), eps=1e-8, weight_decay=0.1)
    expected = torch.optim.AdamW(theirs.values(), lr=0.01, betas=(0.8, 0.99), eps=1e-8, weight_decay=0.1)
    for step in range(5):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        optimizer.step()
        expected.step()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", [BertAdam, AdamW])
def test_a_restored_state_goes_on_bit_for_bit(kind: type[BertAdam]) -> None:
    whole, resumed = parameters(torch.float32), parameters(torch.float32)
    first, second = kind(whole.items(), lr=0.01), kind(resumed.items(), lr=0.01)
    for step in range(6):
        if step == 3:
            state = {name: value.clone() for name, value in second.state_dict().items()}
            second = kind(resumed.items(), lr=0.01)
            second.load_state_dict(state)
        for values, optimizer in ((whole, first), (resumed, second)):
            give_gradients(values, step)
            optimizer.step(0.5)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert first.state_dict().keys() == second.state_dict().keys()


@pytest.mark.parametrize(
    ("key", "shape", "told"), [("first.other", (3,), "no parameter"), ("second.single", (2,), "[1]")]
)
def test_a_foreign_state_is_refused(key: str, shape: tuple[int, ...], told: str) -> None:
    optimizer = BertAdam(parameters().items(), lr=0.01)
    with pytest.raises(WeightsError, match=r"optimiser state: .*start again") as error:
        optimizer.load_state_dict({key: torch.zeros(shape)})
    assert key in str(error.value) and told in str(error.value)


def test_clipping_inside_the_step_equals_clipping_before_it() -> None:
    inside, before = parameters(), parameters()
    give_gradients(inside, 0)
    give_gradients(before, 0)
    optimizer = BertAdam(inside.items(), lr=0.1)
    norm = optimizer.grad_norm()
    optimizer.step(grad_scale=clip_scale(norm, 1.0))
    other = BertAdam(before.items(), lr=0.1)
    assert torch.nn.utils.clip_grad_norm_(before.values(), 1.0).item() == pytest.approx(norm.item())
    assert other.grad_norm().item() == pytest.approx(1.0, abs=1e-6)
    other.step()
    for name, value in inside.items():
        torch.testing.assert_close(value, before[name], rtol=1e-6, atol=1e-9)


def test_clipping_equals_torch_and_leaves_small_gradients_alone() -> None:
    values = parameters()
    give_gradients(values, 0)
    kept = [value.grad.clone() for value in values.values() if value.grad is not None]
    norm = torch.nn.utils.clip_grad_norm_(values.values(), 2.0)
    assert global_norm(kept).item() == pytest.approx(norm.item())
    scale = clip_scale(norm, 2.0)
    for ours, theirs in zip(kept, (v.grad for v in values.values() if v.grad is not None), strict=True):
        torch.testing.assert_close(ours * scale, theirs)
    assert clip_scale(torch.tensor(0.5), 1.0).item() == 1.0
    assert clip_scale(torch.tensor(0.5), None) is None
    assert global_norm([]).item() == 0.0


def test_a_shared_parameter_is_updated_once() -> None:
    value = parameters()["single"]
    value.grad = torch.ones_like(value)
    optimizer = BertAdam([("a", value), ("b", value)], lr=0.1)
    optimizer.step()
    assert list(optimizer.parameters) == ["a"]
    BertAdam([], lr=0.1).step()  # nothing to do is no error


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"name": "bert_adm", "lr": 1.0}, 'unknown optimiser "bert_adm". Did you mean "bert_adam"?'),
        ({"learning_rate": 1.0}, "optimizer/learning_rate: unknown setting."),
        ({"name": "adamw"}, "optimizer/lr: missing"),
    ],
)
def test_a_bad_optimiser_document_is_explained(spec: dict, told: str) -> None:
    with pytest.raises(SpecError) as error:
        build_optimizer(spec, parameters().items())
    assert told in str(error.value)


def test_the_recipe_chooses_the_optimiser() -> None:
    spec = {"name": "adamw", "lr": 0.5, "betas": [0.7, 0.8], "eps": 0.1, "weight_decay": 0.2}
    optimizer = build_optimizer(spec, parameters().items())
    assert isinstance(optimizer, AdamW)
    assert (optimizer.lr, optimizer.betas, optimizer.eps, optimizer.weight_decay) == (
        0.5,
        (0.7, 0.8),
        0.1,
        0.2,
    )
