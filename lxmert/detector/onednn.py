"""Products and convolutions by oneDNN with what follows them in the same pass, for inference on a processor.

PyTorch's own calls write a result, then read and write it again for a sum and for a ReLU. On machines where
fresh memory is dear that costs as much as a tenth of the arithmetic.

One difference: the ReLU of what is not a number is 0 here, where PyTorch's is not a number either. Weights
must be finite, then; `load_detector` sees to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lxmert import kernels


def in_one_pass(x: Tensor) -> bool:
    """Whether `convolve` serves for this input: float32 on the CPU, channels innermost, no gradient."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.dim() == 4
        and x.is_contiguous(memory_format=torch.channels_last)
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and kernels.has("convolution")
        and kernels.has("linear")
    )


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    relu: bool = False,
    added: Tensor | None = None,
) -> Tensor:
    """A convolution, then `added` summed onto it, then its ReLU, if asked.

    Args:
        x: float32 [B, I, h, w], channels innermost.
        weight: float32 [O, I, k, k].
        bias: float32 [O].
        stride: of rows and columns.
        padding: of rows and columns.
        dilation: of rows and columns.
        relu: whether negative values become 0.
        added: float32 [B, O, h', w'], channels innermost; it is overwritten with the result.

    Returns:
        float32 [B, O, h', w']; `added`, if that is given.
    """
    place = [list(padding), list(stride), list(dilation), 1]
    found: Tensor
    if added is None:
        operation = torch.ops.mkldnn._convolution_pointwise
        found = operation(x, weight, bias, *place, "relu" if relu else "none", [], "")
    else:
        in_place = torch.ops.mkldnn._convolution_pointwise_.binary
        found = in_place(added, x, weight, bias, *place, "add", 1.0, "relu" if relu else None, [], None)
    return found


def multiply(x: Tensor, weight: Tensor, bias: Tensor, relu: bool = False) -> Tensor:
    """``x @ weight.T + bias`` of x [N, I] and weight [O, I], and its ReLU if asked."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu" if relu else "none", [], "")
    return found
