"""Sizes, dropout noise, masks, initial values, attention."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from lxmert.errors import SpecError
from lxmert.models.dropout import Dropout, DropoutNoise
from lxmert.models.layers import Attention, Embedding, Size, initialise
from lxmert.models.rows import Rows, additive_mask

SMALL = {
    "hidden": 8,
    "heads": 2,
    "intermediate": 12,
    "language_layers": 1,
    "relation_layers": 1,
    "cross_layers": 1,
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hiden": 3}, 'size/hiden: unknown setting. Did you mean "hidden"?'),
        ({"heads": 3}, "size/hidden: 8 is not a multiple of heads 3"),
    ],
)
def test_a_bad_size_is_explained(change: dict, told: str) -> None:
    with pytest.raises(SpecError) as error:
        Size.of(SMALL | change)
    assert told in str(error.value)
    with pytest.raises(SpecError, match="missing hidden"):
        Size.of({key: value for key, value in SMALL.items() if key != "hidden"})


def test_dropout_keeps_the_mean_and_drops_its_share() -> None:
    noise = DropoutNoise()
    noise.begin(7, 0)
    dropped = Dropout(0.1, noise).train()(torch.ones(400, 501))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.1, abs=3e-3)
    assert dropped.mean().item() == pytest.approx(1.0, abs=3e-3)
    kept = dropped[dropped != 0]
    assert torch.equal(kept, torch.full_like(kept, 65536 / (65536 - 6554)))


def test_dropout_depends_on_key_pass_place_and_use_only() -> None:
    noise = DropoutNoise()
    one, two = Dropout(0.5, noise).train(), Dropout(0.5, noise).train()
    values = torch.ones(5, 13)
    noise.begin(1, 2)
    first = one(values)
    torch.manual_seed(0)
    torch.rand(3)
    assert torch.equal(first, one(values))  # computed again: the same mask
    others = [two(values), one(values, 1)]
    noise.advance()
    others.append(one(values))
    noise.begin(1, 3)
    others.append(one(values))
    assert not any(torch.equal(first, other) for other in others)
    noise.begin(1, 2)
    assert torch.equal(first, one(values))


def test_dropout_of_nothing() -> None:
    noise = DropoutNoise()
    values = torch.ones(2, 3)
    assert Dropout(0.0, noise).train()(values) is values
    assert Dropout(0.5, noise).eval()(values) is values
    assert Dropout(0.5, noise).train()(torch.ones(0, 3)).shape == (0, 3)


def test_add_to_is_residual_plus_dropout_with_its_gradient() -> None:
    noise = DropoutNoise()
    dropout = Dropout(0.3, noise).train()
    residual, values = torch.randn(4, 5), torch.randn(4, 5, requires_grad=True)
    total = dropout.add_to(residual, values, Rows((2, 2)))
    assert torch.allclose(total, residual + dropout(values))
    total.sum().backward()
    assert torch.equal(values.grad, dropout(torch.ones(4, 5)))


def test_additive_mask_is_absent_when_nothing_is_masked() -> None:
    assert additive_mask(None) is None
    assert additive_mask(torch.ones(2, 3, dtype=torch.int64)) is None
    mask = additive_mask(torch.tensor([[1, 1, 0]]))
    assert mask.shape == (1, 1, 1, 3)
    assert mask.flatten().tolist() == [0.0, 0.0, -10000.0]


def test_embedding_row_zero_gets_no_gradient() -> None:
    table = Embedding(4, 2)
    initialise(table, 0)
    table(torch.tensor([[0, 2], [2, 0]])).sum().backward()
    assert table.weight.grad.sum(1).tolist() == [0.0, 0.0, 4.0, 0.0]


def test_initial_values_depend_on_name_and_seed_only() -> None:
    def build(*extra: nn.Module) -> nn.Module:
        model = nn.ModuleDict({"attention": Attention(Size.of(SMALL), DropoutNoise())})
        for number, module in enumerate(extra):
            model[f"extra{number}"] = module
        return model

    alone, together, other = build(), build(nn.Linear(300, 200)), build()
    initialise(alone, 1)
    initialise(together, 1)
    initialise(other, 2)
    weight = alone["attention"].qkv.weight
    assert torch.equal(weight, together["attention"].qkv.weight)
    assert not torch.equal(weight, other["attention"].qkv.weight)
    assert together["extra0"].weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert together["extra0"].bias.abs().max().item() == 0.0
    assert torch.equal(alone["attention"].norm.weight, torch.ones(8))
    assert torch.equal(alone["attention"].norm.bias, torch.zeros(8))


@pytest.mark.parametrize("masked", [False, True])
def test_spelt_out_attention_equals_the_fused_kernel(masked: bool) -> None:
    """A rate so small that no element is dropped takes the training path."""
    size = Size.of(SMALL | {"hidden_dropout": 0.0, "attention_dropout": 1e-9})
    attention = Attention(size, DropoutNoise()).double()
    initialise(attention, 4)
    mask = additive_mask(torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1] * 5])) if masked else None
    rows = Rows.of(mask, (3, 5))
    tokens = torch.randn(len(rows), 8, dtype=torch.float64)
    expected = attention.eval()(tokens, rows)
    assert torch.allclose(attention.train()(tokens, rows), expected, atol=1e-12)
    assert torch.allclose(attention.eval().first_token(tokens, rows), rows.first(expected), atol=1e-12)
    query, key, value = functional.linear(tokens, attention.qkv.weight, attention.qkv.bias).chunk(3, -1)
    assert torch.allclose(attention.query(tokens), query)
    assert torch.allclose(attention.key_value(tokens), torch.cat([key, value], -1))
