"""The residual backbone in Caffe's form: stride in the first 1x1, pooling without padding, frozen norms."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lxmert.detector.documents import DetectorSize
from lxmert.detector.onednn import convolve, in_one_pass

_EPSILON = 1e-5
_MOMENTUM = 0.1


class Norm(nn.Module):
    """Batch normalisation with fixed statistics; while `learning`, with the batch's own.

    The inference graph is the same either way: `y = weight * (x - mean) / sqrt(var + 1e-5) + bias`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.learning = False

    def forward(self, x: Tensor) -> Tensor:
        """Normalised [B, C, h, w]."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.learning, _MOMENTUM, _EPSILON
        )

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The affine map [C], [C] that this norm is at inference."""
        scale = self.weight / torch.sqrt(self.running_var + _EPSILON)
        return scale, self.bias - self.running_mean * scale


class ConvNorm(nn.Conv2d):
    """A convolution without bias, then its norm; folded, one convolution with bias."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding, dilation, bias=False)
        self.norm: nn.Module | None = Norm(outputs)

    def forward(self, x: Tensor, relu: bool = False, added: Tensor | None = None) -> Tensor:
        """[B, outputs, h', w'], with `added` summed onto it and its ReLU, if asked; may overwrite `added`."""
        if self.norm is None and in_one_pass(x):
            return convolve(x, self.weight, self.bias, self.stride, self.padding, self.dilation, relu, added)
        x = super().forward(x)
        x = x if self.norm is None else self.norm(x)
        x = x if added is None else x + added
        return F.relu(x, inplace=True) if relu else x

    @torch.no_grad()
    def fold(self) -> None:
        """Multiplies the norm into the weights: faster, equal to float rounding."""
        if self.norm is None:
            return
        scale, shift = self.norm.scale_and_shift()  # type: ignore[operator]
        self.weight = nn.Parameter(self.weight * scale[:, None, None, None], requires_grad=False)
        self.bias = nn.Parameter(shift, requires_grad=False)
        self.norm = None


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut; the stride is in the first 1x1 and in the shortcut."""

    def __init__(
        self,
        inputs: int,
        bottleneck: int,
        outputs: int,
        stride: int = 1,
        dilation: int = 1,
        first: bool = False,
    ) -> None:
        super().__init__()
        self.shortcut = ConvNorm(inputs, outputs, 1, stride) if first else None
        self.conv1 = ConvNorm(inputs, bottleneck, 1, stride)
        self.conv2 = ConvNorm(bottleneck, bottleneck, 3, 1, dilation, dilation)
        self.conv3 = ConvNorm(bottleneck, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, outputs, h / stride, w / stride], not negative."""
        y = self.conv2(self.conv1(x, relu=True), relu=True)
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return self.conv3(y, relu=True, added=shortcut)


def make_stage(
    inputs: int, bottleneck: int, outputs: int, blocks: int, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """A row of blocks, of which the first has the stride and a convolved shortcut."""
    row = [Bottleneck(inputs, bottleneck, outputs, stride, dilation, first=True)]
    row += [Bottleneck(outputs, bottleneck, outputs, 1, dilation) for _ in range(blocks - 1)]
    return nn.Sequential(*row)


class Stem(nn.Module):
    """The first convolution and pooling."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, channels, kernel, 2, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h / 4, w / 4].

        Pooling has no padding and rounds up, as Caffe's does: with the usual padding of 1 every
        window moves by two input pixels, and all features after it.
        """
        return F.max_pool2d(self.conv1(x, relu=True), 3, 2, 0, ceil_mode=True)


class Backbone(nn.Module):
    """From pixels to the feature map that proposals and regions share."""

    def __init__(self, size: DetectorSize) -> None:
        super().__init__()
        self.stem = Stem(size.stem.channels, size.stem.kernel)
        channels = size.stem.channels
        self.stage_names = [stage.name for stage in size.stages]
        for stage in size.stages:
            self.add_module(
                stage.name, make_stage(channels, stage.bottleneck, stage.channels, stage.blocks, stage.stride)
            )
            channels = stage.channels

    def forward(self, x: Tensor) -> Tensor:
        """Feature map [B, C, h / stride, w / stride] of pixels [B, 3, h, w]."""
        x = self.stem(x)
        for name in self.stage_names:
            x = getattr(self, name)(x)
        return x


def map_side(side_px: int, size: DetectorSize) -> int:
    """Cells of the feature map along a blob side of at least 5 pixels."""
    side = math.ceil(side_px / 2) // 2
    for stage in size.stages:
        side = math.ceil(side / stage.stride)
    return side
