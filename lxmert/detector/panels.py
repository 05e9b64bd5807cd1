"""Pictures of detections, for people."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lxmert.detector.preprocess import decode_image

_INK = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#800000")
_LEAST_SCORE = 0.4
_LEAST_ATTRIBUTE_SCORE = 0.2
_LEAST_SIDE_PX = 480


def draw_panel(example: dict[str, Any], objects: tuple[str, ...], attributes: tuple[str, ...]) -> Image.Image:
    """An image with its confident detections: "red striped ball 0.93" on each box.

    Args:
        example: as `lxmert.detector.evaluate.evaluate` gives them.
        objects: class names.
        attributes: attribute names.
    """
    image = Image.fromarray(decode_image(example["file"], order="rgb"))
    factor = max(1, round(_LEAST_SIDE_PX / min(image.size)))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    canvas, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    found = example["found"]
    taken: list[tuple[float, float, float, float]] = []
    for i in np.flatnonzero(found.scores >= _LEAST_SCORE):
        box = found.boxes[i] * factor
        ink = _INK[int(found.classes[i]) % len(_INK)]
        canvas.rectangle([float(v) for v in box], outline=ink, width=2)
        label = f"{objects[found.classes[i]]} {found.scores[i]:.2f}"
        looks = example["attributes"][i]
        for attribute in np.flatnonzero(looks > _LEAST_ATTRIBUTE_SCORE)[::-1]:
            label = f"{attributes[attribute]} {label}"
        _label(canvas, font, label, box, ink, image.size, taken)
    return image


def _label(
    canvas: ImageDraw.ImageDraw,
    font: Any,
    text: str,
    box: np.ndarray,
    ink: str,
    size: tuple[int, int],
    taken: list,
) -> None:  # type: ignore[type-arg]
    """Writes a label in its box's upper left corner, lower if another label is there."""
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    width, height = right + 6, bottom + 4
    x = min(max(float(box[0]), 0), max(size[0] - width, 0))
    y = min(max(float(box[1]), 0), size[1] - height)
    while (
        any(x < b[2] and b[0] < x + width and y < b[3] and b[1] < y + height for b in taken)
        and y + 2 * height < size[1]
    ):
        y += height
    taken.append((x, y, x + width, y + height))
    canvas.rectangle((x, y, x + width, y + height), fill=ink)
    canvas.text((x + 3, y + 1), text, fill="white", font=font)
