"""Boxes and labels on an image, at a size at which both can be read."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from lxmert.detector.preprocess import decode_image

# Told apart on most photographs; white text reads on all of them.
BOX_COLOURS = ("#d1344b", "#1f6fb5", "#1d8a5a", "#8347b5", "#b85c00", "#0b7c86")
_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
_BOLD = _FONT.with_name("DejaVuSans-Bold.ttf")
_LINE_PX = 4
_LABEL_PX = 19


@dataclass(frozen=True)
class Box:
    """A box to draw.

    Attributes:
        corners_px: x1, y1, x2, y2 in pixels of the original image.
        label: what is written on it.
    """

    corners_px: tuple[float, float, float, float]
    label: str


@functools.cache
def font(size_px: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The report's font; it comes with matplotlib, so pictures are alike on every machine."""
    return ImageFont.truetype(str(_BOLD if bold else _FONT), size_px)


def open_image(path: Path, exif: str = "ignore") -> Image.Image:
    """The pixels of an image file as RGB.

    Args:
        path: the file.
        exif: "apply" turns the image by its EXIF tag, as its boxes have it where the detector did.

    Raises:
        DataError: it is missing, cut short, or no image.
    """
    return Image.fromarray(decode_image(path, exif, "rgb"))


def draw_boxes(image: Image.Image, boxes: list[Box], side_px: int) -> Image.Image:
    """The image with a given longer side, with boxes and labels that do not hide each other.

    Args:
        image: RGB.
        boxes: the first is drawn on top.
        side_px: longer side of the result.
    """
    scale = side_px / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    smooth = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
    canvas = image.resize(size, smooth)
    draw = ImageDraw.Draw(canvas)
    corners = [_inside(box.corners_px, scale, size) for box in boxes]
    for place in reversed(range(len(boxes))):
        draw.rectangle(corners[place], outline=BOX_COLOURS[place % len(BOX_COLOURS)], width=_LINE_PX)
    taken: list[tuple[float, float, float, float]] = []
    for place, box in enumerate(boxes):
        _label(draw, box.label, corners[place], BOX_COLOURS[place % len(BOX_COLOURS)], size, taken)
    return canvas


def _inside(
    corners: tuple[float, float, float, float], scale: float, size: tuple[int, int]
) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (value * scale for value in corners)
    x1, y1 = min(max(x1, 0.0), size[0] - 2.0), min(max(y1, 0.0), size[1] - 2.0)
    return x1, y1, min(max(x2, x1 + 1), size[0] - 1.0), min(max(y2, y1 + 1), size[1] - 1.0)


def _label(
    draw: ImageDraw.ImageDraw,
    text: str,
    box: tuple[float, float, float, float],
    colour: str,
    size: tuple[int, int],
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Writes a label at the first place about its box where no other label is."""
    face = font(_LABEL_PX)
    width, height = draw.textlength(text, font=face) + 8, _LABEL_PX + 6
    x1, y1, x2, y2 = box
    wanted = [(x1, y1 - height), (x1, y1), (x2 - width, y2 - height), (x1, y2), (x2 - width, y1 - height),
              (x1, y2 - height), (x2 - width, y1)]  # fmt: skip
    places = [
        (min(max(x, 0.0), max(size[0] - width, 0.0)), min(max(y, 0.0), size[1] - height)) for x, y in wanted
    ]
    free = (place for place in places if not any(_overlap(place, width, height, other) for other in taken))
    x, y = next(free, places[0])
    taken.append((x, y, x + width, y + height))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + 4, y + height / 2), text, font=face, fill="white", anchor="lm")


def _overlap(
    place: tuple[float, float], width: float, height: float, other: tuple[float, float, float, float]
) -> bool:
    x, y = place
    return x < other[2] and other[0] < x + width and y < other[3] and other[1] < y + height
