"""Average precision of boxes and attributes at overlap 0.5, in the published form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torchvision.ops import nms

from lxmert.detector.batches import ahead
from lxmert.detector.boxes import clip_boxes
from lxmert.detector.model import Detector
from lxmert.detector.preprocess import decode_image, make_blob
from lxmert.detector.vg_data import BoxRows
from lxmert.progress import track

IOU = 0.5
SUPPRESSION = 0.3
BEST_PER_IMAGE = 400


@dataclass
class Found:
    """Detections of one image, best first.

    Attributes:
        boxes: float32 [D, 4] in pixels of the original image.
        classes: int64 [D], from 0.
        scores: float32 [D].
        regions: int64 [D], the proposal each came from.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    regions: np.ndarray


class PrecisionTable:
    """Gathers matches image by image and gives the average precision of each class.

    Only scores and hits are kept, so memory does not grow with the images' size.
    """

    def __init__(self, classes: int) -> None:
        self.truth = np.zeros(classes, np.int64)
        self._scores: list[np.ndarray] = []
        self._hits: list[np.ndarray] = []
        self._classes: list[np.ndarray] = []

    def add(
        self,
        boxes: np.ndarray,
        classes: np.ndarray,
        scores: np.ndarray,
        true_boxes: np.ndarray,
        true_classes: np.ndarray,
    ) -> np.ndarray:
        """Counts one image; gives the index of the true box each detection hits, or -1.

        A detection hits the true box of its class that it overlaps most, if by more than 0.5 and no
        better-scored detection hit that box.

        Args:
            boxes: float32 [D, 4].
            classes: int64 [D], from 0.
            scores: float32 [D].
            true_boxes: float32 [G, 4].
            true_classes: int64 [G], from 0.
        """
        self.truth += np.bincount(true_classes, minlength=len(self.truth))
        hits = np.full(len(boxes), -1, np.int64)
        if len(boxes) and len(true_boxes):
            overlaps = np.where(classes[:, None] == true_classes, _overlaps(boxes, true_boxes), 0.0)
            best = overlaps.argmax(1)
            matched = np.flatnonzero(overlaps[np.arange(len(boxes)), best] > IOU)
            matched = matched[np.argsort(-scores[matched], kind="stable")]
            _, first = np.unique(best[matched], return_index=True)
            hits[matched[first]] = best[matched[first]]
        self._scores.append(scores.astype(np.float32))
        self._hits.append(hits >= 0)
        self._classes.append(classes.astype(np.int32))
        return hits

    def average_precisions(self) -> np.ndarray:
        """Area under each class's interpolated precision-recall curve, float64 [classes]; 0 without truth."""
        result = np.zeros(len(self.truth))
        if not self._scores:
            return result
        scores, hits, classes = (np.concatenate(part) for part in (self._scores, self._hits, self._classes))
        order = np.lexsort((-scores, classes))
        hits, classes = hits[order], classes[order]
        edges = np.searchsorted(classes, np.arange(len(self.truth) + 1))
        for index, count in enumerate(self.truth):
            if count:
                result[index] = average_precision(hits[edges[index] : edges[index + 1]], int(count))
        return result

    def summary(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Mean over all classes, mean weighted by true boxes, and a row a class."""
        values = self.average_precisions()
        total = self.truth.sum()
        return {
            "map": float(values.mean()),
            "weighted_map": float((values * self.truth).sum() / total) if total else 0.0,
            "classes": [
                {"name": name, "ap": float(value), "boxes": int(count)}
                for name, value, count in zip(names, values, self.truth, strict=True)
            ],
        }


def _overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.maximum(high - low + 1, 0).prod(2)
    area_1 = (first[:, 2:] - first[:, :2] + 1).prod(1)
    area_2 = (second[:, 2:] - second[:, :2] + 1).prod(1)
    return shared / (area_1[:, None] + area_2 - shared)


def average_precision(hits: np.ndarray, count: int) -> float:
    """VOC 2010's area: bool hits [D] best first, `count` true boxes."""
    if len(hits) == 0:
        return 0.0
    true = np.cumsum(hits)
    recall = np.concatenate([[0.0], true / count, [1.0]])
    precision = np.concatenate([[0.0], true / np.arange(1, len(hits) + 1), [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    return float(((recall[steps + 1] - recall[steps]) * envelope[steps + 1]).sum())


def best_detections(boxes: torch.Tensor, scores: torch.Tensor, count: int = BEST_PER_IMAGE) -> Found:
    """The `count` best (region, class) pairs after suppression within each class.

    Exact without suppressing every class in full: pairs are taken best first until `count` of them
    survive, since no pair depends on one below it.

    Args:
        boxes: float32 [R, C, 4], class-specific, in pixels of the original image.
        scores: float32 [R, C].
        count: how many to keep.
    """
    regions, classes = scores.shape
    ranked = torch.sort(scores.flatten(), descending=True, stable=True)
    flat = boxes.reshape(-1, 4).double()
    # Classes are moved apart, so that one call suppresses each by itself; float64 keeps overlaps exact.
    apart = float(flat.max() - flat.min()) + 2.0 if len(flat) else 0.0
    taken = 2 * count
    while True:
        pairs = ranked.indices[:taken]
        moved = flat[pairs] + (pairs % classes)[:, None] * apart + flat.new_tensor([0.0, 0.0, 1.0, 1.0])
        kept = nms(moved, -torch.arange(len(pairs), dtype=torch.float64, device=flat.device), SUPPRESSION)
        if len(kept) >= count or taken >= len(ranked.indices):
            break
        taken *= 2
    pairs = pairs[kept[:count]]
    return Found(
        boxes.reshape(-1, 4)[pairs].cpu().numpy(),
        (pairs % classes).cpu().numpy(),
        scores.flatten()[pairs].cpu().numpy(),
        (pairs // classes).cpu().numpy(),
    )


@dataclass
class Evaluation:
    """What `evaluate` gives.

    Attributes:
        metrics: "objects" and "attributes" tables and the counts; ready for JSON.
        examples: of the first images: file, detections, attribute scores [D, attributes] of each detection.
    """

    metrics: dict[str, Any]
    examples: list[dict[str, Any]] = field(default_factory=list)


def evaluate(
    model: Detector,
    rows: BoxRows,
    objects: tuple[str, ...],
    attributes: tuple[str, ...],
    workers: int = 0,
    examples: int = 0,
    through_text: bool = False,
) -> Evaluation:
    """Runs the detector over annotated images.

    Objects: class-specific boxes in original pixels, clipped, suppression 0.3, the 400 best of an
    image. Attributes, published form: true boxes are given, each box scores each attribute, the
    400 best of an image count. `attribute_accuracy`: of detections that hit a true box which has
    attributes, the share whose likeliest attribute is one of them. With `through_text` detections
    count as the reference's result files hold them (`as_written`), as in its published figures.
    """
    object_table, attribute_table = PrecisionTable(len(objects)), PrecisionTable(len(attributes))
    asked = right = 0
    shown: list[dict[str, Any]] = []
    images = ahead(lambda i: decode_image(rows.files[i]), range(len(rows)), workers)
    for index, image in enumerate(track(images, len(rows), "images", "evaluate-detector")):
        height, width = image.shape[:2]
        true_boxes, true_classes, true_attributes = rows.clipped(index, height, width)
        found, attribute_scores, given = _run(model, image, true_boxes)
        boxes, scores = as_written(found.boxes, found.scores) if through_text else (found.boxes, found.scores)
        hits = object_table.add(boxes, found.classes, scores, true_boxes, true_classes - 1)
        best_attributes = attribute_scores.argmax(1)
        hit = np.flatnonzero(hits >= 0)
        hit = hit[true_attributes[hits[hit]].any(1)]
        answers = best_attributes[found.regions[hit]] + 1
        right += int((true_attributes[hits[hit]] == answers[:, None]).any(1).sum())
        asked += len(hit)
        _add_attributes(attribute_table, given, true_boxes, true_attributes, through_text)
        if index < examples:
            shown.append(
                {"file": rows.files[index], "found": found, "attributes": attribute_scores[found.regions]}
            )
    metrics = {
        "images": len(rows),
        "objects": object_table.summary(objects),
        "attributes": attribute_table.summary(attributes),
        "attribute_accuracy": right / asked if asked else 0.0,
        "attribute_accuracy_boxes": asked,
    }
    return Evaluation(metrics, shown)


@torch.no_grad()
def _run(model: Detector, image: np.ndarray, true_boxes: np.ndarray) -> tuple[Found, np.ndarray, np.ndarray]:
    """Detections, attribute scores of proposals [R, attributes] and of true boxes [G, attributes]."""
    size = model.size.image
    blob = make_blob(image, size.short_side_px, size.long_side_px, size.mean_bgr)
    device = next(model.parameters()).device
    feature_map = model.backbone(torch.from_numpy(blob.pixels)[None].to(device))
    boxes, _ = model.proposals(feature_map, *blob.pixels.shape[1:], blob.scale)
    given = torch.from_numpy((true_boxes.astype(np.float64) * blob.scale).astype(np.float32)).to(device)
    both = model.describe(feature_map, torch.cat([boxes, given]))
    count = len(boxes)
    regressed = model.regress(both.features[:count], boxes / np.float32(blob.scale))[:, 1:]
    found = best_detections(
        clip_boxes(regressed, blob.height, blob.width), torch.softmax(both.class_logits[:count], 1)[:, 1:]
    )
    attribute_scores = torch.softmax(both.attribute_logits, 1)[:, 1:].cpu().numpy()
    return found, attribute_scores[:count], attribute_scores[count:]


def as_written(boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores as the reference's result files hold them and its scorer reads them.

    Scores have three decimals and corners one, and corners count from 1 where those of the true boxes count
    from 0: a pixel of difference that the published figures contain.

    Source: bottom-up-attention's `vg.py` (`_write_voc_results_file`) and `vg_eval.py`.
    """
    return (
        (np.round(boxes.astype(np.float64) + 1, 1)).astype(np.float32),
        np.round(scores.astype(np.float64), 3).astype(np.float32),
    )


def _add_attributes(
    table: PrecisionTable, scores: np.ndarray, boxes: np.ndarray, attributes: np.ndarray, through_text: bool
) -> None:
    row, slot = np.nonzero(attributes)
    best = np.argsort(-scores.ravel(), kind="stable")[:BEST_PER_IMAGE]
    region, attribute = np.divmod(best, scores.shape[1])
    found, ranks = boxes[region], scores.ravel()[best]
    if through_text:
        found, ranks = as_written(found, ranks)
    table.add(found, attribute, ranks, boxes[row], attributes[row, slot] - 1)
