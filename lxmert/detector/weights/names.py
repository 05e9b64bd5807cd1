"""What each tensor of the detector is called in Caffe, and what shape it has.

Our own names are detectron2's, which the published pickles and the Hugging Face port also bear; so only
Caffe's need a table. It follows from the size document: ResNet-101 gives 104 convolutions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lxmert.detector.documents import DetectorSize

PREDICTOR = "roi_heads.box_predictor"
RPN = "proposal_generator.rpn_head"
ANCHORS_KEY = "proposal_generator.anchor_generator.cell_anchors.0"
COUNTER_SUFFIX = ".norm.num_batches_tracked"

# Caffe layer -> our prefix, for layers with a weight (and a bias, but the embedding).
HEAD_LAYERS = {
    "rpn_conv/3x3": f"{RPN}.conv",
    "rpn_cls_score": f"{RPN}.objectness_logits",
    "rpn_bbox_pred": f"{RPN}.anchor_deltas",
    "cls_score": f"{PREDICTOR}.cls_score",
    "bbox_pred": f"{PREDICTOR}.bbox_pred",
    "cls_embedding": f"{PREDICTOR}.cls_embedding",
    "fc_attr": f"{PREDICTOR}.fc_attr",
    "attr_score": f"{PREDICTOR}.attr_score",
}
ATTRIBUTE_LAYERS = ("cls_embedding", "fc_attr", "attr_score")

# Layers with arrays that a published file holds and the detector does not use.
UNUSED_CAFFE_LAYERS = {
    name: "relation branch, trained beside the detector and never used for features"
    for name in (
        "heatmap_conv1", "heatmap_conv2", "heatmap_conv3", "heatmap_embedding", "heatmap_scale", "fc_rel1",
        "fc_subject", "fc_object", "rel_merge", "rel_score",
    )
}  # fmt: skip

# Parameters of the full size by group, beside norms (norms: 4 vectors a channel).
FULL_COUNTS = {
    "backbone.stem": 9_408,
    "backbone.res2": 212_992,
    "backbone.res3": 1_212_416,
    "backbone.res4": 26_017_792,
    "roi_heads.res5": 14_942_208,
    "proposal_generator.rpn_head": 4_756_040,
    f"{PREDICTOR}.cls_score": 3_280_449,
    f"{PREDICTOR}.bbox_pred": 13_121_796,
    f"{PREDICTOR}.cls_embedding": 409_856,
    f"{PREDICTOR}.fc_attr": 1_180_160,
    f"{PREDICTOR}.attr_score": 205_713,
    "norms": 210_688,
}


@dataclass(frozen=True)
class ConvGroup:
    """A convolution without bias and its two norm layers."""

    prefix: str
    conv: str
    norm: str
    scale: str


def conv_groups(size: DetectorSize) -> list[ConvGroup]:
    """Every convolution with a norm, in the order of the network: 104 for ResNet-101.

    Blocks of a stage of up to three are a, b, c; of a longer one a, b1, b2 ...
    """
    groups = [ConvGroup("backbone.stem.conv1", "conv1", "bn_conv1", "scale_conv1")]
    stages = [(f"backbone.{stage.name}", stage.blocks) for stage in size.stages]
    stages.append(("roi_heads.res5", size.head.blocks))
    for prefix, blocks in stages:
        number = prefix[-1]
        for block in range(blocks):
            letter = "abc"[block] if blocks <= 3 else ("a" if block == 0 else f"b{block}")
            parts = [("shortcut", "branch1")] if block == 0 else []
            parts += [("conv1", "branch2a"), ("conv2", "branch2b"), ("conv3", "branch2c")]
            for ours, theirs in parts:
                place = f"{number}{letter}_{theirs}"
                groups.append(
                    ConvGroup(f"{prefix}.{block}.{ours}", f"res{place}", f"bn{place}", f"scale{place}")
                )
    return groups


def count_groups(shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """Elements by part of the network, norms apart."""
    counts: dict[str, int] = {}
    for name, shape in shapes.items():
        elements = 1
        for side in shape:
            elements *= side
        if ".norm." in name:
            group = "norms"
        elif name.startswith((f"{RPN}.", "backbone.", "roi_heads.res5")):
            group = ".".join(name.split(".")[:2])
        else:
            group = re.sub(r"\.(weight|bias)$", "", name)
        counts[group] = counts.get(group, 0) + elements
    return counts
