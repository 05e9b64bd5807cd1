"""Training batches: a function of the seed and the step alone, however many workers load them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lxmert.detector.documents import DetectorSize
from lxmert.detector.preprocess import decode_image, make_blob
from lxmert.detector.vg_data import BoxRows

T = TypeVar("T")


@dataclass
class ImageBatch:
    """B images, padded with zeros on the right and below to the largest.

    Attributes:
        pixels: float32 [B, 3, h, w].
        sides: blob height and width of each image.
        scales: blob pixels per original pixel of each image.
        boxes: float32 [G, 4] of each image, in blob pixels.
        classes: int64 [G] of each image.
        attributes: int64 [G, 16] of each image.
    """

    pixels: Tensor
    sides: list[tuple[int, int]]
    scales: list[float]
    boxes: list[Tensor]
    classes: list[Tensor]
    attributes: list[Tensor]


class BatchMaker:
    """Makes the batch of any step.

    Every epoch takes each image once, and once more mirrored if `flip`; wide images go with wide
    ones so that little is padded.
    """

    def __init__(
        self, rows: BoxRows, size: DetectorSize, images_per_step: int, flip: bool, seed: int, cache_mb: float
    ) -> None:
        self.rows, self.size, self.flip, self.seed = rows, size, flip, seed
        self.images_per_step = images_per_step
        self._wide = np.tile(rows.wide, 2 if flip else 1)
        wide, other = int(self._wide.sum()), int((~self._wide).sum())
        rest = wide % images_per_step + other % images_per_step
        self.steps_per_epoch = (
            wide // images_per_step + other // images_per_step + -(-rest // images_per_step)
        )
        self._epoch: tuple[int, list[np.ndarray]] = (-1, [])
        self._cache: dict[int, np.ndarray] = {}
        self._cache_bytes = cache_mb * 2**20

    def items(self, step: int) -> np.ndarray:
        """Indices of the step's images; those from `len(rows)` on are mirrored."""
        epoch, position = divmod(step, self.steps_per_epoch)
        current = self._epoch  # read once: other threads may replace it
        if current[0] != epoch:
            current = self._epoch = (epoch, self._plan(epoch))
        return current[1][position]

    def _plan(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        order = rng.permutation(len(self._wide))
        batches, rest = [], []
        for group in (order[self._wide[order]], order[~self._wide[order]]):
            whole = len(group) // self.images_per_step * self.images_per_step
            batches += (
                np.split(group[:whole], range(self.images_per_step, whole, self.images_per_step))
                if whole
                else []
            )
            rest.append(group[whole:])
        left = np.concatenate(rest)
        batches += [left[i : i + self.images_per_step] for i in range(0, len(left), self.images_per_step)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def __call__(self, step: int) -> ImageBatch:
        """The batch of one step, counted from 0."""
        loaded = [self._load(int(item)) for item in self.items(step)]
        blobs = [blob for blob, *_ in loaded]
        height = max(blob.pixels.shape[1] for blob in blobs)
        width = max(blob.pixels.shape[2] for blob in blobs)
        pixels = np.zeros((len(blobs), 3, height, width), np.float32)
        for target, blob in zip(pixels, blobs, strict=True):
            target[:, : blob.pixels.shape[1], : blob.pixels.shape[2]] = blob.pixels
        return ImageBatch(
            torch.from_numpy(pixels),
            [blob.pixels.shape[1:] for blob in blobs],
            [blob.scale for blob in blobs],
            [torch.from_numpy(boxes) for _, boxes, _, _ in loaded],
            [torch.from_numpy(classes) for _, _, classes, _ in loaded],
            [torch.from_numpy(attributes) for _, _, _, attributes in loaded],
        )

    def _load(self, item: int):  # type: ignore[no-untyped-def]
        mirrored, index = divmod(item, len(self.rows))
        image = self._decoded(index)
        height, width = image.shape[:2]
        boxes, classes, attributes = self.rows.clipped(index, height, width)
        if mirrored:
            image, boxes = image[:, ::-1], mirror_boxes(boxes, width)
        shape = self.size.image
        blob = make_blob(image, shape.short_side_px, shape.long_side_px, shape.mean_bgr)
        return blob, (boxes * np.float32(blob.scale)).astype(np.float32), classes, attributes

    def _decoded(self, index: int) -> np.ndarray:
        image = self._cache.get(index)
        if image is None:
            image = decode_image(self.rows.files[index])
            if image.nbytes <= self._cache_bytes:
                self._cache_bytes -= image.nbytes
                self._cache[index] = image
        return image


def mirror_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    """Boxes [n, 4] of the image mirrored left to right, inclusive pixels."""
    mirrored = boxes.copy()
    mirrored[:, 0] = width - boxes[:, 2] - 1
    mirrored[:, 2] = width - boxes[:, 0] - 1
    return mirrored


def ahead(make: Callable[[int], T], numbers: range, workers: int) -> Iterator[T]:
    """`make(n)` for each n in order, computed by threads up to two items a worker ahead."""
    if workers == 0:
        yield from map(make, numbers)
        return
    waiting: list[Future[T]] = []
    todo = iter(numbers)
    with ThreadPoolExecutor(workers) as pool:
        try:
            for number in todo:
                waiting.append(pool.submit(make, number))
                if len(waiting) > 2 * workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
