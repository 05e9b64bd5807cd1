"""The gate before a fast extraction: how far its features are from those of plain float32."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lxmert.detector.backends import Network
from lxmert.detector.documents import Profile
from lxmert.detector.extract import Extractor
from lxmert.errors import DataError, SpecError

log = logging.getLogger(__name__)

IMAGES = 3


@dataclass(frozen=True)
class Deviation:
    """How far fast features are from float32 ones.

    Attributes:
        median: of the relative L2 distance of a region's features, on the same proposals.
        largest: of the same.
        greatest: largest absolute difference of a feature.
        same_boxes: share of the kept boxes that are kept with both.
        same_objects: share of the same proposals that get the same object.
        images: compared.
    """

    median: float
    largest: float
    greatest: float
    same_boxes: float
    same_objects: float
    images: int

    def __str__(self) -> str:
        return (
            f"relative deviation of a region's features {self.median:.2g} (median),"
            f" {self.largest:.2g} (largest), {self.greatest:.2g} at most in one number;"
            f" {self.same_boxes:.1%} of the kept boxes and {self.same_objects:.1%} of the objects"
            f" the same ({self.images} images)"
        )


@torch.inference_mode()
def measure(
    model: Network, profile: Profile, precision: str, channels_last: bool, images: Sequence[Path]
) -> Deviation | None:
    """Compares a fast extractor with plain float32 on a few images; None if none can be read.

    The model's memory format is the fast one afterwards.
    """
    plain = Extractor(model, profile)
    blobs = []
    for path in images:
        try:
            blobs.append(plain.read(path))
        except DataError:
            continue
        if len(blobs) == IMAGES:
            break
    expected = [plain.stages(blob) for blob in blobs]
    fast = Extractor(model, profile, precision, channels_last)
    distances, greatest, kept, objects = [], 0.0, [], []
    for blob, stages in zip(blobs, expected, strict=True):
        feature_map = fast.feature_maps([blob])
        found = fast.describe(feature_map, stages.proposals)
        difference = found.features - stages.found.features
        norm = stages.found.features.norm(dim=1).clamp_min(1e-12)
        distances.append((difference.norm(dim=1) / norm).cpu().numpy())
        greatest = max(greatest, float(difference.abs().max()))
        objects.append((found.class_logits.argmax(1) == stages.found.class_logits.argmax(1)).cpu().numpy())
        boxes = fast.regions(blob, feature_map).boxes_px
        near = np.abs(stages.regions.boxes_px[:, None] - boxes[None]).max(axis=2).min(axis=1) < 0.5
        kept.append(near)
    if not distances:
        return None
    every = np.concatenate(distances)
    return Deviation(
        float(np.median(every)), float(every.max()), greatest, float(np.concatenate(kept).mean()),
        float(np.concatenate(objects).mean()), len(distances),
    )  # fmt: skip


def check(
    model: Network,
    profile: Profile,
    precision: str,
    channels_last: bool,
    images: Sequence[Path],
    limit: float,
) -> None:
    """Logs the deviation of a fast extraction, and refuses it where the median is above the limit.

    Raises:
        SpecError: it is.
    """
    name = f"{precision}{' channels-last' if channels_last else ''}"
    found = measure(model, profile, precision, channels_last, images)
    if found is None:
        log.warning("parity: %s: no image can be read to compare with", name)
        return
    log.info("parity: %s against float32: %s", name, found)
    if not found.median <= limit:
        raise SpecError(
            f"--precision {name}: {found}; the median may be {limit:g} at most."
            " Extract with float32, or raise --parity-limit."
        )
