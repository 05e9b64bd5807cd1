"""Number formats of a training step: autocast, and the loss scale that float16 needs.

Weights, their gradients' sums, norms and losses stay float32; autocast lowers the matrix products.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from lxmert.errors import SpecError, suggest

_LOWERED = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("fp32", "bf16", "fp16", "fp64")


class LossScale:
    """What float16 losses are multiplied by, so that small gradients do not vanish.

    Halved when a gradient overflows, and the step is computed again; doubled after 2000 steps that did
    not, as `torch.amp.GradScaler` does. Powers of two only, so that scaling rounds nothing.
    """

    def __init__(self, value: float = 2.0**16, growth_steps: int = 2000) -> None:
        self.value = value
        self.good_steps = 0
        self.growth_steps = growth_steps

    def overflowed(self) -> bool:
        """Halves the scale; False when it cannot go lower, so that something else is wrong."""
        self.good_steps = 0
        self.value /= 2
        return self.value >= 1.0

    def succeeded(self) -> None:
        """Counts a step without overflow."""
        self.good_steps += 1
        if self.good_steps == self.growth_steps:
            self.value, self.good_steps = self.value * 2, 0

    def state(self) -> list[float]:
        """What a saved state keeps."""
        return [self.value, float(self.good_steps)]

    def restore(self, state: list[float]) -> None:
        """Takes over a saved state."""
        self.value, self.good_steps = state[0], int(state[1])


class Precision:
    """One number format of a recipe.

    Args:
        name: fp32; bf16 or fp16 (autocast); fp64, which proves equalities and is slow.
        device: where the model is.

    Raises:
        SpecError: no such format.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name not in PRECISIONS:
            raise SpecError(f'recipe/precision: unknown precision "{name}".{suggest(name, PRECISIONS)}')
        self.name, self._device = name, device.type
        self.scale = LossScale() if name == "fp16" else None

    def lowered(self) -> AbstractContextManager[object]:
        """Inside, matrix products run in the lower format."""
        if self.name not in _LOWERED:
            return nullcontext()
        return torch.autocast(self._device, _LOWERED[self.name])


def double(model: torch.nn.Module) -> None:
    """Makes a model compute in float64, whatever its inputs are."""
    for module in model.double().modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, inputs: tuple(value.double() for value in inputs))
