"""Products of tokens with weight matrices, where a model spends nine tenths of its time.

On a CPU PyTorch hands float32 products to the BLAS it was built with. oneDNN's kernels, built into PyTorch
as well, are written for the processor at hand and take a GELU or a sum in the same pass; on processors that
BLAS does not know they are 1.1 to 1.4 times as fast (benchmarks/bench_inference.py). Sums add up in another
order, so values differ in the last bits.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lxmert import kernels

# Below this many weights a call of oneDNN costs more than it saves.
_LEAST_WEIGHTS = 256 * 256


def product(
    tokens: Tensor, weight: Tensor, bias: Tensor, gelu: bool = False, residual: Tensor | None = None
) -> Tensor:
    """``tokens @ weight.T + bias``, then the exact GELU of it, or the residual added.

    Args:
        tokens: float [..., I].
        weight: float [O, I].
        bias: float [O].
        gelu: apply the erf form of GELU.
        residual: float [..., O], added at the end; not together with `gelu`.

    Returns:
        float [..., O].
    """
    if not by_onednn(tokens, weight):
        return finish_product(functional.linear(tokens, weight, bias), gelu, residual)
    if torch.is_grad_enabled() and (tokens.requires_grad or weight.requires_grad):
        return finish_product(_TrainedProduct.apply(tokens, weight, bias), gelu, residual)
    return pointwise(tokens, weight, bias, gelu, residual)


def pointwise(tokens: Tensor, weight: Tensor, bias: Tensor, gelu: bool, residual: Tensor | None) -> Tensor:
    """The product by oneDNN, its tail in the same pass; without a gradient."""
    operation = torch.ops.mkldnn._linear_pointwise
    if residual is not None:
        return operation.binary(tokens, residual, weight, bias, "add")
    return operation(tokens, weight, bias, *(("gelu", [], "none") if gelu else ("none", [], "")))


class _TrainedProduct(torch.autograd.Function):
    """The product by oneDNN, and so its gradients."""

    @staticmethod
    def forward(ctx, tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # noqa: ANN001
        """``tokens @ weight.T + bias``."""
        ctx.save_for_backward(tokens, weight)
        return torch.ops.mkldnn._linear_pointwise(tokens, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # noqa: ANN001
        """Gradients of tokens, weight and bias, where they are wanted."""
        tokens, weight = ctx.saved_tensors
        of_tokens = of_weight = of_bias = None
        flat = gradient.reshape(-1, gradient.shape[-1])
        if ctx.needs_input_grad[0]:
            of_tokens = torch.ops.mkldnn._linear_pointwise(gradient, weight.t(), None, "none", [], "")
        if ctx.needs_input_grad[1]:
            # BLAS is as fast here, and adds up in the order of the rows.
            of_weight = flat.t() @ tokens.reshape(-1, tokens.shape[-1])
        if ctx.needs_input_grad[2]:
            of_bias = flat.sum(0)
        return of_tokens, of_weight, of_bias


def finish_product(values: Tensor, gelu: bool, residual: Tensor | None) -> Tensor:
    """What :func:`product` does after the product."""
    if gelu:
        return functional.gelu(values)  # erf form, not the tanh approximation
    return values if residual is None else values + residual


def by_onednn(tokens: Tensor, weight: Tensor) -> bool:
    """Whether :func:`product` asks oneDNN: float32 on the CPU, large enough, and not being compiled."""
    if torch.compiler.is_compiling():
        return False
    return (
        tokens.device.type == "cpu"
        and tokens.dtype == weight.dtype == torch.float32
        and weight.numel() >= _LEAST_WEIGHTS
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
        and kernels.has("linear")
    )
