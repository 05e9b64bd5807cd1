"""The last stage on every region, rearranged for a processor: the same sums, fewer and larger products.

Nearly all the work of extraction is here: 15 million products for each of 196 cells of 300 regions. Four
rearrangements, none of which leaves anything out:

* Regions that are equal after quantisation are computed once.
* Pooled cells are maxima over rectangles of the feature map, and many regions share rectangles. The first
  block's two 1x1 convolutions run once for each rectangle there is, about half as often.
* A 3x3 convolution dilated by 2 on 14x14 cells is four plain ones on 7x7 cells (even and odd rows and
  columns never meet), and each is done by Winograd's method with 121 products instead of 441.
* Cells stand in the outermost dimension, channels in the innermost, so that every convolution is a matrix
  product as it lies in memory; groups of regions go through all blocks before the next, so that little
  memory is touched.

Sums are added in another order than by a convolution routine, and rounding differs in the sixth digit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lxmert.detector.backbone import Bottleneck, ConvNorm
from lxmert.detector.rectangles import Rectangles, pooled_rectangles, shared_rectangles
from lxmert.detector.winograd import TAPS, square_matrices

GROUP = 24  # regions that go through all blocks together
_ROWS = 4096  # rectangles pooled at a time


@dataclass(frozen=True)
class _Block:
    """The weights of a block, as products read them."""

    first: tuple[Tensor, Tensor]  # [B, I] and bias [B]
    shortcut: tuple[Tensor, Tensor] | None
    middle: Tensor  # [P, B, B]: for each point, inputs by outputs
    middle_bias: Tensor
    last: tuple[Tensor, Tensor]


class FastHead:
    """A stage of dilated blocks with folded norms, run on the pooled regions of one image.

    Args:
        stage: row of blocks, the first with a shortcut; stride 1.
        pool: cells along a side of a region.
        spatial_scale: cells of the feature map per pixel.
    """

    def __init__(self, stage: nn.Sequential, pool: int, spatial_scale: float) -> None:
        self.pool, self.spatial_scale = pool, spatial_scale
        self.dilation: int = stage[0].conv2.dilation[0]
        self.cells = pool // self.dilation
        inputs, filters, back = (torch.from_numpy(m) for m in square_matrices(self.cells))
        self._inputs, self._back = inputs.float(), back.float()
        self._blocks = [self._prepared(block, filters) for block in stage]

    @staticmethod
    def fits(stage: nn.Sequential, pool: int) -> bool:
        """Whether a stage has the form that this rearranges: dilated 3x3, stride 1, norms folded."""
        for number, block in enumerate(stage):
            convs = [block.conv1, block.conv2, block.conv3]
            convs += [] if block.shortcut is None else [block.shortcut]
            if (block.shortcut is None) != (number > 0):
                return False
            if any(conv.norm is not None or conv.stride != (1, 1) for conv in convs):
                return False
        dilations = {block.conv2.dilation for block in stage}
        return len(dilations) == 1 and pool % next(iter(dilations))[0] == 0

    def _prepared(self, block: Bottleneck, filters: Tensor) -> _Block:
        taps = block.conv2.weight.double().reshape(*block.conv2.weight.shape[:2], TAPS * TAPS)
        middle = torch.einsum("pt,oit->pio", filters, taps).float()
        return _Block(
            _matrix(block.conv1), None if block.shortcut is None else _matrix(block.shortcut),
            middle.contiguous(), _bias(block.conv2), _matrix(block.conv3),
        )  # fmt: skip

    def features(self, feature_map: Tensor, boxes: Tensor) -> Tensor:
        """Region features float32 [R, F] of boxes float32 [R, 4] on a map [1, C, h, w]."""
        found = shared_rectangles(boxes, *feature_map.shape[-2:], self.pool, self.spatial_scale)
        reduced, shortcut = self._first_products(feature_map, found)
        parts = []
        for cells in found.cells.split(GROUP):
            index = self._by_parity(cells)
            parts.append(self._blocks_of(reduced[index], shortcut[index], len(cells)))
        return torch.cat(parts)[found.region]

    def _by_parity(self, cells: Tensor) -> Tensor:
        """Rectangles of cells [R, pool, pool] in the blocks' order, [cells * cells * d * d * R]."""
        side, step = self.cells, self.dilation
        return cells.view(-1, side, step, side, step).permute(1, 3, 2, 4, 0).reshape(-1)

    def _first_products(self, feature_map: Tensor, found: Rectangles) -> tuple[Tensor, Tensor]:
        """What the first block makes of every rectangle: [U, B] after its ReLU, and the shortcut [U, F]."""
        block = self._blocks[0]
        assert block.shortcut is not None
        reduced = feature_map.new_empty(len(found), len(block.first[0]))
        shortcut = feature_map.new_empty(len(found), len(block.shortcut[0]))
        for start, pooled in pooled_rectangles(feature_map[0], found, _ROWS):
            rows = slice(start, start + len(pooled))
            reduced[rows] = _product(pooled, *block.first, relu=True)
            shortcut[rows] = _product(pooled, *block.shortcut)
        return reduced, shortcut

    def _blocks_of(self, reduced: Tensor, kept: Tensor, regions: int) -> Tensor:
        """Features [R, F] of a group, from the first block's products."""
        for number, block in enumerate(self._blocks):
            if number > 0:
                reduced = _product(kept, *block.first, relu=True)
            middle = self._convolved(reduced, block)
            kept = _add_product(kept, middle, *block.last)
        return kept.view(self.pool * self.pool, regions, -1).mean(0)

    def _convolved(self, x: Tensor, block: _Block) -> Tensor:
        """The 3x3 convolution and its ReLU: [cells * cells * N, B], N images of cells x cells."""
        points, width = len(self._inputs), x.shape[1]
        spread = (self._inputs @ x.view(self.cells**2, -1)).view(points, -1, width)  # [P, N, B]
        products = torch.bmm(spread, block.middle)
        y = (self._back @ products.view(points, -1)).view(-1, width)
        return y.add_(block.middle_bias).relu_()


def _matrix(conv: ConvNorm) -> tuple[Tensor, Tensor]:
    return conv.weight.flatten(1).contiguous(), _bias(conv)


def _bias(conv: ConvNorm) -> Tensor:
    assert conv.bias is not None
    return conv.bias.detach()


def _product(x: Tensor, weight: Tensor, bias: Tensor, relu: bool = False) -> Tensor:
    y = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu" if relu else "none", [], "")
    return y


def _add_product(kept: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """relu(kept + x @ weight.T + bias), in the memory of `kept`."""
    y, image = (t.view(1, len(t), 1, -1).permute(0, 3, 1, 2) for t in (kept, x))
    torch.ops.mkldnn._convolution_pointwise_.binary(
        y, image, weight[:, :, None, None], bias, [0, 0], [1, 1], [1, 1], 1, "add", 1.0, "relu", [], None
    )
    return kept
