"""A plain Faster R-CNN of torchvision's detection classes, with the weights of a detector of ours.

What a straightforward port does: convolutions and norms apart, torchvision's proposal network, all regions
through the last stage at once, class-wise suppression by `batched_nms`. Its rules are torchvision's own, so
its boxes differ; its arithmetic is the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import RoIPool

from lxmert.detector.model import Detector
from lxmert.detector.weights.anchors import caffe_anchors


class ProposalHead(nn.Module):
    """One score an anchor, as torchvision wants it."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.head = model.proposal_generator.rpn_head

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Scores [B, A, h, w] and deltas [B, 4A, h, w] of each map."""
        scores, deltas = [], []
        for features in maps:
            x = torch.relu(self.head.conv(features))
            background, foreground = self.head.objectness_logits(x).chunk(2, 1)
            scores.append(foreground - background)
            deltas.append(self.head.anchor_deltas(x))
        return scores, deltas


class Pooling(nn.Module):
    """Quantised pooling of the only map."""

    def __init__(self, pool: int, scale: float) -> None:
        super().__init__()
        self.pool = RoIPool(pool, scale)

    def forward(self, maps: dict[str, Tensor], boxes: list[Tensor], sides: list[tuple[int, int]]) -> Tensor:
        """Cells [R, C, pool, pool]."""
        return self.pool(next(iter(maps.values())), boxes)


class LastStage(nn.Module):
    """Region features [R, F] of cells."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, cells: Tensor) -> Tensor:
        """The mean of the last stage."""
        return self.stage(cells).mean((2, 3))


class Predictor(nn.Module):
    """Classes, boxes and attributes; the last are computed for every region and not returned."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.layers = model.roi_heads.box_predictor

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits and box corrections."""
        logits = self.layers.cls_score(features)
        self.layers.attributes(features, logits.argmax(1))
        return logits, self.layers.bbox_pred(features)


def plain_faster_rcnn(model: Detector, most: int = 36) -> GeneralizedRCNN:
    """The reference; norms of `model` must not be folded."""
    size, counts = model.size, model.size.proposals.test
    anchors = AnchorGenerator(((1.0,),), ((1.0,) * size.anchors,))
    anchors.cell_anchors = [torch.from_numpy(caffe_anchors(size))]
    before, after = ({"training": n, "testing": n} for n in (counts.before_nms, counts.after_nms))
    proposals = RegionProposalNetwork(
        anchors, ProposalHead(model), 0.7, 0.3, 64, 0.5, before, after, counts.nms
    )
    regions = RoIHeads(
        Pooling(size.head.pool, 1 / size.stride), LastStage(model.roi_heads.res5), Predictor(model),
        0.5, 0.5, 64, 0.25, None, 0.2, 0.3, most,
    )  # fmt: skip
    image = size.image
    transform = GeneralizedRCNNTransform(
        image.short_side_px, image.long_side_px, [0.0] * 3, [1.0] * 3, size_divisible=1
    )
    return GeneralizedRCNN(model.backbone, proposals, regions, transform).eval()
