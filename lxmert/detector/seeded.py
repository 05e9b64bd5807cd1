"""A detector with seeded weights that behaves as a trained one does: what `doctor` and comparisons run."""

from __future__ import annotations

import torch

from lxmert.detector.backbone import Norm
from lxmert.detector.documents import DetectorSize
from lxmert.detector.model import Detector, build_detector


@torch.no_grad()
def seeded_detector(size: DetectorSize, seed: int = 0) -> Detector:
    """Weights drawn for a seed, the same on every machine, norms with statistics of their own.

    Residual branches weigh a fifth of their shortcuts, which keeps activations near one through all
    blocks; scores spread so far that a threshold of 0.2 keeps some regions and drops others.
    """
    model = build_detector(size, seed, residual_gain=0.2)
    generator = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, Norm):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.bias.normal_(0, 0.1, generator=generator)
            if name == "backbone.stem.conv1.norm":
                module.running_var.mul_(60.0**2)  # pixels are grey levels
    head = model.proposal_generator.rpn_head
    head.conv.weight.normal_(0, (2 / (9 * head.conv.in_channels)) ** 0.5, generator=generator)
    spread = head.conv.out_channels**-0.5
    head.objectness_logits.weight.normal_(0, 2 * spread, generator=generator)
    head.anchor_deltas.weight.normal_(0, 0.3 * spread, generator=generator)
    predictor = model.roi_heads.box_predictor
    predictor.cls_score.weight.normal_(0, 8 * predictor.cls_score.in_features**-0.5, generator=generator)
    predictor.cls_score.bias[0] = 6.0  # background is often the likeliest, as in trained networks
    layers = [predictor.bbox_pred]
    if predictor.has_attributes:
        predictor.cls_embedding.weight.normal_(0, 1, generator=generator)
        layers += [predictor.fc_attr, predictor.attr_score]
    for layer in layers:
        layer.weight.normal_(0, layer.in_features**-0.5, generator=generator)
        layer.bias.normal_(0, 0.1, generator=generator)
    return model
