"""Detectors with seeded random weights that behave as trained ones do: finite, spread, never tied."""

from __future__ import annotations

from dataclasses import replace

import torch

from lxmert.detector.backbone import Norm
from lxmert.detector.documents import DetectorSize, parse_size
from lxmert.detector.model import Detector, build_detector, with_classes
from lxmert.specs.documents import read_document

FULL = parse_size(read_document("detector_size", "full"))


def small_size(objects: int = 40, attributes: int = 12) -> DetectorSize:
    """The sample size with more boxes: every rule has something to do, in a tenth of a second."""
    size = with_classes(parse_size(read_document("detector_size", "sample")), objects, attributes, "test")
    test = replace(size.proposals.test, before_nms=600, after_nms=60)
    return replace(size, proposals=replace(size.proposals, test=test))


def seeded_detector(size: DetectorSize, seed: int = 0) -> Detector:
    """Weights drawn for a seed: residual branches of a fifth, norms with statistics, heads with spread.

    Norms keep activations near one through all blocks; class logits spread enough that a threshold of
    0.2 keeps some regions and drops others.
    """
    model = build_detector(size, seed, residual_gain=0.2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, Norm):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
                if name == "backbone.stem.conv1.norm":
                    module.running_var.mul_(60.0**2)  # pixels are grey levels
        head = model.proposal_generator.rpn_head
        wide = head.conv.in_channels * 9
        head.conv.weight.normal_(0, (2 / wide) ** 0.5, generator=generator)
        head.objectness_logits.weight.normal_(0, 2 / head.conv.out_channels**0.5, generator=generator)
        head.anchor_deltas.weight.normal_(0, 0.3 / head.conv.out_channels**0.5, generator=generator)
        predictor = model.roi_heads.box_predictor
        predictor.cls_score.weight.normal_(0, 8 / predictor.cls_score.in_features**0.5, generator=generator)
        for layer in (predictor.bbox_pred, predictor.fc_attr, predictor.attr_score):
            layer.weight.normal_(0, 1 / layer.in_features**0.5, generator=generator)
            layer.bias.normal_(0, 0.1, generator=generator)
        predictor.cls_embedding.weight.normal_(0, 1, generator=generator)
    return model
