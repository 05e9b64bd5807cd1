"""From a file, bytes, a PIL image or an array to network input, as the Caffe reference did it."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from lxmert.detector.documents import ImageRule
from lxmert.errors import DataError
from lxmert.pillow import DECODE_ERRORS

ImageSource = Any  # Path | str | bytes | PIL.Image.Image | np.ndarray

_ORIENTATION, _SWAPPING = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap width and height


def decode_image(
    source: ImageSource, exif: str = "apply", order: str = "bgr", array_order: str | None = None
) -> np.ndarray:
    """An image as 8-bit colour, the same bits whichever way it is handed over.

    Greyscale becomes three equal channels, alpha is dropped without blending, 16 bits keep their
    upper 8, palettes and CMYK are converted, animations give their first frame: what
    `cv2.imread` does, plus the formats it cannot read.

    Args:
        source: a path, the file's bytes, a PIL image, or an array ([h, w], [h, w, 1|3|4]; uint8
            or uint16).
        exif: "apply" turns the image by its EXIF orientation, "ignore" does not.
        order: channel order wanted, "bgr" or "rgb".
        array_order: channel order of an array with colours; must be said.

    Returns:
        uint8 [h, w, 3].

    Raises:
        DataError: the file is missing, empty, truncated or not an image.
    """
    if isinstance(source, np.ndarray):
        rgb = _array_to_rgb(source, array_order)
    else:
        where = str(source) if isinstance(source, (str, Path)) else "image"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # large pictures and odd metadata are fine
                rgb = _open_as_rgb(source, exif)
        except FileNotFoundError as error:
            raise DataError(f"{where}: no such image file; fetch it again.") from error
        except DECODE_ERRORS as error:
            raise DataError(
                f"{where}: cannot be read as an image ({_reason(error)}); fetch it again."
            ) from error
    if rgb.shape[0] == 0 or rgb.shape[1] == 0:
        raise DataError("image: has no pixels; remove it from the image set.")
    return np.ascontiguousarray(rgb[:, :, ::-1]) if order == "bgr" else np.ascontiguousarray(rgb)


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if "cannot identify" in text:
        return "not an image"
    return text or type(error).__name__


def _open_as_rgb(source: ImageSource, exif: str) -> np.ndarray:
    if isinstance(source, Image.Image):
        return _pil_to_rgb(source, exif)
    if isinstance(source, (bytes, bytearray, memoryview)):
        handle: Any = io.BytesIO(source)
    else:
        handle = Path(source)
    with Image.open(handle) as image:
        return _pil_to_rgb(image, exif)


def _pil_to_rgb(image: Image.Image, exif: str) -> np.ndarray:
    if getattr(image, "n_frames", 1) > 1 and image.tell() != 0:
        image.seek(0)
    image.load()
    if exif == "apply":
        image = _turned(image)
    if image.mode.startswith("I"):  # 16 bits a pixel, whatever Pillow calls it
        values = np.asarray(image).astype(np.int64)
        return _array_to_rgb(np.clip(values, 0, 65535).astype(np.uint16), None)
    if image.mode == "F":
        return _array_to_rgb(np.clip(np.rint(np.asarray(image)), 0, 255).astype(np.uint8), None)
    if image.mode == "LA":
        image = image.getchannel("L")
    elif image.mode == "RGBA":
        return np.asarray(image)[:, :, :3]
    return np.asarray(image.convert("RGB"))


def _turned(image: Image.Image) -> Image.Image:
    """The image as its EXIF tag says it is seen; a tag that cannot be read turns nothing, as in OpenCV."""
    try:
        return ImageOps.exif_transpose(image)
    except DECODE_ERRORS:
        return image


def image_size(source: ImageSource, exif: str = "apply") -> tuple[int, int] | None:
    """Width and height of an image as it is seen, from its first bytes; None where they cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(source) as image:
                width, height = image.size
                try:
                    turned = exif == "apply" and image.getexif().get(_ORIENTATION) in _SWAPPING
                except DECODE_ERRORS:
                    turned = False
    except DECODE_ERRORS:
        return None
    return (height, width) if turned else (width, height)


def _array_to_rgb(array: np.ndarray, order: str | None) -> np.ndarray:
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    if array.dtype != np.uint8:
        raise DataError(f"image array: must be uint8 or uint16, is {array.dtype}; convert it first.")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise DataError(f"image array: must be [h, w] or [h, w, 1|3|4], is {list(array.shape)}.")
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    if order not in ("rgb", "bgr"):
        raise DataError('image array: say array_order="rgb" or "bgr"; the network cannot tell.')
    return array[:, :, :3] if order == "rgb" else array[:, :, 2::-1]


@dataclass(frozen=True)
class Blob:
    """Network input of one image.

    Attributes:
        pixels: float32 [3, h, w], BGR, mean taken off.
        scale: blob pixels per original pixel (float64).
        width: of the original image.
        height: of the original image.
    """

    pixels: np.ndarray
    scale: float
    width: int
    height: int


def image_scale(height: int, width: int, short_side_px: int, long_side_px: int) -> float:
    """The factor that makes the short side `short_side_px`, unless the long side grew past its limit."""
    scale = short_side_px / min(height, width)
    if round(scale * max(height, width)) > long_side_px:
        scale = long_side_px / max(height, width)
    return scale


def scaled_sides(height: int, width: int, scale: float, sides: str = "half_to_even") -> tuple[int, int]:
    """Blob height and width, at least one pixel: half to even (Python's `round`), or half up."""
    if sides == "half_up":
        return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def make_blob(
    image_bgr: np.ndarray,
    short_side_px: int,
    long_side_px: int,
    mean_bgr: tuple[float, ...],
    rule: ImageRule | None = None,
) -> Blob:
    """Network input of a uint8 BGR image [h, w, 3], by Caffe's rule or the profile's.

    Caffe takes the mean off first, then resizes floats by the factor; the reverse order, or a resize to a
    size in whole pixels, gives other pixels.

    Source: Caffe reference `_get_image_blob`; tests/golden/detector/test_detector_geometry.py.
    """
    height, width = image_bgr.shape[:2]
    scale = image_scale(height, width, short_side_px, long_side_px)
    sides = rule.sides if rule else "half_to_even"
    if rule and rule.resize == "pillow_before_mean":
        image_bgr = _resized_by_pillow(image_bgr, scale, sides)
    # float32(float64(level) - mean), as subtracting a float64 mean from a float32 image in place gives.
    levels = (np.arange(256, dtype=np.float64)[:, None] - np.asarray(mean_bgr, np.float64)).astype(np.float32)
    pixels = np.stack([levels[:, c][image_bgr[:, :, c]] for c in range(3)])  # [3, h, w]
    if not rule or rule.resize == "factor_after_mean":
        pixels = resize_by_factor(pixels, scale, sides)
    return Blob(pixels, scale, width, height)


def _resized_by_pillow(image_bgr: np.ndarray, scale: float, sides: str) -> np.ndarray:
    """8-bit pixels resized to whole sides, antialiased where it shrinks, as detectron2 does."""
    out_height, out_width = scaled_sides(*image_bgr.shape[:2], scale, sides)
    image = Image.fromarray(np.ascontiguousarray(image_bgr))
    return np.asarray(image.resize((out_width, out_height), Image.Resampling.BILINEAR))


def resize_by_factor(channels: np.ndarray, scale: float, sides: str = "half_to_even") -> np.ndarray:
    """Bilinear resize of float32 [C, h, w] by an explicit factor, as `cv2.resize(fx=, fy=)` does.

    Source pixel of destination d is (d + 0.5) / scale - 0.5 with the factor itself, not with the
    ratio of integer sizes; edges clamp; no antialiasing even when shrinking.
    """
    _, height, width = channels.shape
    out_height, out_width = scaled_sides(height, width, scale, sides)
    left, right, weight_x = _taps(out_width, width, scale)
    upper, lower, weight_y = _taps(out_height, height, scale)
    rows = np.unique(np.concatenate([upper, lower]))  # shrinking reads only some rows
    part = channels[:, rows]
    wide = part[:, :, left] * (1 - weight_x) + part[:, :, right] * weight_x  # [C, rows, out_width]
    top, bottom = np.searchsorted(rows, upper), np.searchsorted(rows, lower)
    weight = weight_y[:, None]
    return np.ascontiguousarray(wide[:, top] * (1 - weight) + wide[:, bottom] * weight)


def _taps(out: int, size: int, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # In double precision: rounded to float32 before the whole part goes, weights at column 1000 lose digits.
    source = (np.arange(out) + 0.5) * (1.0 / scale) - 0.5
    first = np.floor(source).astype(np.int64)
    weight = source - first
    weight[(first < 0) | (first >= size - 1)] = 0.0
    first = np.clip(first, 0, size - 1)
    return first, np.minimum(first + 1, size - 1), weight.astype(np.float32)
