"""From proposals to region features, classes, box corrections and attributes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool

from lxmert.detector.backbone import make_stage
from lxmert.detector.documents import DetectorSize
from lxmert.detector.fast_head import FastHead
from lxmert.detector.onednn import in_one_pass


class RegionPredictor(nn.Module):
    """The linear heads on a region feature."""

    def __init__(self, size: DetectorSize) -> None:
        super().__init__()
        width, objects, attributes = size.head.channels, size.classes.objects, size.classes.attributes
        assert objects and attributes is not None, "class counts come from the vocabularies"
        embedding, hidden = size.predictor.embedding, size.predictor.attribute_hidden
        self.cls_score = nn.Linear(width, objects + 1)  # background is class 0
        self.bbox_pred = nn.Linear(width, 4 * (objects + 1))
        self.has_attributes = attributes > 0  # one of the published files has no attribute layers
        if self.has_attributes:
            self.cls_embedding = nn.Embedding(objects + 1, embedding)
            self.fc_attr = nn.Linear(width + embedding, hidden)
            self.attr_score = nn.Linear(hidden, attributes + 1)  # "none" is attribute 0

    def attributes(self, features: Tensor, classes: Tensor) -> Tensor:
        """Attribute logits [R, attributes + 1] of features [R, F] given a class each (background allowed).

        Without attribute layers: zeros [R, 1], "none" alone.
        """
        if not self.has_attributes:
            return features.new_zeros(len(features), 1)
        x = torch.cat([features, self.cls_embedding(classes)], 1)
        return self.attr_score(F.relu(self.fc_attr(x)))


class RegionHead(nn.Module):
    """Pooling, the last stage on every region, and its heads."""

    def __init__(self, size: DetectorSize) -> None:
        super().__init__()
        head = size.head
        self.pool, self.spatial_scale = head.pool, 1.0 / size.stride
        # Every stride is 1 and every 3x3 dilated, so a region keeps its pool x pool cells.
        self.res5 = make_stage(
            size.stages[-1].channels, head.bottleneck, head.channels, head.blocks, 1, head.dilation
        )
        self.box_predictor = RegionPredictor(size)
        self.fast: FastHead | None = None

    def rearrange(self) -> None:
        """Prepares a faster way for the same sums, if the stage has the form for it."""
        if FastHead.fits(self.res5, self.pool):
            self.fast = FastHead(self.res5, self.pool, self.spatial_scale)

    def features(
        self, feature_map: Tensor, boxes: Tensor, pooling: str = "roi_pool", chunk: int = 0
    ) -> Tensor:
        """Region features float32 [R, F], not negative.

        Args:
            feature_map: [B, C, h, w]; of one image once it is rearranged.
            boxes: float32 [R, 5], image index and corners in blob pixels.
            pooling: "roi_pool" (Caffe's quantised maximum) or "roi_align".
            chunk: regions run at a time to bound memory; 0 runs all.
        """
        if self.fast is not None and pooling == "roi_pool" and len(boxes) and in_one_pass(feature_map):
            return self.fast.features(feature_map, boxes[:, 1:])
        if chunk and len(boxes) > chunk:
            return torch.cat([self.features(feature_map, part, pooling) for part in boxes.split(chunk)])
        pool = roi_pool if pooling == "roi_pool" else roi_align
        x = pool(feature_map, boxes, (self.pool, self.pool), self.spatial_scale)  # [R, C, pool, pool]
        return self.res5(x).mean((2, 3))
