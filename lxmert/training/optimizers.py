"""Optimisers that update in one pass over memory, with their state as named tensors.

Both run PyTorch's fused Adam kernel: it reads parameter, gradient and both moments once and writes
them once, on the CPU and on the GPU, where a chain of elementwise operations would read them ten times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lxmert import kernels
from lxmert.errors import SpecError, WeightsError, suggest

# With t this large, 1 - beta ** t is exactly 1: the fused kernel then corrects no bias.
_NO_CORRECTION = 1e9


class Optimizer:
    """What the loop sees: gradients in, parameters changed, state as tensors by name.

    Args:
        named_parameters: (name, parameter) pairs; a parameter named twice counts once.
        lr: peak learning rate; the schedule's factor multiplies it at each step.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.
        weight_decay: share of the parameter taken off, times the learning rate.
    """

    bias_correction: bool

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        lr: float,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        unique = {id(parameter): (name, parameter) for name, parameter in reversed(list(named_parameters))}
        self.parameters = {name: parameter for name, parameter in reversed(unique.values())}
        self.lr = float(lr)
        self.betas = (float(betas[0]), float(betas[1]))
        self.eps = float(eps)
        self.weight_decay = float(weight_decay)
        self.first: dict[str, Tensor] = {}
        self.second: dict[str, Tensor] = {}
        self.steps: dict[str, Tensor] = {}

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def gradients(self) -> list[Tensor]:
        """The gradients there are."""
        return [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]

    def grad_norm(self) -> Tensor:
        """Global L2 norm of all gradients, a float32 scalar."""
        return global_norm(self.gradients())

    @torch.no_grad()
    def step(self, factor: float = 1.0, grad_scale: Tensor | None = None) -> None:
        """Update every parameter that has a gradient; the others stay, undecayed and without state.

        Args:
            factor: the schedule's share of the peak rate.
            grad_scale: gradients are multiplied by this inside the pass, see :func:`clip_scale`.
        """
        names = [name for name, parameter in self.parameters.items() if parameter.grad is not None]
        for name in names:
            if name not in self.first:
                self._start(name)
        if not names:
            return
        if self.bias_correction:
            kernels.count_up([self.steps[name] for name in names])
        if not kernels.has("adamw"):
            for name in names:
                self._update_by_parts(name, self.lr * factor, grad_scale)
            return
        # The kernel divides gradients by its scale, and writes the result back.
        inverse = None if grad_scale is None else grad_scale.float().reciprocal().reshape(1)
        torch._fused_adamw_(
            [self.parameters[name] for name in names],
            [self.parameters[name].grad for name in names],
            [self.first[name] for name in names],
            [self.second[name] for name in names],
            [],
            [self.steps[name] for name in names],
            lr=self.lr * factor,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=self.weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
            grad_scale=inverse,
        )

    def _update_by_parts(self, name: str, lr: float, grad_scale: Tensor | None) -> None:
        """What the kernel does, for one parameter by public operations, which read memory ten times."""
        parameter, first, second = self.parameters[name], self.first[name], self.second[name]
        gradient = parameter.grad
        assert gradient is not None
        if grad_scale is not None:
            gradient.mul_(grad_scale.to(gradient.dtype))
        beta1, beta2 = self.betas
        parameter.mul_(1 - lr * self.weight_decay)
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        steps = float(self.steps[name])
        root = (second.sqrt() / (1 - beta2**steps) ** 0.5).add_(self.eps)
        parameter.addcdiv_(first, root, value=-lr / (1 - beta1**steps))

    def state_dict(self) -> dict[str, Tensor]:
        """All state: "first.NAME", "second.NAME" and, where bias is corrected, "steps.NAME"."""
        state = {f"first.{name}": value for name, value in self.first.items()}
        state |= {f"second.{name}": value for name, value in self.second.items()}
        if self.bias_correction:
            state |= {f"steps.{name}": value for name, value in self.steps.items()}
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over a saved state, bit for bit.

        Raises:
            WeightsError: a tensor belongs to no parameter, or has another shape.
        """
        self.first, self.second, self.steps = {}, {}, {}
        for key, value in state.items():
            kind, _, name = key.partition(".")
            expected = self.parameters.get(name)
            if kind not in ("first", "second", "steps") or expected is None:
                raise WeightsError(
                    f"optimiser state: {key} belongs to no parameter; remove the state and start again."
                )
            if kind != "steps" and value.shape != expected.shape:
                raise WeightsError(
                    f"optimiser state: {key} is {list(value.shape)}, the parameter {list(expected.shape)}; "
                    "remove the state and start again."
                )
            if name not in self.first:
                self._start(name)
            getattr(self, kind)[name].copy_(value)

    def _start(self, name: str) -> None:
        parameter = self.parameters[name]
        self.first[name] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        self.second[name] = torch.zeros_like(self.first[name])
        taken = 0.0 if self.bias_correction else _NO_CORRECTION
        self.steps[name] = torch.tensor(taken, dtype=torch.float32, device=parameter.device)


class BertAdam(Optimizer):
    """Adam as BERT and LXMERT trained with.

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p = p - lr s(t) (m / (sqrt(v) + eps) + decay p).
    No bias correction, and decay on every parameter that has a gradient: biases, norms and embeddings
    too. Both look unusual and are kept for parity: tests/unit/training/test_optimizers.py.

    Source: lxmert reference, `lxrt/optimization.py`; Tan & Bansal 2019, section 3.3.
    """

    bias_correction = False


class AdamW(Optimizer):
    """Adam with bias correction and decoupled decay, as `torch.optim.AdamW`.

    Source: Loshchilov & Hutter 2019, arXiv 1711.05101.
    """

    bias_correction = True


OPTIMIZERS: dict[str, type[Optimizer]] = {"bert_adam": BertAdam, "adamw": AdamW}


def build_optimizer(
    spec: Mapping[str, Any], named_parameters: Iterable[tuple[str, nn.Parameter]]
) -> Optimizer:
    """The optimiser of a recipe: {name, lr, weight_decay, betas, eps}.

    Raises:
        SpecError: an unknown name or setting, or no lr.
    """
    settings = dict(spec)
    name = settings.pop("name", "bert_adam")
    if name not in OPTIMIZERS:
        raise SpecError(f'optimizer/name: unknown optimiser "{name}".{suggest(name, OPTIMIZERS)}')
    known = ("lr", "betas", "eps", "weight_decay")
    for key in settings:
        if key not in known:
            raise SpecError(f"optimizer/{key}: unknown setting.{suggest(key, known)}")
    if "lr" not in settings:
        raise SpecError("optimizer/lr: missing; give the peak learning rate.")
    return OPTIMIZERS[name](named_parameters, **settings)


@torch.no_grad()
def global_norm(gradients: Sequence[Tensor]) -> Tensor:
    """L2 norm over all gradients together, a float32 scalar; 0 for none."""
    if not gradients:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack(kernels.norms(gradients)))


def clip_scale(norm: Tensor, max_norm: float | None) -> Tensor | None:
    """What gradients are multiplied by so that their global norm is at most `max_norm`; None: nothing.

    Source: `torch.nn.utils.clip_grad_norm_`, which the reference uses: max_norm / (norm + 1e-6), at most 1.
    """
    if max_norm is None:
        return None
    return (max_norm / (norm + 1e-6)).clamp(max=1.0)
