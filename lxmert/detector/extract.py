"""Extraction: one image to its regions, by a detector and an extraction profile."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lxmert.detector.backends import Network, for_inference
from lxmert.detector.corrected import corrected_regions
from lxmert.detector.documents import Profile, parse_profile
from lxmert.detector.model import Detections, load_detector
from lxmert.detector.preprocess import Blob, ImageSource, decode_image, make_blob
from lxmert.detector.selection import select
from lxmert.errors import DataError
from lxmert.types import Regions

_LEAST_SIDE_PX = 32  # of a blob; smaller ones are filled up with zeros so that every stage has a cell
_ROI_CHUNK = 100  # regions run through the last stage at a time: bounds memory, changes nothing

# What given boxes are: proposals that are scored and selected by the profile, or exactly the regions wanted.
Meaning = Literal["proposals", "regions"]
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Stages:
    """What each stage of the network gives for one image, for comparison.

    Attributes:
        blob: the network's input.
        feature_map: float32 [1, C, h, w].
        proposals: float32 [R, 4] in blob pixels, best first.
        found: features and logits of the proposals.
        regions: what the profile makes of them.
    """

    blob: Blob
    feature_map: Tensor
    proposals: Tensor
    found: Detections
    regions: Regions


class Extractor:
    """A detector with an extraction profile.

    Regions of an image depend on that image alone: images run one at a time, so neither neighbours
    nor shards nor workers change a bit. `batch` above 1 gives that up for speed where many images have
    one shape (see `feature_maps`); so do other precisions than float32.

    Args:
        model: of `for_inference`, on its device.
        profile: which of the reference's rules hold.
        precision: of the convolutions: "float32", "bfloat16" or "float16". Proposals, scores and their
            order are computed in float32 all the same.
        channels_last: whether convolutions work on channels-last memory.
    """

    def __init__(
        self, model: Network, profile: Profile, precision: str = "float32", channels_last: bool = False
    ) -> None:
        self.model, self.profile = model, profile
        self.precision, self.channels_last = precision, channels_last
        self._device = next(model.parameters()).device
        if channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def image(
        self,
        source: ImageSource,
        array_order: str | None = None,
        boxes_px: np.ndarray | None = None,
        meaning: Meaning = "regions",
    ) -> Regions:
        """Regions of one image, however it is handed over.

        Args:
            source: a path, the file's bytes, a PIL image, or an array.
            array_order: "rgb" or "bgr", needed for arrays with colours; there is no default.
            boxes_px: float32 [R, 4] in pixels of the image as it is seen (turned by its EXIF tag, if the
                profile does so); None lets the network propose.
            meaning: what the given boxes are: "regions" takes exactly these, in their order; "proposals"
                scores and selects them as the network's own.

        Raises:
            DataError: it cannot be read, or a box leaves it.
        """
        blob = self.read(source, array_order)
        if boxes_px is None:
            return self.regions(blob)
        from lxmert.detector.given_boxes import check_boxes

        boxes = check_boxes(boxes_px, "boxes_px")
        return self.given(blob, boxes, meaning, "boxes_px")

    def read(self, source: ImageSource, array_order: str | None = None) -> Blob:
        """Network input of an image.

        Raises:
            DataError: it cannot be read.
        """
        size = self.model.size.image
        image = decode_image(source, self.profile.image.exif, "bgr", array_order)
        return make_blob(image, size.short_side_px, size.long_side_px, size.mean_bgr, self.profile.image)

    @torch.inference_mode()
    def regions(self, blob: Blob, feature_map: Tensor | None = None) -> Regions:
        """Regions of one image by the profile's rules, in its row order.

        Args:
            blob: its network input.
            feature_map: [1, C, h, w] of `feature_maps`, if it is there already.

        Raises:
            DataError: no proposal is left, and the profile calls that a bad image.
        """
        return self.stages(blob, feature_map).regions

    @torch.inference_mode()
    def stages(self, blob: Blob, feature_map: Tensor | None = None) -> Stages:
        """Regions of one image with everything they were computed from."""
        if feature_map is None:
            feature_map = self.feature_maps([blob])
        proposals = self._proposals(feature_map, blob)
        # Stored boxes are the proposals themselves, and the factor is a float32 as in the reference.
        original = (proposals.cpu().numpy() / np.float32(blob.scale)).astype(np.float32)
        found = self.describe(feature_map, proposals)
        return Stages(blob, feature_map, proposals, found, self._select(blob, original, found))

    @torch.inference_mode()
    def given(self, blob: Blob, boxes_px: np.ndarray, meaning: Meaning, where: str) -> Regions:
        """Regions of one image from given boxes, by either of the two documented meanings.

        "regions": features, classes and attributes of exactly these boxes in this order, nothing suppressed,
        selected or moved; feeding stored boxes back gives their features again. "proposals": the boxes take
        the place of the network's proposals, and the profile's suppression and selection follow.
        Selection scores are computed alike in both.

        Args:
            blob: network input of the image.
            boxes_px: float32 [R, 4] in pixels of the original image.
            meaning: "regions" or "proposals".
            where: names the boxes in messages.

        Raises:
            DataError: a box leaves the image.

        Source: spec section 6; the factor is applied in float64, then rounded to float32.
        """
        from lxmert.detector.given_boxes import check_inside

        check_inside(boxes_px, blob.width, blob.height, where)
        rois = torch.from_numpy((boxes_px.astype(np.float64) * blob.scale).astype(np.float32))
        feature_map = self.feature_maps([blob])
        found = self.describe(feature_map, rois.to(self._device))
        return self._select(blob, boxes_px.astype(np.float32), found, every=meaning == "regions")

    @torch.inference_mode()
    def feature_maps(self, blobs: Sequence[Blob]) -> Tensor:
        """The shared feature maps float32 [B, C, h, w] of images whose blobs have one shape."""
        pixels = np.stack([blob.pixels for blob in blobs])
        height, width = pixels.shape[2:]
        if min(height, width) < _LEAST_SIDE_PX:
            rows, columns = max(_LEAST_SIDE_PX - height, 0), max(_LEAST_SIDE_PX - width, 0)
            pixels = np.pad(pixels, ((0, 0), (0, 0), (0, rows), (0, columns)))
        images = torch.from_numpy(pixels).to(self._device)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with self._fast():
            maps: Tensor = self.model.feature_map(images)
        return maps.float()

    def _fast(self) -> contextlib.AbstractContextManager[Any]:
        kind = PRECISIONS[self.precision]
        return torch.autocast(self._device.type, kind) if kind is not None else contextlib.nullcontext()

    @torch.inference_mode()
    def describe(self, feature_map: Tensor, boxes: Tensor) -> Detections:
        """Features and logits of boxes float32 [R, 4] (blob pixels) on a map [1, C, h, w], in float32."""
        with self._fast():
            found = self.model.describe(feature_map, boxes, self.profile.pooling, _ROI_CHUNK)
        return Detections(
            found.boxes, found.features.float(), found.class_logits.float(), found.attribute_logits.float()
        )

    def scores(self, found: Detections) -> tuple[Tensor, Tensor]:
        """Probabilities of background and objects [R, objects + 1], and of attributes [R, attributes]."""
        return torch.softmax(found.class_logits, 1), self._attribute_scores(found.attribute_logits)

    def _attribute_scores(self, logits: Tensor) -> Tensor:
        if logits.shape[1] == 1:  # weights without attribute layers: attribute 0 with probability 0
            return torch.zeros_like(logits)
        if self.profile.attributes == "softmax_all":
            return torch.softmax(logits, 1)[:, 1:]
        return torch.softmax(logits[:, 1:], 1)

    def _select(self, blob: Blob, boxes_px: np.ndarray, found: Detections, every: bool = False) -> Regions:
        """Regions by the profile's selection, or all of them."""
        all_scores, attribute_scores = (scores.cpu().numpy() for scores in self.scores(found))
        class_scores = all_scores[:, 1:]
        if self.profile.boxes == "corrected" and not every:
            boxes_px, rows, best = corrected_regions(self.model, blob, found, self.profile.selection)
        else:
            rows, best = select(boxes_px, class_scores, self.profile.selection)
        if every:
            rows = np.arange(len(boxes_px))
        elif self.profile.store.order == "proposal":
            rows = np.sort(rows)
        return Regions(
            boxes_px=boxes_px[rows],
            features=found.features.cpu().numpy()[rows].astype(self.profile.store.dtype),
            object_ids=class_scores[rows].argmax(1).astype(np.int64),
            object_scores=class_scores[rows].max(1),
            attribute_ids=attribute_scores[rows].argmax(1).astype(np.int64),
            attribute_scores=attribute_scores[rows].max(1),
            selection_scores=best[rows],
            width=blob.width,
            height=blob.height,
            class_scores=all_scores[rows].astype(np.float16) if self.profile.store.class_scores else None,
        )

    def _proposals(self, feature_map: Tensor, blob: Blob) -> Tensor:
        _, height, width = blob.pixels.shape
        boxes, _ = self.model.proposals(feature_map, height, width, blob.scale, self.profile.proposals)
        if len(boxes):
            return boxes
        if self.profile.proposals.when_none == "bad_image":
            raise DataError(
                f"image of {blob.width} x {blob.height} px: too small for any proposal; remove it."
            )
        return boxes.new_tensor([[0.0, 0.0, width - 1.0, height - 1.0]])


def load_extractor(
    weights: str | Path,
    profile: str = "lxmert-36",
    device: str = "cpu",
    precision: str = "float32",
    backend: str = "torchvision",
) -> Extractor:
    """An extractor from a weights file and the name of a shipped profile.

    `load_extractor("detector.safetensors").image("photo.jpg").features` is all it takes for one image.

    Raises:
        WeightsError: the file holds no detector.
        SpecError: there is no such profile, or the backend is not installed.
    """
    from lxmert.specs.documents import read_document

    model, _ = load_detector(weights)
    network = for_inference(model.to(device), backend)
    return Extractor(network, parse_profile(read_document("profile", profile)), precision)
