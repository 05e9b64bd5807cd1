"""The shapes that cross folders: one image's regions, a batch for an encoder, what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Regions:
    """What the detector says of one image, row by row in the order of the extraction profile.

    Attributes:
        boxes_px: float32 [R, 4], corners x1, y1, x2, y2 in pixels of the original image.
        features: float16 or float32 [R, F].
        object_ids: int64 [R], line of the object vocabulary, counted from 0.
        object_scores: float32 [R], probability of that object.
        attribute_ids: int64 [R], line of the attribute vocabulary, counted from 0.
        attribute_scores: float32 [R], probability of that attribute.
        selection_scores: float32 [R], the score that ranked the boxes; NaN where a format has none.
        width: image width in pixels.
        height: image height in pixels.
        class_scores: float16 [R, K + 1], probabilities of background and of each object; None unless the
            profile keeps them.
    """

    boxes_px: np.ndarray
    features: np.ndarray
    object_ids: np.ndarray
    object_scores: np.ndarray
    attribute_ids: np.ndarray
    attribute_scores: np.ndarray
    selection_scores: np.ndarray
    width: int
    height: int
    class_scores: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes_px)

    def take(self, rows: np.ndarray) -> Regions:
        """Some of the regions, in the order of `rows`."""
        arrays = {name: value[rows] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, **arrays)


@dataclass
class BatchArrays:
    """A :class:`Batch` as NumPy arrays, which can be made before PyTorch is imported."""

    input_ids: np.ndarray
    attention_mask: np.ndarray
    features: np.ndarray
    boxes_norm: np.ndarray
    region_mask: np.ndarray | None = None
    targets: dict[str, np.ndarray] = field(default_factory=dict)

    def tensors(self) -> Batch:
        """The same memory as tensors; imports PyTorch."""
        import torch

        own = {
            item.name: torch.from_numpy(getattr(self, item.name))
            for item in fields(self)
            if item.name != "targets" and getattr(self, item.name) is not None
        }
        return Batch(**own, targets={name: torch.from_numpy(value) for name, value in self.targets.items()})


@dataclass
class Batch:
    """B examples as an encoder reads them.

    Attributes:
        input_ids: int64 [B, L], word pieces with [CLS] and [SEP], padded with 0.
        attention_mask: int64 [B, L], 1 where attended.
        features: [B, R, F], float16 or float32 as stored; encoders convert on their device.
        boxes_norm: float32 [B, R, 4], corners as shares of image width and height.
        region_mask: int64 [B, R], 1 where a region is real; None when all are.
        targets: what objectives and losses compare with, by name.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    features: torch.Tensor
    boxes_norm: torch.Tensor
    region_mask: torch.Tensor | None = None
    targets: dict[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.input_ids)

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The same batch on another device."""
        moved = {
            item.name: getattr(self, item.name).to(device, non_blocking=non_blocking)
            for item in fields(self)
            if item.name != "targets" and getattr(self, item.name) is not None
        }
        targets = {name: value.to(device, non_blocking=non_blocking) for name, value in self.targets.items()}
        return replace(self, targets=targets, **moved)


@dataclass
class Encoded:
    """What an encoder makes of a batch; a stream that was not asked for is None.

    Attributes:
        language: float [B, L, H].
        vision: float [B, R, H].
        pooled: float [B, H].
    """

    language: torch.Tensor | None
    vision: torch.Tensor | None
    pooled: torch.Tensor
