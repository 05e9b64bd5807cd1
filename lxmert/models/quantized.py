"""Weights as 8-bit integers at inference: a quarter of the bytes and of the time, nearly all answers kept.

Each output row of a matrix has a scale of its own; tokens get theirs from their range in each product
("dynamic"), so nothing is calibrated and no weights file changes. An option for the CPU, off by default: the
share of answers that stay the same is printed by benchmarks/bench_inference.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lxmert import kernels
from lxmert.errors import SpecError, suggest

KINDS = ("none", "int8")


class Quantized:
    """Products with one weight matrix as int8; rows are packed for the kernel when first asked for.

    Args:
        weight: float [O, I].
        bias: float [O].
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.bias = bias.detach().float()
        weight = weight.detach().float()
        self.scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        self.values = (weight / self.scales[:, None]).round_().to(torch.int8)
        # Without the dot-product instructions sums of two products saturate at 16 bits: 7-bit tokens then.
        self.reduce_range = not kernels.counts_int8_in_32_bits()
        self._packed: dict[tuple[int, int], object] = {}

    def __call__(self, tokens: Tensor, rows: tuple[int, int] | None = None) -> Tensor:
        """Tokens float [..., I] to float [..., O], or to the outputs of `rows`."""
        wanted = (0, len(self.bias)) if rows is None else rows
        if wanted not in self._packed:
            self._packed[wanted] = self._pack(slice(*wanted))
        return torch.ops.quantized.linear_dynamic(tokens.float(), self._packed[wanted], self.reduce_range)

    def _pack(self, rows: slice) -> object:
        scales = self.scales[rows]
        weight = torch._make_per_channel_quantized_tensor(
            self.values[rows], scales.double(), torch.zeros(len(scales), dtype=torch.int64), 0
        )
        before = torch.backends.quantized.engine
        torch.backends.quantized.engine = "onednn" if _has_onednn() else before
        try:
            return torch.ops.quantized.linear_prepack(weight, self.bias[rows])
        finally:
            torch.backends.quantized.engine = before


@contextmanager
def quantized(model: nn.Module, kind: str) -> Iterator[None]:
    """While inside, the attention and feed-forward matrices of a model multiply as `kind`.

    The projection of region features, the pooler and the heads stay as they are: they are a hundredth of
    the work, and the first and last layers are those that suffer.

    Raises:
        SpecError: no such kind, or the model is not on the CPU.
    """
    from lxmert.models.layers import Attention, FeedForward

    if kind not in KINDS:
        raise SpecError(f'--quantize: unknown kind "{kind}".{suggest(kind, KINDS)}')
    layers = [module for module in model.modules() if isinstance(module, Attention | FeedForward)]
    linears = [part for layer in layers for part in layer.children() if isinstance(part, nn.Linear)]
    if kind == "int8":
        _require_int8()
        for linear in linears:
            if linear.weight.device.type != "cpu":
                raise SpecError("--quantize int8: works on the CPU only. Say --gpus 0, or leave it out.")
            linear.quantized = Quantized(linear.weight, linear.bias)  # type: ignore[assignment]
    try:
        yield
    finally:
        for linear in linears:
            linear.quantized = None  # type: ignore[assignment]


def _require_int8() -> None:
    """There is no public way that is as fast, and a run that says int8 should not answer in floats."""
    try:
        Quantized(torch.ones(4, 8, device="cpu"), torch.ones(4, device="cpu"))(torch.ones(2, 8, device="cpu"))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
        raise SpecError(
            f"--quantize int8: PyTorch {torch.__version__} cannot multiply 8-bit integers here"
            f" ({type(error).__name__}). Leave it out (runs: quantize), or take another release of PyTorch."
        ) from error


def _has_onednn() -> bool:
    return "onednn" in torch.backends.quantized.supported_engines
