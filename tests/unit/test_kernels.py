"""Operations that a release of PyTorch may lack: tried once, and done without."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from lxmert import kernels
from lxmert.detector.onednn import in_one_pass
from lxmert.errors import SpecError
from lxmert.models.dropout import DropoutNoise
from lxmert.models.layers import BertLayer, Size, initialise
from lxmert.models.packed import packed
from lxmert.models.products import by_onednn, product
from lxmert.models.quantized import quantized
from lxmert.training.guards import are_finite
from lxmert.training.optimizers import OPTIMIZERS, Optimizer, global_norm

ONEDNN = ("linear", "packed_linear", "convolution")
PRIVATE = ("_fused_adamw_", "_foreach_norm", "_foreach_add_")


@pytest.fixture(autouse=True)
def tried_anew() -> Iterator[None]:
    kernels.has.cache_clear()
    yield
    kernels.has.cache_clear()


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PyTorch that has none of them."""
    for name in ("mkldnn", "quantized"):
        monkeypatch.setattr(torch.ops, name, SimpleNamespace())
    for name in PRIVATE:
        monkeypatch.delattr(torch, name)
    monkeypatch.delattr(torch.cpu, "_is_vnni_supported")
    monkeypatch.setitem(sys.modules, "torch.utils._triton", None)


@pytest.mark.parametrize("name", kernels.TRIALS)
def test_this_release_has_them(name: str) -> None:
    if name in ONEDNN and not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    assert kernels.has(name)


def test_one_that_computes_something_else_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "_foreach_norm", lambda tensors, order: [torch.zeros(()) for _ in tensors])
    assert not kernels.has("norms") and "norms computes something else; it is not used" in caplog.text
    assert kernels.norms([torch.tensor([3.0, 4.0])])[0] == 5.0


def test_without_any_products_are_the_public_ones(bare: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    draw = torch.Generator().manual_seed(3)
    tokens, weight, bias = (torch.randn(size, generator=draw) for size in ((5, 256), (320, 256), (320,)))
    assert not by_onednn(tokens, weight)
    assert torch.equal(product(tokens, weight, bias), functional.linear(tokens, weight, bias))
    assert caplog.text.count("has no linear as we know it (AttributeError)") == 1
    with torch.no_grad():
        assert not in_one_pass(torch.zeros(1, 3, 8, 8).contiguous(memory_format=torch.channels_last))
    size = Size(hidden=256, heads=4, intermediate=512, language_layers=1, relation_layers=1, cross_layers=1)
    layer = BertLayer(size, DropoutNoise())
    initialise(layer, 1)
    with torch.no_grad(), packed(layer):
        assert not any(getattr(part, "packed", None) for part in layer.modules())


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_without_any_updates_are_the_same(request: pytest.FixtureRequest, kind: str) -> None:
    draw = torch.Generator().manual_seed(4)
    start, gradients = torch.randn(7, 3, generator=draw), torch.randn(5, 7, 3, generator=draw)

    def updated() -> tuple[Optimizer, torch.nn.Parameter]:
        parameter = torch.nn.Parameter(start.clone())
        optimizer = OPTIMIZERS[kind]([("w", parameter)], lr=0.05, weight_decay=0.1)
        for number, gradient in enumerate(gradients):
            parameter.grad = gradient.clone()
            optimizer.step(0.5 + number / 10, torch.tensor(0.25) if number % 2 else None)
        return optimizer, parameter

    optimizer, expected = updated()
    request.getfixturevalue("bare")
    kernels.has.cache_clear()
    plain, found = updated()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for name, value in optimizer.state_dict().items():
        torch.testing.assert_close(plain.state_dict()[name], value, rtol=1e-5, atol=1e-7)
    assert global_norm([torch.tensor([3.0]), torch.tensor([4.0])]) == 5.0
    assert are_finite([start]) and not are_finite([start, torch.tensor([torch.nan])])


def test_without_any_integers_are_refused(bare: None) -> None:
    size = Size(hidden=8, heads=2, intermediate=8, language_layers=1, relation_layers=1, cross_layers=1)
    layer = BertLayer(size, DropoutNoise())
    with (
        pytest.raises(SpecError, match=r"--quantize int8: PyTorch .* cannot multiply 8-bit .* Leave it out"),
        quantized(layer, "int8"),
    ):
        pass
    assert not kernels.counts_int8_in_32_bits() and kernels.has_triton() in (True, False)


def test_private_operations_are_asked_for_in_one_way(root: Path) -> None:
    """A new use of one shows here, so that it gets its trial."""
    private = re.compile(r"\btorch\.((ops|_[a-z]\w*)\.?|(cpu|utils|nn|backends)\.(\w+\.)*_[a-z])")
    users = {
        path.relative_to(root / "lxmert").as_posix()
        for path in (root / "lxmert").rglob("*.py")
        if private.search(path.read_text(encoding="utf-8"))
    }
    assert users == {
        "kernels.py",
        "detector/onednn.py",
        "models/packed.py",
        "models/products.py",
        "models/quantized.py",
        "training/optimizers.py",
    }
