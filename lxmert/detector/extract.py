"""Extraction: one image to its regions, and a shard of images to a part of a region store."""

from __future__ import annotations

import hashlib
import logging
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lxmert import __version__
from lxmert.data.images import read_listing
from lxmert.data.region_record import StoreSchema
from lxmert.data.region_writer import RegionWriter
from lxmert.detector.batches import ahead
from lxmert.detector.documents import Profile
from lxmert.detector.model import Detector
from lxmert.detector.preprocess import Blob, ImageSource, decode_image, make_blob
from lxmert.detector.selection import select
from lxmert.errors import DataError, Interrupted
from lxmert.progress import Progress
from lxmert.state import StopSignal
from lxmert.types import Regions

log = logging.getLogger(__name__)

_COMMIT_IMAGES = 50  # a kill loses fewer than 100 images
_LEAST_SIDE_PX = 32  # of a blob; smaller ones are filled up with zeros so that every stage has a cell
_ROI_CHUNK = 100  # regions run through the last stage at a time: bounds memory, changes nothing


class Extractor:
    """A detector with an extraction profile.

    Regions of an image depend on that image alone: images run one at a time, so neither neighbours
    nor shards nor workers change a bit.
    """

    def __init__(self, model: Detector, profile: Profile) -> None:
        self.model, self.profile = model, profile
        self._device = next(model.parameters()).device

    def read(self, source: ImageSource, array_order: str | None = None) -> Blob:
        """Network input of an image.

        Raises:
            DataError: it cannot be read.
        """
        size = self.model.size.image
        image = decode_image(source, self.profile.image.exif, "bgr", array_order)
        return make_blob(image, size.short_side_px, size.long_side_px, size.mean_bgr)

    @torch.inference_mode()
    def regions(self, blob: Blob) -> Regions:
        """Regions of one image by the profile's rules, in its row order.

        Raises:
            DataError: no proposal is left, and the profile calls that a bad image.
        """
        feature_map = self.feature_map(blob)
        boxes = self._proposals(feature_map, blob)
        found = self.model.describe(feature_map, boxes, self.profile.pooling, _ROI_CHUNK)
        class_scores = torch.softmax(found.class_logits, 1)[:, 1:].cpu().numpy()
        attribute_scores = self._attribute_scores(found.attribute_logits).cpu().numpy()
        # Stored boxes are the proposals themselves, and the factor is a float32 as in the reference.
        original = (boxes.cpu().numpy() / np.float32(blob.scale)).astype(np.float32)
        rows, best = select(original, class_scores, self.profile.selection)
        return Regions(
            boxes_px=original[rows],
            features=found.features.cpu().numpy()[rows].astype(self.profile.store.dtype),
            object_ids=class_scores[rows].argmax(1).astype(np.int64),
            object_scores=class_scores[rows].max(1),
            attribute_ids=attribute_scores[rows].argmax(1).astype(np.int64),
            attribute_scores=attribute_scores[rows].max(1),
            selection_scores=best[rows],
            width=blob.width,
            height=blob.height,
        )

    def feature_map(self, blob: Blob) -> Tensor:
        """The shared feature map [1, C, h, w]."""
        pixels = blob.pixels
        _, height, width = pixels.shape
        if min(height, width) < _LEAST_SIDE_PX:
            rows, columns = max(_LEAST_SIDE_PX - height, 0), max(_LEAST_SIDE_PX - width, 0)
            pixels = np.pad(pixels, ((0, 0), (0, rows), (0, columns)))
        return self.model.backbone(torch.from_numpy(pixels)[None].to(self._device))

    def _proposals(self, feature_map: Tensor, blob: Blob) -> Tensor:
        _, height, width = blob.pixels.shape
        boxes, _ = self.model.proposals(feature_map, height, width, blob.scale)
        if len(boxes):
            return boxes
        if self.profile.proposals.when_none == "bad_image":
            raise DataError(
                f"image of {blob.width} x {blob.height} px: too small for any proposal; remove it."
            )
        return boxes.new_tensor([[0.0, 0.0, width - 1.0, height - 1.0]])

    def _attribute_scores(self, logits: Tensor) -> Tensor:
        if self.profile.attributes == "softmax_all":
            return torch.softmax(logits, 1)[:, 1:]
        return torch.softmax(logits[:, 1:], 1)


def shard_of(image_id: str, shards: int) -> int:
    """The shard, from 0, an image belongs to."""
    return int.from_bytes(hashlib.sha1(image_id.encode()).digest(), "big") % shards


def parse_shard(text: str) -> tuple[int, int]:
    """Index from 0 and count of "3/16" (which counts from 1).

    Raises:
        DataError: it is no such pair.
    """
    try:
        index, count = (int(part) for part in text.split("/"))
    except ValueError:
        index, count = 0, 0
    if not 1 <= index <= count:
        raise DataError(f"--shard {text}: must be i/n with i from 1 to n, such as 1/16.")
    return index - 1, count


def provenance(
    profile_document: dict[str, Any], model: Detector, weights_sha256: str, meta: dict[str, Any]
) -> dict[str, Any]:
    """What a store says of how it was made; the same for every shard."""
    import PIL
    import torchvision

    return {
        "profile": profile_document,
        "weights": {
            "sha256": weights_sha256,
            **{k: meta[k] for k in ("objects_sha256", "attributes_sha256") if k in meta},
        },
        "size": asdict(model.size),
        "exif": profile_document["image"]["exif"],
        "device": next(model.parameters()).device.type,
        "versions": {
            "lxmert": __version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "python": platform.python_version(),
        },
    }


def store_schema(model: Detector, profile: Profile, profile_document: dict[str, Any]) -> StoreSchema:
    """The schema of stores this detector writes by this profile."""
    size = model.size
    assert size.classes.objects and size.classes.attributes
    return StoreSchema(
        feature_width=size.head.channels,
        feature_dtype=profile.store.dtype,
        max_boxes=profile.selection.max_boxes,
        object_classes=size.classes.objects,
        attribute_classes=size.classes.attributes,
        profile=profile_document,
    )


@dataclass(frozen=True)
class BadImage:
    """An image that gave no regions, and why."""

    id: str
    file: str
    reason: str


def shard_images(listing: str | Path, index: int, count: int) -> list[tuple[str, Path]]:
    """Id and path of each image of a shard, in the listing's order."""
    document = read_listing(Path(listing))
    folder = Path(document["folder"])
    return [
        (str(image["id"]), folder / image["file"])
        for image in document["images"]
        if shard_of(str(image["id"]), count) == index
    ]


def extract_images(
    extractor: Extractor, images: Sequence[tuple[str, Path]], writer: RegionWriter, workers: int
) -> list[BadImage]:
    """Adds the regions of every image that the writer lacks; gives the images that could not be read.

    Raises:
        Interrupted: a signal came; what was done is kept.
    """
    todo = [item for item in images if item[0] not in writer]
    if len(todo) < len(images):
        log.info("extract: %d of %d images are there already", len(images) - len(todo), len(images))
    bad: list[BadImage] = []
    short = 0

    def load(position: int) -> Blob | str:
        try:
            return extractor.read(todo[position][1])
        except DataError as error:
            return str(error)

    progress = Progress(len(images), "images", "extract", len(images) - len(todo))
    with StopSignal() as stop:
        for (image_id, path), blob in zip(todo, ahead(load, range(len(todo)), workers), strict=True):
            try:
                if isinstance(blob, str):
                    raise DataError(blob)
                regions = extractor.regions(blob)
            except DataError as error:
                bad.append(BadImage(image_id, str(path), str(error)))
            else:
                short += len(regions) < extractor.profile.selection.min_boxes
                writer.put(image_id, regions)
            progress.advance()
            if stop.requested:
                writer.commit()
                raise Interrupted(f"{len(writer)} of {len(images)} images kept")
    progress.close()
    if short:
        log.info("extract: %d images have fewer than %d boxes", short, extractor.profile.selection.min_boxes)
    return bad


def open_writer(path: str | Path, schema: StoreSchema, state: Path) -> RegionWriter:
    """A writer whose unfinished work lives in the state folder."""
    return RegionWriter(path, schema, partial=state / "part.lmdb", commit_records=_COMMIT_IMAGES)


def settle_bad_images(bad: Sequence[BadImage], rule: str, total: int) -> list[dict[str, str]]:
    """The list for a store's provenance.

    Raises:
        DataError: some images are bad, and the rule is to stop.
    """
    for item in bad:
        log.warning("image %s: %s", item.id, item.reason)
    if bad and rule == "stop":
        first = bad[0]
        raise DataError(
            f"{first.file}: {_without_path(first)}. It is the first of {len(bad)} bad images of {total}; all"
            f" others are done. Replace them and run again, or set bad_images: quarantine in the profile."
        )
    return [{"id": item.id, "file": item.file, "reason": _without_path(item)} for item in bad]


def _without_path(item: BadImage) -> str:
    return item.reason.removeprefix(f"{item.file}: ").rstrip(".")
