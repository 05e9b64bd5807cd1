"""The same network from detectron2's own classes, for those who build on detectron2.

Only its modelling, structures and layers are used. Where its behaviour is not Caffe's a class of it is
extended, and named for what differs. Module names are the same, hence so are those of the weights; class
rows stand in detectron2's order inside this module, background last, so that its own code can go on from
here. Results are those of `model.Detector` (tests/golden/detector/test_detectron_backend.py).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock, ResNet
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator.rpn import RPN, StandardRPNHead
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.roi_heads import Res5ROIHeads
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from lxmert.detector.boxes import LOG_LIMIT
from lxmert.detector.documents import DetectorSize, ProposalRule
from lxmert.detector.model import Detections, Detector
from lxmert.detector.rpn import CAFFE_RULE, keep_best, ranking_scores
from lxmert.detector.weights.anchors import caffe_anchors
from lxmert.detector.weights.layouts import CAFFE_DIVISORS, detectron_from_native
from lxmert.detector.weights.names import ANCHORS_KEY
from lxmert.detector.weights.names import RPN as RPN_HEAD

_NORM = "FrozenBN"
_NO_TRAINING = {"batch_size_per_image": 64, "positive_fraction": 0.5}  # constructors ask for them


class UnpaddedStem(BasicStem):
    """A stem whose pooling has no padding and rounds up; stock padding of 1 moves all features."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h / 4, w / 4]."""
        return F.max_pool2d(F.relu_(self.conv1(x)), 3, 2, 0, ceil_mode=True)


def _stage(
    inputs: int, bottleneck: int, outputs: int, blocks: int, stride: int = 1, dilation: int = 1
) -> list[nn.Module]:
    """Stock blocks; the first always with a convolved shortcut, which stock has only where widths differ."""
    row: list[nn.Module] = ResNet.make_stage(
        BottleneckBlock, blocks, stride_per_block=[stride] + [1] * (blocks - 1), in_channels=inputs,
        out_channels=outputs, bottleneck_channels=bottleneck, norm=_NORM, stride_in_1x1=True,
        dilation=dilation,
    )  # fmt: skip
    if row[0].shortcut is None:
        norm = get_norm(_NORM, outputs)
        row[0].shortcut = Conv2d(inputs, outputs, 1, stride=stride, bias=False, norm=norm)
    return row


class TableAnchors(DefaultAnchorGenerator):
    """Anchors from a table [A, 4] of continuous corners, since stock ones have other sides and centres."""

    def __init__(self, table: np.ndarray, stride: int) -> None:
        self._table = table.tolist()
        super().__init__(sizes=[[1.0]], aspect_ratios=[[1.0]], strides=[stride], offset=0.0)

    def generate_cell_anchors(self, sizes: Any = None, aspect_ratios: Any = None) -> Tensor:
        """The table, whatever is asked."""
        return torch.tensor(self._table)


class TwoWayHead(StandardRPNHead):
    """Two logits an anchor, as Caffe has them, so that proposals are ranked by the same probabilities."""

    def __init__(self, in_channels: int, num_anchors: int, width: int) -> None:
        super().__init__(in_channels=in_channels, num_anchors=num_anchors, conv_dims=[width])
        self.objectness_logits = nn.Conv2d(width, 2 * num_anchors, 1)
        self.rule = CAFFE_RULE

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Ranking scores [B, A, h, w] in place of logits, and deltas [B, 4A, h, w], of each map."""
        pairs, deltas = super().forward(features)
        scores = []
        for pair in pairs:
            batch, doubled, height, width = pair.shape
            logits = pair.view(batch, 2, doubled // 2, height, width).permute(0, 3, 4, 2, 1)
            scores.append(ranking_scores(logits.contiguous(), self.rule).permute(0, 3, 1, 2))
        return scores, deltas


class CaffeRPN(RPN):
    """Proposals by a profile's rule: stock clips, drops and suppresses otherwise."""

    rule: ProposalRule = CAFFE_RULE
    min_side: float = 0.0

    def __init__(self, size: DetectorSize, table: np.ndarray) -> None:
        stage, counts = size.stages[-1], size.proposals
        super().__init__(
            in_features=[stage.name],
            head=TwoWayHead(stage.channels, size.anchors, size.rpn.width),
            anchor_generator=TableAnchors(table, size.stride),
            anchor_matcher=Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
            box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
            pre_nms_topk=(counts.train.before_nms, counts.test.before_nms),
            post_nms_topk=(counts.train.after_nms, counts.test.after_nms),
            nms_thresh=counts.test.nms,
            **_NO_TRAINING,
        )
        self.counts = counts.test

    def use(self, rule: ProposalRule, min_side: float) -> None:
        """Sets the rule, and the least side in blob pixels, of the next image."""
        self.rule = self.rpn_head.rule = rule
        self.min_side = min_side
        limit = LOG_LIMIT if rule.log_sides == "limited" else math.inf
        self.box2box_transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0), scale_clamp=limit)

    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Decoded by detectron2, then kept by the rule."""
        with torch.no_grad():
            (boxes,) = self._decode_proposals(anchors, pred_anchor_deltas)
        found = []
        for moved, scores, (height, width) in zip(boxes, *pred_objectness_logits, image_sizes, strict=True):
            kept, best = keep_best(moved, scores, height, width, self.min_side, self.counts, self.rule)
            found.append(Instances((height, width), proposal_boxes=Boxes(kept), objectness_logits=best))
        return found


class AttributeLayers(FastRCNNOutputLayers):
    """Stock class and box layers, and attributes that read the likeliest class's embedding."""

    def __init__(self, size: DetectorSize, divisors: tuple[float, ...]) -> None:
        width, objects, attributes = size.head.channels, size.classes.objects, size.classes.attributes
        assert objects and attributes is not None, "class counts come from the vocabularies"
        super().__init__(
            ShapeSpec(channels=width), box2box_transform=Box2BoxTransform(divisors), num_classes=objects
        )
        self.has_attributes = attributes > 0
        if self.has_attributes:
            embedding, hidden = size.predictor.embedding, size.predictor.attribute_hidden
            self.cls_embedding = nn.Embedding(objects + 1, embedding)
            self.fc_attr = nn.Linear(width + embedding, hidden)
            self.attr_score = nn.Linear(hidden, attributes + 1)

    def attributes(self, features: Tensor, classes: Tensor) -> Tensor:
        """Logits [R, attributes + 1], "none" last; zeros [R, 1] without attribute layers."""
        if not self.has_attributes:
            return features.new_zeros(len(features), 1)
        x = torch.cat([features, self.cls_embedding(classes)], 1)
        return self.attr_score(F.relu(self.fc_attr(x)))


class DilatedHeads(Res5ROIHeads):
    """The last stage at stride 1 with dilated 3x3, so that a region keeps its cells; quantised pooling."""

    def __init__(self, size: DetectorSize, divisors: tuple[float, ...]) -> None:
        head, inputs = size.head, size.stages[-1].channels
        res5 = _stage(inputs, head.bottleneck, head.channels, head.blocks, 1, head.dilation)
        poolers = {
            name: ROIPooler(head.pool, (1 / size.stride,), 0, kind)
            for name, kind in (("roi_pool", "ROIPool"), ("roi_align", "ROIAlign"))
        }
        super().__init__(
            num_classes=size.classes.objects,
            proposal_matcher=Matcher([0.5], [0, 1], allow_low_quality_matches=False),
            in_features=[size.stages[-1].name],
            pooler=poolers["roi_pool"],
            res5=res5,
            box_predictor=AttributeLayers(size, divisors),
            **_NO_TRAINING,
        )
        self.poolers = poolers

    def features(self, feature_map: Tensor, boxes: Boxes, pooling: str) -> Tensor:
        """Region features [R, F] of the boxes of one image."""
        self.pooler = self.poolers[pooling]
        return self._shared_roi_transform([feature_map], [boxes]).mean(dim=[2, 3])


class DetectronDetector(GeneralizedRCNN):
    """The detector as one of detectron2's; see `backends.Network` for what extraction asks of it."""

    def __init__(self, size: DetectorSize, table: np.ndarray, divisors: tuple[float, ...]) -> None:
        assert size.stem.kernel == 7, "detectron2's stem is 7x7"
        channels, stages = size.stem.channels, []
        for stage in size.stages:
            stages.append(_stage(channels, stage.bottleneck, stage.channels, stage.blocks, stage.stride))
            channels = stage.channels
        super().__init__(
            backbone=ResNet(UnpaddedStem(3, size.stem.channels, _NORM), stages, out_features=[stage.name]),
            proposal_generator=CaffeRPN(size, table),
            roi_heads=DilatedHeads(size, divisors),
            pixel_mean=(0.0, 0.0, 0.0),  # taken off before the resize
            pixel_std=(1.0, 1.0, 1.0),
            input_format="BGR",
        )
        self.size = size
        self._map = stage.name

    @classmethod
    def of(cls, model: Detector) -> DetectronDetector:
        """The twin of a detector whose norms are not folded, on its device."""
        size, cells = model.size, model.proposal_generator.cells
        native = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
        tensors = detectron_from_native(native, {}, size, divisors=CAFFE_DIVISORS)
        tensors.pop(ANCHORS_KEY)
        # Everything as in a detectron2 file, but for the two logits of an anchor.
        tensors |= {name: native[name] for name in native if name.startswith(f"{RPN_HEAD}.objectness_logits")}
        table = caffe_anchors(size) if cells is None else cells + np.array([0, 0, 1, 1], np.float32)
        twin = cls(size, table, model.bbox_divisors)
        twin.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
        twin.to(next(model.parameters()).device)
        return twin.requires_grad_(False).eval()

    def feature_map(self, pixels: Tensor) -> Tensor:
        """See `Detector.feature_map`."""
        return self.backbone(pixels)[self._map]

    @torch.no_grad()
    def proposals(
        self,
        feature_map: Tensor,
        blob_height: int,
        blob_width: int,
        scale: float,
        rule: ProposalRule = CAFFE_RULE,
    ) -> tuple[Tensor, Tensor]:
        """See `Detector.proposals`."""
        self.proposal_generator.use(rule, self.size.proposals.min_side_px * scale)
        images = ImageList(feature_map, [(blob_height, blob_width)])  # only its size is read
        (found,), _ = self.proposal_generator(images, {self._map: feature_map})
        return found.proposal_boxes.tensor, found.objectness_logits

    @torch.no_grad()
    def describe(
        self, feature_map: Tensor, boxes: Tensor, pooling: str = "roi_pool", chunk: int = 0
    ) -> Detections:
        """See `Detector.describe`; as detectron2 does it all regions run at once, whatever the chunk."""
        del chunk
        layers = self.roi_heads.box_predictor
        features = self.roi_heads.features(feature_map, Boxes(boxes), pooling)
        logits, _ = layers(features)
        attributes = layers.attributes(features, logits.argmax(1))
        return Detections(boxes, features, logits.roll(1, 1), attributes.roll(1, 1))

    @torch.no_grad()
    def corrections(self, features: Tensor) -> Tensor:
        """See `Detector.corrections`; the background, which has no row here, gets zeros."""
        rows = self.roi_heads.box_predictor.bbox_pred(features).view(len(features), -1, 4)
        return F.pad(rows, (0, 0, 1, 0))
