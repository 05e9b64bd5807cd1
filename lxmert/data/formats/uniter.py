"""One image as UNITER's files hold it: names of images, and regions as four arrays.

`norm_bb` [R, 6] (corners, width and height as shares of the image), `features` [R, F], `conf` [R, 1] (the
selection score) and, where the store has class scores, `soft_labels` [R, K + 1], background first; all
float16, best region first. Readers rely on that order. Width and height of the image are not among them, nor
are attributes.

Source: Chen et al. 2020; ChenRocks/UNITER and ChenRocks/BUTD-UNITER-NLVR2, whose names these are.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lxmert.data.region_record import UNKNOWN_ID
from lxmert.errors import DataError
from lxmert.types import Regions

_COCO = re.compile(r"COCO_(train2014|val2014|test2015)_(\d{12})")
_PAIRED = re.compile(r"(?:train|dev|test1|test2|hidden)-.+-img[01]")
_GQA = re.compile(r"n\d+")
_NUMBER = re.compile(r"\d{1,12}")
_FROM = (
    (re.compile(r"coco_(train2014|val2014|test2015)_(\d{12})"), r"COCO_\1_\2"),
    (re.compile(r"nlvr2_(.+-img[01])"), r"\1"),
    (re.compile(r"gqa_(n\d+)"), r"\1"),
    (re.compile(r"(?:vg|gqa|flickr30k|gcc_train|gcc_val)_0*(\d+)"), r"\1"),
)


def file_name(image_id: str, prefix: str | None) -> str:
    """UNITER's name for an image, such as `coco_val2014_000000000042.npz`; also its key.

    Args:
        image_id: ours.
        prefix: of images whose ids are plain numbers; None takes vg.

    Raises:
        DataError: the id holds a slash, so that no file can have its name.
    """
    if "/" in image_id or image_id in (".", ".."):
        raise DataError(f"image {image_id}: its id cannot be a file name; rename the image.")
    if match := _COCO.fullmatch(image_id):
        return f"coco_{match[1]}_{match[2]}.npz"
    if _PAIRED.fullmatch(image_id):
        return f"nlvr2_{image_id}.npz"
    if _GQA.fullmatch(image_id):
        return f"gqa_{image_id}.npz"
    if _NUMBER.fullmatch(image_id):
        return f"{prefix or 'vg'}_{int(image_id):012d}.npz"
    return f"{prefix}_{image_id}.npz" if prefix else f"{image_id}.npz"


def image_id_of(name: str, prefix: str | None) -> str:
    """The id of an image that UNITER names so: what `file_name` turned into it."""
    stem = name.removesuffix(".npz")
    for pattern, ours in _FROM:
        if match := pattern.fullmatch(stem):
            return match.expand(ours)
    if prefix and stem.startswith(f"{prefix}_"):
        rest = stem[len(prefix) + 1 :]
        return str(int(rest)) if re.fullmatch(r"\d{12}", rest) else rest
    return stem


def to_arrays(image_id: str, regions: Regions) -> dict[str, NDArray[np.float16]]:
    """Regions, best first, as UNITER's arrays.

    Raises:
        DataError: they have no selection scores, or a number exceeds float16's range.
    """
    if np.isnan(regions.selection_scores).any():
        raise DataError(
            f"image {image_id}: has no selection scores, which UNITER's files need; imported TSV files have"
            " none: extract the image."
        )
    size = np.array([regions.width, regions.height], np.float64)
    first, second = regions.boxes_px[:, :2] / size, regions.boxes_px[:, 2:] / size
    arrays = {
        "norm_bb": np.concatenate([first, second, second - first], axis=1).astype(np.float16),
        "features": _halved(image_id, regions.features),
        "conf": regions.selection_scores[:, None].astype(np.float16),
    }
    if regions.class_scores is not None:
        arrays["soft_labels"] = np.asarray(regions.class_scores, np.float16)
    return arrays


def _halved(image_id: str, features: NDArray[Any]) -> NDArray[np.float16]:
    if features.dtype == np.float16:
        return features
    with np.errstate(over="ignore"):
        halves = features.astype(np.float16)
    if not np.isfinite(halves).all():
        raise DataError(f"image {image_id}: a feature exceeds float16's range, which UNITER's files have.")
    return halves


def from_arrays(arrays: dict[str, NDArray[Any]], width: int, height: int) -> Regions:
    """Regions from UNITER's arrays; object ids come from the soft labels, and there are no attributes.

    Corners are half-precision shares: they come back to about a thousandth of the image's side.

    Raises:
        ValueError: an array is missing or has a wrong shape.
    """
    for name, columns in (("norm_bb", 6), ("features", None), ("conf", 1)):
        if name not in arrays:
            raise ValueError(f"{name} is missing")
        shape = arrays[name].shape
        if len(shape) != 2 or (columns is not None and shape[1] != columns) or not shape[0]:
            raise ValueError(f"{name} is of shape {shape}")
        if arrays[name].dtype.kind != "f":
            raise ValueError(f"{name} holds no real numbers but {arrays[name].dtype}")
    boxes = len(arrays["norm_bb"])
    unknown, nothing = np.full(boxes, UNKNOWN_ID), np.full(boxes, np.nan, np.float32)
    objects, object_scores, classes = unknown, nothing, arrays.get("soft_labels")
    for name in ("features", "conf", "soft_labels"):
        if name in arrays and len(arrays[name]) != boxes:
            raise ValueError(f"{name} has {len(arrays[name])} rows, norm_bb {boxes}")
    if classes is not None:
        if classes.ndim != 2 or classes.shape[1] < 2 or classes.dtype.kind != "f":
            raise ValueError(f"soft_labels is of shape {classes.shape}")
        objects = classes[:, 1:].argmax(1).astype(np.int64)
        object_scores = classes[:, 1:].max(1).astype(np.float32)
        classes = classes.astype(np.float16)
    size = np.array([width, height] * 2, np.float32)
    # Rounding to half precision may carry a corner past the edge; it lies on it.
    corners = np.minimum(arrays["norm_bb"][:, :4].astype(np.float32) * size, size)
    features = arrays["features"]
    return Regions(
        boxes_px=corners,
        features=np.ascontiguousarray(features, "<f2" if features.dtype.itemsize == 2 else "<f4"),
        object_ids=objects,
        object_scores=object_scores,
        attribute_ids=unknown,
        attribute_scores=nothing,
        selection_scores=arrays["conf"][:, 0].astype(np.float32),
        width=width,
        height=height,
        class_scores=classes,
    )
