"""Products by oneDNN equal those of PyTorch's BLAS, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from lxmert.models.dropout import DropoutNoise
from lxmert.models.layers import BertLayer, Size, initialise
from lxmert.models.packed import Packed, packed
from lxmert.models.products import by_onednn, product
from lxmert.models.rows import Rows

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


@pytest.mark.parametrize("shape", [(5,), (2, 3), (0,)])
@pytest.mark.parametrize("tail", ["", "gelu", "residual"])
def test_values_and_gradients_are_those_of_linear(shape: tuple[int, ...], tail: str) -> None:
    draw = torch.Generator().manual_seed(3)

    def made(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=draw).requires_grad_()

    tokens, weight, bias, residual = made(*shape, 256), made(320, 256), made(320), made(*shape, 320)
    used = residual if tail == "residual" else None
    assert by_onednn(tokens, weight)
    leaves = [tokens, weight, bias] + ([residual] if used is not None else [])
    results = []
    for plain in (True, False):
        if plain:
            values = functional.linear(tokens, weight, bias)
            values = functional.gelu(values) if tail == "gelu" else values
            values = values + residual if used is not None else values
        else:
            values = product(tokens, weight, bias, tail == "gelu", used)
        results.append([values, *torch.autograd.grad(values.square().sum(), leaves)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    with torch.inference_mode():
        found = product(tokens, weight, bias, tail == "gelu", used)
    torch.testing.assert_close(found, results[0][0].detach(), rtol=1e-5, atol=1e-4)


def test_a_frozen_input_gets_no_gradient() -> None:
    tokens, weight = torch.randn(4, 256), torch.randn(256, 256, requires_grad=True)
    bias = torch.zeros(256)
    product(tokens, weight, bias).sum().backward()
    assert tokens.grad is None and bias.grad is None and weight.grad.shape == (256, 256)


def test_what_onednn_is_not_asked() -> None:
    weight = torch.randn(256, 256)
    tokens = torch.randn(4, 256)
    assert by_onednn(tokens, weight)
    assert not by_onednn(tokens.double(), weight.double()) and not by_onednn(tokens, weight[:16])
    with torch.backends.mkldnn.flags(enabled=False):
        assert not by_onednn(tokens, weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert not by_onednn(tokens, weight)


def test_packed_weights_give_the_same_bits_and_only_without_gradient() -> None:
    size = Size(hidden=256, heads=4, intermediate=512, language_layers=1, relation_layers=0, cross_layers=0)
    layer = BertLayer(size, DropoutNoise()).eval()
    initialise(layer, 1)
    rows, tokens = Rows((2, 3)), torch.randn(6, 256)
    with torch.inference_mode():
        expected, first = layer(tokens, rows), layer.attention.first_token(tokens, rows)
        with packed(layer):
            assert torch.equal(layer(tokens, rows), expected)
            assert torch.equal(layer.attention.first_token(tokens, rows), first)
            assert isinstance(layer.attention.qkv.packed, Packed)
            assert layer.attention.output.packed is not None
    with packed(layer):
        layer(tokens, rows).sum().backward()
    assert layer.attention.qkv.weight.grad is not None
    assert layer.attention.qkv.packed is None
