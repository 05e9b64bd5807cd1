"""Extraction of one shard of an image set to a part of a region store."""

from __future__ import annotations

import hashlib
import logging
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from lxmert import __version__
from lxmert.data.images import read_listing
from lxmert.data.region_record import StoreSchema
from lxmert.data.region_writer import RegionWriter, UnfitRegions
from lxmert.detector.backends import Network
from lxmert.detector.batches import ahead
from lxmert.detector.documents import Profile
from lxmert.detector.extract import Extractor
from lxmert.detector.given_boxes import GivenBoxes
from lxmert.detector.preprocess import Blob
from lxmert.errors import DataError, Interrupted
from lxmert.progress import Progress
from lxmert.state import StopSignal

log = logging.getLogger(__name__)

_COMMIT_IMAGES = 50  # a kill loses fewer than 100 images
_MANY = 20  # bad images, before it matters that they are most of a shard
_WINDOW = 4  # batches of decoded images among which blobs of one shape are looked for


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


@dataclass(frozen=True)
class Job:
    """What an extraction is asked for, beside images and weights.

    Attributes:
        profile: the checked profile.
        document: the profile as it was given, with what decides the result besides.
        precision: of the convolutions.
        channels_last: memory format of the convolutions.
        batch: images of one shape that go through the backbone together.
        backend: which library the network is built from.
        convolutions: of that network on a processor, see `for_inference`.
        boxes: given boxes, or None.
    """

    profile: Profile
    document: dict[str, Any]
    precision: str = "float32"
    channels_last: bool = False
    batch: int = 1
    backend: str = "torchvision"
    convolutions: str = "rearranged"
    boxes: GivenBoxes | None = None

    @property
    def exact(self) -> bool:
        """Whether regions depend on their image alone, to the bit."""
        return self.precision == "float32" and not self.channels_last and self.batch == 1


def provenance(job: Job, model: Network, weights_sha256: str, meta: dict[str, Any]) -> dict[str, Any]:
    """What a store says of how it was made; the same for every shard."""
    import PIL
    import torchvision

    known = ("source", "source_sha256", "objects_sha256", "attributes_sha256")
    return {
        "profile": job.document,
        "weights": {"sha256": weights_sha256, **{key: meta[key] for key in known if key in meta}},
        "size": asdict(model.size),
        "exif": job.profile.image.exif,
        "device": next(model.parameters()).device.type,
        "numerics": {
            "precision": job.precision, "channels_last": job.channels_last, "batch": job.batch,
            "backend": job.backend,
            "convolutions": "rearranged" if getattr(model, "rearranged", False) else "plain",
        },
        "given_boxes": job.boxes.describe() if job.boxes else None,
        "versions": {
            "lxmert": __version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "python": platform.python_version(),
        },
    }  # fmt: skip


def store_schema(model: Network, job: Job) -> StoreSchema:
    """The schema of stores this job writes."""
    size = model.size
    assert size.classes.objects and size.classes.attributes
    most = job.profile.selection.max_boxes
    document = job.document
    if job.boxes is not None:
        # Regions of given boxes are another extraction: they must not mix with detected ones.
        document = {**document, "given_boxes": job.boxes.meaning}
        most = job.boxes.most if job.boxes.meaning == "regions" else most
    return StoreSchema(
        feature_width=size.head.channels,
        feature_dtype=job.profile.store.dtype,
        max_boxes=most,
        object_classes=size.classes.objects,
        attribute_classes=size.classes.attributes,
        profile=document,
        class_scores=size.classes.objects + 1 if job.profile.store.class_scores else 0,
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


@dataclass
class Loaded:
    """An image on its way: its network input, or why there is none."""

    id: str
    path: Path
    blob: Blob | None
    reason: str = ""


@dataclass
class Tally:
    """What became of a shard's images.

    Attributes:
        bad: images without regions.
        short: images with fewer boxes than the profile's least.
        device_seconds: time the network took; the rest was waiting for decoded images.
    """

    bad: list[BadImage] = field(default_factory=list)
    short: int = 0
    device_seconds: float = 0.0


def extract_images(
    extractor: Extractor, images: Sequence[tuple[str, Path]], writer: RegionWriter, workers: int, job: Job
) -> Tally:
    """Adds the regions of every image that the writer lacks; nothing about an image stops it.

    Raises:
        Interrupted: a signal came; what was done is kept.
    """
    todo = [item for item in images if item[0] not in writer]
    if len(todo) < len(images):
        log.info("extract: %d of %d images are there already", len(images) - len(todo), len(images))
    tally = Tally()

    def load(position: int) -> Loaded:
        image_id, path = todo[position]
        try:
            return Loaded(image_id, path, extractor.read(path))
        except DataError as error:
            return Loaded(image_id, path, None, str(error))

    progress = Progress(len(images), "images", "extract", len(images) - len(todo))
    began = time.monotonic()
    with StopSignal() as stop:
        for group in same_shapes(ahead(load, range(len(todo)), workers), job.batch):
            _extract_group(extractor, group, writer, job, tally)
            share = tally.device_seconds / max(time.monotonic() - began, 1e-9)
            progress.advance(len(group), f"network busy {share:.0%}")
            if stop.requested:
                writer.commit()
                raise Interrupted(f"{len(writer)} of {len(images)} images kept")
    progress.close()
    if tally.short:
        least = extractor.profile.selection.min_boxes
        log.info("extract: %d images have fewer than %d boxes", tally.short, least)
    return tally


def _extract_group(
    extractor: Extractor, group: list[Loaded], writer: RegionWriter, job: Job, tally: Tally
) -> None:
    """Regions of images whose blobs have one shape."""
    began = time.monotonic()
    blobs = [item.blob for item in group if item.blob is not None]
    maps = extractor.feature_maps(blobs).split(1) if len(blobs) > 1 and job.boxes is None else None
    waiting = iter(maps) if maps is not None else None
    for item in group:
        try:
            if item.blob is None:
                raise DataError(item.reason)
            if job.boxes is not None:
                regions = extractor.given(
                    item.blob, job.boxes.of(item.id), job.boxes.meaning, job.boxes.where(item.id)  # type: ignore[arg-type]
                )  # fmt: skip
            else:
                regions = extractor.regions(item.blob, next(waiting) if waiting is not None else None)
        except DataError as error:
            tally.bad.append(BadImage(item.id, str(item.path), str(error)))
            continue
        tally.short += job.boxes is None and len(regions) < extractor.profile.selection.min_boxes
        try:
            writer.put(item.id, regions)
        except UnfitRegions as error:  # such as a feature that is not finite
            tally.bad.append(BadImage(item.id, str(item.path), str(error)))
    tally.device_seconds += time.monotonic() - began


def same_shapes(loaded: Iterator[Loaded], batch: int) -> Iterator[list[Loaded]]:
    """Groups of at most `batch` images whose blobs have one shape, the image waiting longest among them.

    Padding images to one shape would change their proposals and features; hence the search for equals.
    """
    if batch == 1:
        for item in loaded:
            yield [item]
        return
    waiting: list[Loaded] = []
    for item in loaded:
        waiting.append(item)
        if len(waiting) >= batch * _WINDOW:
            yield _take_group(waiting, batch)
    while waiting:
        yield _take_group(waiting, batch)


def _take_group(waiting: list[Loaded], batch: int) -> list[Loaded]:
    shape = _shape(waiting[0])
    group = [item for item in waiting if _shape(item) == shape][:batch]
    chosen = set(map(id, group))
    waiting[:] = [item for item in waiting if id(item) not in chosen]
    return group


def _shape(item: Loaded) -> tuple[int, ...] | None:
    return None if item.blob is None else item.blob.pixels.shape


def open_writer(path: str | Path, schema: StoreSchema, state: Path) -> RegionWriter:
    """A writer whose unfinished work lives in the state folder."""
    return RegionWriter(path, schema, partial=state / "part.lmdb", commit_records=_COMMIT_IMAGES)


def settle_bad_images(bad: Sequence[BadImage], rule: str, total: int) -> list[dict[str, str]]:
    """The list for a store's provenance.

    A file that is gone, or a folder of which most is bad, is no matter of images: something else happened to
    the folder since it was listed, and no rule passes over that.

    Raises:
        DataError: images are bad and the rule is to stop, or the folder is not what was listed.
    """
    for item in bad:
        log.warning("image %s: %s", item.id, item.reason)
    gone = [item for item in bad if not Path(item.file).exists()]
    if bad and rule == "stop":
        _refuse(bad, total, "Replace them and run again, or say --bad-images quarantine")
    if gone:
        _refuse(gone, total, "Put them there, or list the images again, and run again")
    if len(bad) > _MANY and 2 * len(bad) > total:
        _refuse(bad, total, "Look at the folder; mend it and run again")
    return [{"id": item.id, "file": item.file, "reason": _without_path(item)} for item in bad]


def _refuse(bad: Sequence[BadImage], total: int, remedy: str) -> NoReturn:
    first = bad[0]
    raise DataError(
        f"{first.file}: {_without_path(first)}. It is the first of {len(bad)} bad images of {total}; all"
        f" others are done. {remedy}."
    )


def _without_path(item: BadImage) -> str:
    return item.reason.removeprefix(f"{item.file}: ").rstrip(".")
