"""The region proposal network: scored, moved anchors, and the proposals they become."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lxmert.detector.anchors import cell_anchors, grid_anchors
from lxmert.detector.boxes import LOG_LIMIT, clip_boxes, decode_boxes, nms_plain, nms_plus_one
from lxmert.detector.documents import DetectorSize, ProposalCounts, ProposalRule


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


CAFFE_RULE = ProposalRule(
    ranked_by="probability", decode="no_minus_one", log_sides="unlimited", clip="inclusive",
    min_side="before_cut", nms="plus_one", when_none="whole_image",
)  # fmt: skip


def foreground_scores(logits: Tensor) -> Tensor:
    """Probabilities [..., h*w*A] that order proposals; not the logits, which never tie at 1.0."""
    return F.softmax(logits, -1)[..., 1]


def ranking_scores(logits: Tensor, rule: ProposalRule = CAFFE_RULE) -> Tensor:
    """What proposals are ordered by, [..., h*w*A] of logits [..., h*w*A, 2]."""
    return logits[..., 1] - logits[..., 0] if rule.ranked_by == "logit" else foreground_scores(logits)


@torch.no_grad()
def propose(
    anchors: Tensor,
    scores: Tensor,
    deltas: Tensor,
    blob_height: int,
    blob_width: int,
    min_side: float,
    counts: ProposalCounts,
    rule: ProposalRule = CAFFE_RULE,
) -> tuple[Tensor, Tensor]:
    """Proposals of one image, best first.

    Args:
        anchors: float32 [N, 4] in blob pixels.
        scores: float32 [N], of `ranking_scores`.
        deltas: float32 [N, 4].
        blob_height: height of the network input.
        blob_width: width of the network input.
        min_side: least width and height in blob pixels, if the rule has one.
        counts: boxes kept before and after suppression.
        rule: the conventions; Caffe's by default.

    Returns:
        Boxes float32 [R, 4] in blob pixels and scores [R], R <= `counts.after_nms`, maybe 0.
    """
    limit = LOG_LIMIT if rule.log_sides == "limited" else math.inf
    boxes = decode_boxes(anchors, deltas, limit)
    return keep_best(boxes, scores, blob_height, blob_width, min_side, counts, rule)


def keep_best(
    boxes: Tensor,
    scores: Tensor,
    blob_height: int,
    blob_width: int,
    min_side: float,
    counts: ProposalCounts,
    rule: ProposalRule = CAFFE_RULE,
) -> tuple[Tensor, Tensor]:
    """What `propose` does with moved anchors float32 [N, 4]: clip, drop, rank, suppress."""
    edge = 1 if rule.clip == "exclusive" else 0
    boxes = clip_boxes(boxes, blob_height + edge, blob_width + edge)
    if rule.min_side == "before_cut":
        sides = boxes[:, 2:] - boxes[:, :2] + 1
        large = torch.nonzero((sides >= min_side).all(1)).squeeze(1)
        boxes, scores = boxes[large], scores[large]
    order = torch.sort(scores, descending=True, stable=True).indices[: counts.before_nms]
    boxes, scores = boxes[order], scores[order]
    if rule.min_side == "not_empty":
        there = torch.nonzero((boxes[:, 2:] > boxes[:, :2]).all(1)).squeeze(1)
        boxes, scores = boxes[there], scores[there]
    suppress = nms_plus_one if rule.nms == "plus_one" else nms_plain
    kept = suppress(boxes, scores, counts.nms)[: counts.after_nms]
    return boxes[kept], scores[kept]
