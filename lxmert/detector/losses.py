"""Training targets and the five losses of the published recipe."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lxmert.detector.boxes import box_iou, encode_boxes
from lxmert.detector.documents import AnchorSampling, RegionSampling

IGNORE = -1


def _draw(candidates: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` of the candidate indices without replacement; all, in order, if they are not more."""
    if len(candidates) <= count:
        return candidates
    return candidates[torch.randperm(len(candidates), generator=generator)[:count]]


def anchor_targets(
    anchors: Tensor,
    truth: Tensor,
    height: float,
    width: float,
    rule: AnchorSampling,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Labels and deltas of one image's anchors.

    Only anchors fully inside the image count. Positive: overlap at or above `positive_iou`, or the
    best of a true box (all ties). Negative: below `negative_iou`. At most `batch` are drawn, of
    which at most `positive_fraction` positive.

    Args:
        anchors: float32 [N, 4] in blob pixels.
        truth: float32 [G, 4] true boxes in blob pixels, maybe none.
        height: of the image in blob pixels.
        width: of the image in blob pixels.
        rule: thresholds and counts. With `zero_overlap_ties` a true box that no anchor touches
            makes every untouched anchor positive, as the reference does.
        generator: of the draw.

    Returns:
        int64 [N] of 1, 0 and -1 (ignored), and deltas float32 [N, 4], zero but for positives.
    """
    labels = torch.full((len(anchors),), IGNORE, dtype=torch.int64)
    targets = torch.zeros_like(anchors)
    inside = torch.nonzero(
        (anchors[:, 0] >= 0) & (anchors[:, 1] >= 0) & (anchors[:, 2] < width) & (anchors[:, 3] < height)
    ).squeeze(1)
    if len(inside) == 0:
        return labels, targets
    found = torch.full((len(inside),), IGNORE, dtype=torch.int64)
    best = torch.zeros(len(inside), dtype=torch.int64)
    if len(truth):
        overlaps = box_iou(anchors[inside], truth)  # [n, G]
        most, best = overlaps.max(1)
        found[most < rule.negative_iou] = 0
        top = overlaps.max(0).values  # [G]
        ties = overlaps == top
        if not rule.zero_overlap_ties:
            ties &= top > 0
        found[ties.any(1)] = 1
        found[most >= rule.positive_iou] = 1
    else:
        found[:] = 0
    positive = _draw(
        torch.nonzero(found == 1).squeeze(1), int(rule.batch * rule.positive_fraction), generator
    )
    negative = _draw(torch.nonzero(found == 0).squeeze(1), rule.batch - len(positive), generator)
    labels[inside[positive]] = 1
    labels[inside[negative]] = 0
    if len(positive):
        targets[inside[positive]] = encode_boxes(anchors[inside[positive]], truth[best[positive]])
    return labels, targets


@dataclass
class RegionTargets:
    """Sampled regions of one image, foreground first.

    Attributes:
        boxes: float32 [n, 4] in blob pixels.
        classes: int64 [n], 0 for background.
        deltas: float32 [n, 4], divided by `box_std`; zero for background.
        attributes: int64 [n, 16]; -1 ignored, 0 in the first place "none".
    """

    boxes: Tensor
    classes: Tensor
    deltas: Tensor
    attributes: Tensor


def region_targets(
    proposals: Tensor,
    truth: Tensor,
    classes: Tensor,
    attributes: Tensor,
    rule: RegionSampling,
    generator: torch.Generator,
) -> RegionTargets:
    """The regions the heads learn from: drawn from proposals and true boxes.

    Args:
        proposals: float32 [R, 4] in blob pixels.
        truth: float32 [G, 4].
        classes: int64 [G], from 1.
        attributes: int64 [G, 16], ids from 1 then zeros; all zero trains "none".
        rule: counts and overlaps; true boxes are candidates too.
        generator: of the draw.
    """
    candidates = torch.cat([proposals, truth])
    slots = attributes.shape[1]
    if len(truth):
        most, best = box_iou(candidates, truth).max(1)
    else:
        most, best = torch.zeros(len(candidates)), torch.zeros(len(candidates), dtype=torch.int64)
    low, high = rule.background_iou
    foreground = (
        torch.nonzero(most >= rule.foreground_iou).squeeze(1)
        if len(truth)
        else torch.zeros(0, dtype=torch.int64)
    )
    background = torch.nonzero((most >= low) & (most < high)).squeeze(1)
    foreground = _draw(foreground, int(rule.batch * rule.foreground_fraction), generator)
    background = _draw(background, rule.batch - len(foreground), generator)
    chosen = torch.cat([foreground, background])
    boxes, count = candidates[chosen], len(foreground)
    out_classes = torch.zeros(len(chosen), dtype=torch.int64)
    deltas = torch.zeros(len(chosen), 4)
    out_attributes = torch.full((len(chosen), slots), IGNORE, dtype=torch.int64)
    if count:
        owner = best[foreground]
        out_classes[:count] = classes[owner]
        deltas[:count] = encode_boxes(boxes[:count], truth[owner]) / torch.tensor(rule.box_std)
        held = attributes[owner].clone()
        held[:, 1:][held[:, 1:] == 0] = IGNORE
        out_attributes[:count] = held
    return RegionTargets(boxes, out_classes, deltas, out_attributes)


def smooth_l1(values: Tensor, targets: Tensor, sigma: float) -> Tensor:
    """Elementwise `0.5 (sigma x)^2` near zero, `|x| - 0.5 / sigma^2` beyond `1 / sigma^2`."""
    return F.smooth_l1_loss(values, targets, reduction="none", beta=1.0 / sigma**2)


def proposal_losses(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Objectness and box loss, a mean over images of each image's own mean.

    Args:
        logits: float32 [B, N, 2].
        deltas: float32 [B, N, 4].
        labels: int64 [B, N] of 1, 0, -1.
        targets: float32 [B, N, 4].
    """
    sampled = labels >= 0
    share = 1.0 / (sampled.sum(1).clamp(min=1) * len(labels))  # [B]
    image, anchor = torch.nonzero(sampled, as_tuple=True)
    weight = share[image]
    entropy = F.cross_entropy(logits[image, anchor], labels[image, anchor], reduction="none")
    class_loss = (entropy * weight).sum()
    positive = torch.nonzero(labels[image, anchor] == 1).squeeze(1)
    image, anchor, weight = image[positive], anchor[positive], weight[positive]
    distance = smooth_l1(deltas[image, anchor], targets[image, anchor], 3.0).sum(1)
    return class_loss, (distance * weight).sum()


def region_losses(
    logits: Tensor, deltas: Tensor, classes: Tensor, targets: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    """Class and box loss.

    Args:
        logits: float32 [n, C + 1].
        deltas: float32 [n, 4 (C + 1)]; only the four of the true class count.
        classes: int64 [n], 0 for background.
        targets: float32 [n, 4].
        share: float32 [n], weight of each region: 1 / (regions of its image x images).
    """
    class_loss = (F.cross_entropy(logits, classes, reduction="none") * share).sum()
    foreground = torch.nonzero(classes > 0).squeeze(1)
    chosen = deltas.view(len(deltas), -1, 4)[foreground, classes[foreground]]
    distance = smooth_l1(chosen, targets[foreground], 1.0).sum(1)
    return class_loss, (distance * share[foreground]).sum()


def attribute_loss(logits: Tensor, labels: Tensor, images: Tensor, image_count: int) -> Tensor:
    """Multi-label cross-entropy: per region the mean of -log p over its labels.

    Args:
        logits: float32 [n, attributes + 1].
        labels: int64 [n, 16], -1 ignored.
        images: int64 [n], the image of each region; each image's labelled regions are averaged.
        image_count: images in the batch.
    """
    valid = labels >= 0
    per_region = valid.sum(1)
    log_p = F.log_softmax(logits, 1).gather(1, labels.clamp(min=0))
    labelled = per_region > 0
    mean = -(log_p * valid).sum(1) / per_region.clamp(min=1)
    per_image = torch.zeros(image_count, dtype=torch.int64).index_add_(0, images, labelled.long())
    return (mean / (per_image.clamp(min=1)[images] * image_count)).sum()
