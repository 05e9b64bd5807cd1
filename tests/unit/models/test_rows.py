"""Tokens of sentences of different length, laid one after the other and back."""

from __future__ import annotations

import torch

from lxmert.models.rows import Rows, additive_mask


def lay(real: list[list[int]]) -> Rows:
    mask = torch.tensor(real)
    return Rows.of(additive_mask(mask), tuple(mask.shape), before=7, examples_before=2)


def test_real_tokens_lie_one_after_the_other() -> None:
    rows = lay([[1, 1, 0], [1, 0, 0], [1, 1, 1]])
    padded = torch.arange(9.0).view(3, 3, 1)
    laid = rows.gather(padded)
    assert len(rows) == 6 and laid.flatten().tolist() == [0, 1, 3, 6, 7, 8]
    assert rows.first(laid).flatten().tolist() == [0, 3, 6]
    assert rows.spread(laid).flatten().tolist() == [0, 1, 0, 3, 0, 0, 6, 7, 8]
    assert (rows.before, rows.examples_before) == (7, 2)
    firsts = rows.firsts()
    assert len(firsts) == 3 and (firsts.before, firsts.examples_before) == (2, 2)


def test_without_padding_nothing_moves() -> None:
    rows = lay([[1, 1], [1, 1]])
    padded = torch.arange(8.0).view(2, 2, 2)
    assert rows.places is None and rows.mask is None and len(rows) == 4
    assert rows.gather(padded).data_ptr() == padded.data_ptr()
    assert rows.spread(rows.gather(padded)).data_ptr() == padded.data_ptr()
    assert torch.equal(rows.first(rows.gather(padded)), padded[:, 0])


def test_gradients_come_back_to_their_tokens() -> None:
    rows = lay([[1, 1, 0], [1, 0, 0]])
    padded = torch.rand(2, 3, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 3, 4, dtype=torch.float64)
    (rows.spread(rows.gather(padded)) * weights).sum().backward()
    expected = weights.clone()
    expected[0, 2], expected[1, 1:] = 0, 0
    assert torch.equal(padded.grad, expected)
