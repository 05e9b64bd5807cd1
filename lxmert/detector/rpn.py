"""The region proposal network: scored, moved anchors, and the proposals they become."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lxmert.detector.anchors import cell_anchors, grid_anchors
from lxmert.detector.boxes import clip_boxes, decode_boxes, nms_plus_one
from lxmert.detector.documents import DetectorSize, ProposalCounts


class ProposalHead(nn.Module):
    """A 3x3 convolution, then two-way scores and deltas for each of A anchors."""

    def __init__(self, size: DetectorSize) -> None:
        super().__init__()
        inputs, width, self.anchors = size.stages[-1].channels, size.rpn.width, size.anchors
        self.conv = nn.Conv2d(inputs, width, 3, 1, 1)
        self.objectness_logits = nn.Conv2d(width, 2 * self.anchors, 1)  # backgrounds first, then foregrounds
        self.anchor_deltas = nn.Conv2d(width, 4 * self.anchors, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, h*w*A, 2] (background, foreground) and deltas [B, h*w*A, 4]."""
        x = F.relu(self.conv(features), inplace=True)
        batch, _, height, width = x.shape
        logits = self.objectness_logits(x).view(batch, 2, self.anchors, height, width)
        deltas = self.anchor_deltas(x).view(batch, self.anchors, 4, height, width)
        return (
            logits.permute(0, 3, 4, 2, 1).reshape(batch, -1, 2),
            deltas.permute(0, 3, 4, 1, 2).reshape(batch, -1, 4),
        )


class ProposalGenerator(nn.Module):
    """The proposal network with its anchors."""

    def __init__(self, size: DetectorSize) -> None:
        super().__init__()
        self.size = size
        self.rpn_head = ProposalHead(size)
        # Inclusive corners [A, 4] of the first cell, for weights that were made for other anchors.
        self.cells: np.ndarray | None = None

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """See `ProposalHead.forward`."""
        return self.rpn_head(features)

    def anchors(self, features: Tensor) -> Tensor:
        """Anchors float32 [h*w*A, 4] in blob pixels for a feature map [B, C, h, w]."""
        rpn, (height, width) = self.size.rpn, features.shape[-2:]
        if self.cells is not None:
            grid = grid_anchors(self.cells, self.size.stride, height, width)
            return torch.from_numpy(grid).to(features.device)
        return _anchors(self.size.stride, rpn.anchor_ratios, rpn.anchor_scales, height, width).to(
            features.device
        )


@lru_cache(maxsize=64)
def _anchors(
    stride: int, ratios: tuple[float, ...], scales: tuple[float, ...], height: int, width: int
) -> Tensor:
    return torch.from_numpy(grid_anchors(cell_anchors(stride, ratios, scales), stride, height, width))


def foreground_scores(logits: Tensor) -> Tensor:
    """Probabilities [..., h*w*A] that order proposals; not the logits, which never tie at 1.0."""
    return F.softmax(logits, -1)[..., 1]


@torch.no_grad()
def propose(
    anchors: Tensor,
    scores: Tensor,
    deltas: Tensor,
    blob_height: int,
    blob_width: int,
    min_side: float,
    counts: ProposalCounts,
) -> tuple[Tensor, Tensor]:
    """Proposals of one image, best first.

    Args:
        anchors: float32 [N, 4] in blob pixels.
        scores: float32 [N].
        deltas: float32 [N, 4].
        blob_height: height of the network input.
        blob_width: width of the network input.
        min_side: least width and height in blob pixels, compared before the cut to `before_nms`.
        counts: boxes kept before and after suppression.

    Returns:
        Boxes float32 [R, 4] in blob pixels and scores [R], R <= `counts.after_nms`, maybe 0.
    """
    boxes = clip_boxes(decode_boxes(anchors, deltas), blob_height, blob_width)
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    large = torch.nonzero((sides[:, 0] >= min_side) & (sides[:, 1] >= min_side)).squeeze(1)
    boxes, scores = boxes[large], scores[large]
    order = torch.sort(scores, descending=True, stable=True).indices[: counts.before_nms]
    boxes, scores = boxes[order], scores[order]
    kept = nms_plus_one(boxes, scores, counts.nms)[: counts.after_nms]
    return boxes[kept], scores[kept]
