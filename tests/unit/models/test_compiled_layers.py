"""Layers through `torch.compile` drop what plain layers drop and learn the same."""

from __future__ import annotations

import pytest
import torch

from lxmert.models.layers import initialise
from lxmert.models.lxmert import LxmertEncoder
from lxmert.types import Batch

SIZE = {
    "hidden": 16,
    "heads": 2,
    "intermediate": 20,
    "language_layers": 2,
    "relation_layers": 2,
    "cross_layers": 2,
    "max_positions": 12,
}


def gradients(encoder: LxmertEncoder, read: str) -> list[torch.Tensor]:
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    draw = torch.Generator().manual_seed(1)
    features = torch.rand(3, 4, 6, generator=draw)
    batch = Batch(mask * 7, mask, features, torch.rand(3, 4, 4, generator=draw))
    encoder.zero_grad()
    encoder.noise.begin(3, 8)
    encoder(batch, read=read).pooled.square().sum().backward()
    return [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]


@pytest.mark.slow
def test_compiled_layers_give_equal_gradients() -> None:
    """One graph a layer, shared by equal layers, in the backend that needs no compiler; half a minute."""
    encoder = LxmertEncoder(SIZE, 30, 6).train()
    initialise(encoder, 2, 0.2)
    expected = gradients(encoder, "pooled")
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    encoder.compile_layers(backend="aot_eager", fullgraph=True)
    found = gradients(encoder, "pooled")
    assert len(expected) == len(found) > 40
    for left, right in zip(expected, found, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)
    # Layers of the text, of the regions, of both, and the language half of the last.
    assert counters["stats"]["unique_graphs"] == 4
    encoder.eval()
    with torch.no_grad():
        encoder(Batch(torch.ones(1, 3, dtype=torch.int64), None, torch.rand(1, 4, 6), torch.rand(1, 4, 4)))
    assert counters["stats"]["unique_graphs"] == 4, "evaluation is not compiled"
