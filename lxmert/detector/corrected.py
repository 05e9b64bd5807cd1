"""Regions with corrected boxes, as the detectron2 fork makes them: not Caffe's, but what many users have."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lxmert.detector.backends import Network
from lxmert.detector.boxes import LOG_LIMIT, clip_boxes, decode_boxes, nms_plain
from lxmert.detector.documents import SelectionRule
from lxmert.detector.model import Detections
from lxmert.detector.preprocess import Blob

DIVISORS = (10.0, 10.0, 5.0, 5.0)  # of the fork's configuration, whatever the rows were trained with
LAST_OVERLAP = 0.9


@torch.no_grad()
def corrected_regions(
    model: Network, blob: Blob, found: Detections, rule: SelectionRule
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every proposal's corrected box, the regions chosen, and the scores they were chosen by.

    A region's feature stays that of its proposal; only the box moves.

    Args:
        model: its box layer corrects.
        blob: of the image.
        found: of its R proposals, in blob pixels.
        rule: bounds; `nms` is the first overlap tried.

    Returns:
        Boxes float32 [R, 4] in pixels of the original image, rows int64 [K] best first, scores float32 [R].

    Source: spec section 7a; the fork's `detectron2_mscoco_proposal_maxnms`.
    """
    _, height, width = blob.pixels.shape
    scores, classes = torch.softmax(found.class_logits, 1)[:, 1:].max(1)
    deltas = model.corrections(found.features)
    chosen = deltas[torch.arange(len(classes), device=deltas.device), classes + 1]
    boxes = decode_boxes(found.boxes, chosen / chosen.new_tensor(DIVISORS), LOG_LIMIT, more=0.0)
    boxes = clip_boxes(boxes, height + 1, width + 1)
    rows = suppress_until(boxes, scores, rule)
    # The sides' own ratios, since whole sides are not the factor times the original's.
    ratios = boxes.new_tensor([blob.width / width, blob.height / height] * 2)
    original = clip_boxes(boxes * ratios, blob.height + 1, blob.width + 1)
    there = (original[rows, 2:] > original[rows, :2]).all(1)
    return original.cpu().numpy(), rows[there].cpu().numpy(), scores.cpu().numpy()


def suppress_until(boxes: Tensor, scores: Tensor, rule: SelectionRule) -> Tensor:
    """Rows int64 [K], best first: suppression at ever higher overlaps until `min_boxes` are left."""
    overlap = rule.nms
    while True:
        rows = nms_plain(boxes, scores, overlap)
        if len(rows) >= rule.min_boxes or overlap + 0.1 > LAST_OVERLAP + 1e-9:
            return rows[: rule.max_boxes]
        overlap = round(overlap + 0.1, 10)
