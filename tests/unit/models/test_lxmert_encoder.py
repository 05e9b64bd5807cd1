"""The encoder's shapes, its determinism, and what it leaves unset."""

from __future__ import annotations

import math

import pytest
import torch

from lxmert.models.layers import initialise
from lxmert.models.lxmert import LxmertEncoder
from lxmert.types import Batch

SIZE = {
    "hidden": 16,
    "heads": 2,
    "intermediate": 20,
    "language_layers": 1,
    "relation_layers": 1,
    "cross_layers": 1,
    "max_positions": 12,
}


def batch(examples: int = 3, tokens: int = 7, regions: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 30, (examples, tokens), generator=generator)
    features = torch.rand(examples, regions, 10, generator=generator)
    boxes = torch.rand(examples, regions, 4, generator=generator)
    return Batch(ids, torch.ones_like(ids), features, boxes)


def build(seed: int = 1, **changes: float) -> LxmertEncoder:
    encoder = LxmertEncoder(SIZE | changes, 30, 10)
    initialise(encoder, seed)
    return encoder


@pytest.mark.parametrize(("examples", "tokens", "regions"), [(1, 2, 1), (2, 7, 5), (3, 12, 4), (0, 4, 4)])
def test_shapes(examples: int, tokens: int, regions: int) -> None:
    encoded = build()(batch(examples, tokens, regions))
    assert encoded.language.shape == (examples, tokens, 16)
    assert encoded.vision.shape == (examples, regions, 16)
    assert encoded.pooled.shape == (examples, 16)


def test_every_parameter_is_initialised() -> None:
    encoder = LxmertEncoder(SIZE, 30, 10)
    for parameter in encoder.parameters():
        parameter.data.fill_(math.nan)
    initialise(encoder, 1)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in encoder.parameters())


def test_building_and_training_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    encoder = build().train()
    encoder(batch()).pooled.sum().backward()
    assert torch.equal(state, torch.get_rng_state())


def test_dropout_differs_from_pass_to_pass_and_repeats_from_a_key() -> None:
    encoder = build().train()
    encoder.noise.begin(3, 4)
    first, second = encoder(batch()).pooled, encoder(batch()).pooled
    encoder.noise.begin(3, 4)
    again = encoder(batch()).pooled
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(encoder.eval()(batch()).pooled, encoder(batch()).pooled)


@pytest.mark.parametrize("depth", ["language_layers", "relation_layers", "cross_layers"])
def test_any_stack_may_be_empty(depth: str) -> None:
    encoder = build(**{depth: 0})
    for read in ("all", "language", "pooled"):
        assert encoder(batch(), read=read).pooled.shape == (3, 16)


def test_padding_of_text_changes_nothing() -> None:
    encoder, short = build().eval(), batch(2, 5)
    padded = batch(2, 5)
    padded.input_ids = torch.cat([short.input_ids, torch.zeros(2, 4, dtype=torch.int64)], 1)
    padded.attention_mask = torch.cat([short.attention_mask, torch.zeros(2, 4, dtype=torch.int64)], 1)
    assert torch.allclose(encoder(short).pooled, encoder(padded).pooled, atol=1e-6)
