"""Weights in the layout oneDNN multiplies from: nothing is rearranged at each product, 4 to 5 % less time.

For as long as weights do not change, as in answering a split. The values are those of the plain products, bit
for bit; the encoder's matrices are held twice meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lxmert import kernels
from lxmert.models.products import by_onednn, pointwise

_TOKENS = 2048  # of one product, about; oneDNN chooses the layout for it


class Packed:
    """Products with one weight matrix; rows are packed when first asked for.

    Args:
        weight: float32 [O, I].
        bias: float32 [O].
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight.detach(), bias.detach()
        self._packed: dict[tuple[int, int], Tensor] = {}

    def __call__(
        self, tokens: Tensor, rows: tuple[int, int] | None, gelu: bool, residual: Tensor | None
    ) -> Tensor:
        """What :class:`lxmert.models.layers.Linear` gives."""
        wanted = (0, len(self.bias)) if rows is None else rows
        if wanted not in self._packed:
            weight = self.weight[slice(*wanted)].contiguous()
            self._packed[wanted] = torch.ops.mkldnn._reorder_linear_weight(weight, _TOKENS)
        return pointwise(tokens, self._packed[wanted], self.bias[slice(*wanted)], gelu, residual)


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """While inside, attention and feed-forward matrices are packed, where oneDNN multiplies them."""
    from lxmert.models.layers import Attention, FeedForward, Linear

    layers = [module for module in model.modules() if isinstance(module, Attention | FeedForward)]
    linears = [part for layer in layers for part in layer.children() if isinstance(part, Linear)]
    for linear in linears:
        if by_onednn(linear.weight, linear.weight) and kernels.has("packed_linear"):
            linear.packed = Packed(linear.weight, linear.bias)
    try:
        yield
    finally:
        for linear in linears:
            linear.packed = None
