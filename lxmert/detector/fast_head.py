"""The last stage on every region, rearranged for a processor: the same sums, fewer and larger products.

Nearly all the work of extraction is here: 15 million products for each of 196 cells of 300 regions. Four
rearrangements, none of which leaves anything out:

* Regions that are equal after quantisation are computed once.
* Pooled cells are maxima over rectangles of the feature map, and many cells share a rectangle. The first
  block's two 1x1 convolutions run once for each rectangle there is, about half as often.
* A 3x3 convolution dilated by 2 on 14x14 cells is four plain ones on 7x7 cells (even and odd rows and
  columns never meet), and each is done by Winograd's method with 121 products instead of 441.
* Cells stand in the outermost dimension, channels in the innermost, so that every convolution is a matrix
  product as it lies in memory; and a few regions at a time go through all blocks, in memory that is used
  again, so that little of it is touched.

Sums are added in another order than by a convolution routine: results are 1e-7 apart, and less than twice
as far from those of float64 as plain ones are (tests/golden/detector/test_fast_head.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lxmert.detector.backbone import Bottleneck, ConvNorm
from lxmert.detector.onednn import convolve, multiply
from lxmert.detector.rectangles import Rectangles, pooled_rectangles, shared_rectangles
from lxmert.detector.winograd import row_matrices

GROUP = 16  # regions that go through all blocks together: their memory fits a processor's cache
_ROWS = 4096  # rectangles pooled at a time


@dataclass(frozen=True)
class _Block:
    """The weights of a block, as products read them.

    Attributes:
        first: 1x1 [B, I] and bias [B].
        shortcut: 1x1 [F, I] and bias [F], of the first block.
        middle: 3x3 [P * P, B, B], for each point inputs by outputs, and bias [B].
        last: 1x1 [F, B] and bias [F].
    """

    first: tuple[Tensor, Tensor]
    shortcut: tuple[Tensor, Tensor] | None
    middle: tuple[Tensor, Tensor]
    last: tuple[Tensor, Tensor]


class FastHead:
    """A stage of dilated blocks with folded norms, run on the pooled regions of one image; not by threads.

    Args:
        stage: row of blocks for which `fits` holds.
        pool: cells along a side of a region.
        spatial_scale: cells of the feature map per pixel.
    """

    def __init__(self, stage: nn.Sequential, pool: int, spatial_scale: float) -> None:
        self.pool, self.spatial_scale = pool, spatial_scale
        self.dilation: int = stage[0].conv2.dilation[0]
        self.side = pool // self.dilation  # cells along a side of an image without dilation
        inputs, filters, back = (torch.from_numpy(matrix) for matrix in row_matrices(self.side))
        self._inputs, self._back, self.points = inputs.float(), back.float(), len(inputs)
        self._blocks = [_prepared(block, filters) for block in stage]
        self._memory: dict[str, Tensor] = {}

    @staticmethod
    def fits(stage: nn.Sequential, pool: int) -> bool:
        """Whether a stage has the form that is rearranged here."""
        for number, block in enumerate(stage):
            convs = [conv for conv in (block.conv1, block.conv2, block.conv3, block.shortcut) if conv]
            if (block.shortcut is None) != (number > 0):
                return False
            if any(conv.norm is not None or conv.stride != (1, 1) for conv in convs):
                return False
        dilations = {block.conv2.dilation[0] for block in stage}
        return len(dilations) == 1 and pool % dilations.pop() == 0

    def features(self, feature_map: Tensor, boxes: Tensor) -> Tensor:
        """Region features float32 [R, F] of boxes float32 [R, 4] on a map [1, C, h, w]."""
        found = shared_rectangles(boxes, *feature_map.shape[-2:], self.pool, self.spatial_scale)
        reduced, shortcut = self._first_products(feature_map, found)
        parts = []
        for cells in found.cells.split(GROUP):
            index = self._in_order(cells)
            x = self._buffer("reduced", len(index), reduced.shape[1])
            kept = self._buffer("kept", len(index), shortcut.shape[1])
            torch.index_select(reduced, 0, index, out=x)
            torch.index_select(shortcut, 0, index, out=kept)
            parts.append(self._run_blocks(x, kept, len(cells)))
        return torch.cat(parts)[found.region]

    def _in_order(self, cells: Tensor) -> Tensor:
        """Rectangles of cells [N, pool, pool] in the blocks' order: row, column, parities, region."""
        side, step = self.side, self.dilation
        return cells.view(-1, side, step, side, step).permute(1, 3, 2, 4, 0).reshape(-1)

    def _buffer(self, name: str, *shape: int) -> Tensor:
        """Memory that is used again: fresh memory costs more than what is written to it."""
        size = torch.Size(shape).numel()
        if name not in self._memory or self._memory[name].numel() < size:
            with torch.inference_mode(False):  # else only inference mode could write to it again
                self._memory[name] = torch.empty(size)
        return self._memory[name][:size].view(shape)

    def _first_products(self, feature_map: Tensor, found: Rectangles) -> tuple[Tensor, Tensor]:
        """What the first block makes of every rectangle: [U, B] after its ReLU, and the shortcut [U, F]."""
        block = self._blocks[0]
        assert block.shortcut is not None
        reduced = self._buffer("every reduced", len(found), len(block.first[1]))
        shortcut = self._buffer("every shortcut", len(found), len(block.shortcut[1]))
        for start, pooled in pooled_rectangles(feature_map[0], found, _ROWS):
            rows = slice(start, start + len(pooled))
            reduced[rows] = multiply(pooled, *block.first, relu=True)
            shortcut[rows] = multiply(pooled, *block.shortcut)
        return reduced, shortcut

    def _run_blocks(self, x: Tensor, kept: Tensor, regions: int) -> Tensor:
        """Features [N, F] of a group, from its first products."""
        for number, block in enumerate(self._blocks):
            if number > 0:
                x = multiply(kept, *block.first, relu=True)
            weight, bias = block.last
            image, sum_image = (_as_image(rows) for rows in (self._convolved(x, *block.middle), kept))
            convolve(image, weight[:, :, None, None], bias, relu=True, added=sum_image)  # into `kept`
        return kept.view(self.pool**2, regions, -1).mean(0)

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The 3x3 convolution and its ReLU, of M images of side x side: [side * side * M, B]."""
        side, points, width = self.side, self.points, x.shape[1]
        wide = x.numel() // side**2  # M * B
        half = self._buffer("half", points, side * wide)
        torch.mm(self._inputs, x.view(side, -1), out=half)
        spread = self._buffer("spread", points, points, wide)
        torch.bmm(self._inputs.expand(points, -1, -1), half.view(points, side, wide), out=spread)
        products = self._buffer("products", points**2, wide // width, width)
        torch.bmm(spread.view_as(products), weight, out=products)
        half = self._buffer("half", side, points * wide)
        torch.mm(self._back, products.view(points, -1), out=half)
        y = self._buffer("middle", side, side, wide)
        torch.bmm(self._back.expand(side, -1, -1), half.view(side, points, wide), out=y)
        return y.view(-1, width).add_(bias).relu_()


def _prepared(block: Bottleneck, filters: Tensor) -> _Block:
    taps = block.conv2.weight.double()  # [O, I, 3, 3]
    middle = torch.einsum("py,oiyx,qx->pqio", filters, taps, filters).flatten(0, 1).float()
    shortcut = None if block.shortcut is None else _matrix(block.shortcut)
    return _Block(
        _matrix(block.conv1), shortcut, (middle.contiguous(), _bias(block.conv2)), _matrix(block.conv3)
    )


def _matrix(conv: ConvNorm) -> tuple[Tensor, Tensor]:
    return conv.weight.detach().flatten(1), _bias(conv)


def _bias(conv: ConvNorm) -> Tensor:
    assert conv.bias is not None, "norms are folded"
    return conv.bias.detach()


def _as_image(rows: Tensor) -> Tensor:
    """Rows [N, C] as an image [1, C, N, 1] with channels innermost, in the same memory."""
    return rows.view(1, len(rows), 1, -1).permute(0, 3, 1, 2)
