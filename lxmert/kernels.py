"""Operations of PyTorch that its releases do not promise to keep: which of them this one has.

Each is tried once, with a few numbers, against what the public operations give. Where one is gone, or takes
other arguments, its users go the public way, which is slower and no less right.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

log = logging.getLogger(__name__)

# What an operation that is gone, or that has changed, raises.
_FAULTS = (AttributeError, ImportError, NotImplementedError, RuntimeError, TypeError, ValueError)


@functools.cache
def has(name: str) -> bool:
    """Whether this release has an operation of `TRIALS`, and it computes what it should."""
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            found = all(
                torch.allclose(one, other, rtol=1e-4, atol=1e-5) for one, other in TRIALS[name](_numbers)
            )
    except _FAULTS as error:
        log.debug("trying %s", name, exc_info=True)
        log.info("PyTorch %s has no %s as we know it (%s)", torch.__version__, name, type(error).__name__)
        return False
    if not found:
        log.warning("PyTorch %s: %s computes something else; it is not used", torch.__version__, name)
    return found


def norms(tensors: Sequence[Tensor], order: float = 2.0) -> list[Tensor]:
    """The norm of each tensor, all in one call where there is one."""
    if has("norms"):
        return list(torch._foreach_norm(list(tensors), order))
    return [torch.linalg.vector_norm(tensor, order) for tensor in tensors]


def count_up(counters: Sequence[Tensor]) -> None:
    """Adds 1 to each, all in one call where there is one."""
    if has("count_up"):
        torch._foreach_add_(list(counters), 1.0)
        return
    for counter in counters:
        counter += 1.0


def counts_int8_in_32_bits() -> bool:
    """Whether this processor's 8-bit products cannot overflow; False where PyTorch does not tell."""
    ask = getattr(torch.cpu, "_is_vnni_supported", None)
    return bool(ask and ask())


def has_triton() -> bool:
    """Whether `torch.compile` can generate code for a GPU."""
    try:
        from torch.utils._triton import has_triton as ask
    except ImportError:
        from importlib.util import find_spec

        return find_spec("triton") is not None
    return bool(ask())


Pair = tuple[Tensor, Tensor]


def _numbers(*shape: int) -> Tensor:
    count = int(torch.Size(shape).numel())
    return torch.linspace(-1.0, 1.5, count, device="cpu").reshape(shape)


def _linear(numbers: Callable[..., Tensor]) -> list[Pair]:
    tokens, weight, bias = numbers(4, 8), numbers(16, 8), numbers(16)
    expected, ask = functional.linear(tokens, weight, bias), torch.ops.mkldnn._linear_pointwise
    return [
        (ask(tokens, weight, bias, "none", [], ""), expected),
        (ask(tokens, weight, bias, "gelu", [], "none"), functional.gelu(expected)),
        (ask(tokens, weight, bias, "relu", [], ""), functional.relu(expected)),
        (ask(tokens, weight, None, "none", [], ""), expected - bias),
        (ask.binary(tokens, expected, weight, bias, "add"), expected + expected),
    ]


def _packed_linear(numbers: Callable[..., Tensor]) -> list[Pair]:
    tokens, weight, bias = numbers(4, 8), numbers(16, 8), numbers(16)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, 4)
    found = torch.ops.mkldnn._linear_pointwise(tokens, packed, bias, "none", [], "")
    return [(found, functional.linear(tokens, weight, bias))]


def _convolution(numbers: Callable[..., Tensor]) -> list[Pair]:
    image = numbers(1, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    weight, bias = numbers(8, 4, 3, 3).contiguous(memory_format=torch.channels_last), numbers(8)
    place, expected = ([1, 1], [1, 1], [1, 1], 1), functional.conv2d(image, weight, bias, padding=1)
    plain = torch.ops.mkldnn._convolution_pointwise(image, weight, bias, *place, "relu", [], "")
    added = numbers(1, 8, 5, 5).contiguous(memory_format=torch.channels_last)
    wanted = functional.relu(expected + added)
    operation = torch.ops.mkldnn._convolution_pointwise_.binary
    summed = operation(added, image, weight, bias, *place, "add", 1.0, "relu", [], None)
    return [(plain, functional.relu(expected)), (summed, wanted)]


def _adamw(numbers: Callable[..., Tensor]) -> list[Pair]:
    """Two updates beside torch.optim.AdamW's, gradients divided by 2."""
    mine = numbers(6)
    public = torch.nn.Parameter(mine.clone())
    settings = {"lr": 0.1, "weight_decay": 0.01, "eps": 1e-6}
    optimizer = torch.optim.AdamW([public], betas=(0.9, 0.99), foreach=False, **settings)
    first, second, count = torch.zeros_like(mine), torch.zeros_like(mine), torch.zeros((), device="cpu")
    for _ in range(2):
        gradient = mine * 3 + 1
        public.grad = gradient / 2
        optimizer.step()
        count += 1
        torch._fused_adamw_(
            [mine], [gradient], [first], [second], [], [count],
            beta1=0.9, beta2=0.99, amsgrad=False, maximize=False,
            grad_scale=torch.full((1,), 2.0, device="cpu"), **settings,
        )  # fmt: skip
    return [(mine, public.detach()), (gradient, public.grad)]


def _norms(numbers: Callable[..., Tensor]) -> list[Pair]:
    tensors = [numbers(5), numbers(2, 3)]
    pairs = []
    for order in (2.0, float("inf")):
        found = torch._foreach_norm(tensors, order)
        pairs += [
            (norm, torch.linalg.vector_norm(item, order)) for norm, item in zip(found, tensors, strict=True)
        ]
    return pairs


def _count_up(numbers: Callable[..., Tensor]) -> list[Pair]:
    counters = [numbers(1), numbers(2)]
    expected = [counter + 1.0 for counter in counters]
    torch._foreach_add_(counters, 1.0)
    return list(zip(counters, expected, strict=True))


# What is tried: pairs of what an operation gives and what public ones do.
TRIALS: dict[str, Callable[[Callable[..., Tensor]], list[Pair]]] = {
    "linear": _linear,
    "packed_linear": _packed_linear,
    "convolution": _convolution,
    "adamw": _adamw,
    "norms": _norms,
    "count_up": _count_up,
}
