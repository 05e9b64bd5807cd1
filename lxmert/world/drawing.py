"""From a scene to pixels, with Pillow."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from lxmert.world.scenes import Scene, SceneObject

FILLS = {
    "red": (214, 40, 40),
    "orange": (246, 134, 24),
    "yellow": (250, 218, 50),
    "green": (44, 150, 66),
    "blue": (44, 96, 214),
    "purple": (128, 54, 168),
    "pink": (246, 140, 190),
    "black": (38, 38, 42),
}
# Pale, so that every object colour stands out.
SURFACES = {
    "sky": (206, 224, 238),
    "wall": (232, 222, 206),
    "grass": (186, 208, 160),
    "sand": (232, 216, 176),
    "snow": (240, 243, 247),
    "water": (160, 200, 214),
    "wood": (206, 176, 142),
    "carpet": (206, 186, 196),
    "tiles": (214, 216, 214),
}
SUPERSAMPLING = 3


def _star() -> list[tuple[float, float]]:
    points = []
    for step in range(10):
        radius = 1.0 if step % 2 == 0 else 0.45
        angle = math.pi * (step / 5 - 0.5)
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    xs, ys = [x for x, _ in points], [y for _, y in points]
    wide, high = max(xs) - min(xs), max(ys) - min(ys)
    return [((x - min(xs)) / wide, (y - min(ys)) / high) for x, y in points]


def _heart() -> list[tuple[float, float]]:
    points = []
    for step in range(60):
        t = 2 * math.pi * step / 60
        x = 16 * math.sin(t) ** 3
        y = -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))
        points.append((x / 32 + 0.5, (y + 12) / 29))
    return points


# Drawings in the unit square: ("fill" | "cut", "polygon" | "ellipse", coordinates).
SHAPES: dict[str, list[tuple[str, str, list[tuple[float, float]]]]] = {
    "ball": [("fill", "ellipse", [(0, 0), (1, 1)])],
    "box": [("fill", "polygon", [(0, 0.04), (1, 0.04), (1, 0.96), (0, 0.96)])],
    "star": [("fill", "polygon", _star())],
    "heart": [("fill", "polygon", _heart())],
    "ring": [("fill", "ellipse", [(0, 0), (1, 1)]), ("cut", "ellipse", [(0.3, 0.3), (0.7, 0.7)])],
    "cross": [
        ("fill", "polygon", [(0.33, 0), (0.67, 0), (0.67, 1), (0.33, 1)]),
        ("fill", "polygon", [(0, 0.33), (1, 0.33), (1, 0.67), (0, 0.67)]),
    ],
    "moon": [("fill", "ellipse", [(0, 0), (1.3, 1)]), ("cut", "ellipse", [(0.48, 0.06), (1.6, 0.94)])],
    "kite": [("fill", "polygon", [(0.5, 0), (1, 0.36), (0.5, 1), (0, 0.36)])],
    "tree": [
        ("fill", "polygon", [(0.5, 0), (0.86, 0.4), (0.14, 0.4)]),
        ("fill", "polygon", [(0.5, 0.2), (1, 0.78), (0, 0.78)]),
        ("fill", "polygon", [(0.4, 0.76), (0.6, 0.76), (0.6, 1), (0.4, 1)]),
    ],
    "house": [
        ("fill", "polygon", [(0.5, 0), (1, 0.45), (0, 0.45)]),
        ("fill", "polygon", [(0.1, 0.44), (0.9, 0.44), (0.9, 1), (0.1, 1)]),
        ("cut", "polygon", [(0.42, 0.66), (0.6, 0.66), (0.6, 1), (0.42, 1)]),
    ],
    "cup": [
        ("fill", "ellipse", [(0.5, 0.16), (1, 0.72)]),
        ("cut", "ellipse", [(0.62, 0.3), (0.88, 0.58)]),
        ("fill", "polygon", [(0, 0), (0.74, 0), (0.64, 1), (0.1, 1)]),
    ],
    "fish": [
        ("fill", "ellipse", [(0, 0.08), (0.76, 0.92)]),
        ("fill", "polygon", [(0.6, 0.5), (1, 0), (0.9, 0.5), (1, 1)]),
        ("cut", "ellipse", [(0.14, 0.34), (0.23, 0.47)]),
    ],
}


def _to_picture(tones: np.ndarray) -> Image.Image:
    """An RGB picture of int16 [height, width, 3] tones, cut to 0…255."""
    return Image.fromarray(np.clip(tones, 0, 255, out=tones).astype(np.uint8))


def _mask(kind: str, width: int, height: int) -> Image.Image:
    """Coverage of the drawing, greyscale 0…255, exactly width × height pixels."""
    scale = SUPERSAMPLING
    canvas = Image.new("L", (width * scale, height * scale), 0)
    pen = ImageDraw.Draw(canvas)
    for mode, form, points in SHAPES[kind]:
        tone = 255 if mode == "fill" else 0
        scaled = [(round(x * (width * scale - 1)), round(y * (height * scale - 1))) for x, y in points]
        if form == "ellipse":
            pen.ellipse([*scaled[0], *scaled[1]], fill=tone)
        else:
            pen.polygon(scaled, fill=tone)
    return canvas.reduce(scale)


def _paint(thing: SceneObject, width: int, height: int) -> Image.Image:
    """The object's colours, width × height: fill, texture and a little light from above."""
    fill = np.array(FILLS[thing.color], dtype=np.int16)
    dark = int(fill.sum()) < 200
    bright = thing.color in ("yellow", "pink")
    other = fill + 118 if dark else (fill * 52 // 100 if bright else fill + (255 - fill) * 62 // 100)
    rows, columns = np.ogrid[0:height, 0:width]
    if thing.texture == "striped":
        period = 10 if thing.size == "large" else 8
        pattern = ((rows + columns) % period) < period // 2
    elif thing.texture == "dotted":
        period = 11 if thing.size == "large" else 8
        y = rows % period - period // 2
        x = (columns + (rows // period % 2) * (period // 2)) % period - period // 2
        pattern = x * x + y * y <= (period * period) // 9
    else:
        pattern = np.zeros((height, width), dtype=bool)
    tones = np.where(pattern[..., None], other.astype(np.int16), fill)
    light = (12 - 24 * rows // max(1, height - 1)).astype(np.int16)
    return _to_picture(tones + light[..., None])


def _stamp(picture: Image.Image, thing: SceneObject) -> None:
    """Draw one object into the picture, with a thin dark outline inside its box."""
    left, top = round(thing.box[0]), round(thing.box[1])
    width, height = round(thing.box[2]) - left, round(thing.box[3]) - top
    mask = _mask(thing.kind, width, height)
    inner = Image.new("L", (width + 2, height + 2), 0)
    inner.paste(mask, (1, 1))
    inner = inner.filter(ImageFilter.MinFilter(3)).crop((1, 1, width + 1, height + 1))
    edge = tuple(value * 45 // 100 for value in FILLS[thing.color])
    body = Image.new("RGB", (width, height), edge)
    body.paste(_paint(thing, width, height), (0, 0), inner)
    picture.paste(body, (left, top), mask)


def _surface(name: str, width: int, height: int, noise: np.ndarray) -> np.ndarray:
    """int16 [height, width, 3]: one background surface with its pattern; noise is int [height, width], ±8."""
    rows, columns = np.ogrid[0:height, 0:width]
    base = np.array(SURFACES[name], dtype=np.int16)
    if name == "sky":
        shade = 14 * rows // max(1, height) - 4 + noise // 4
    elif name == "wall":
        shade = np.where(columns % 26 < 2, -10, 0) + noise // 4
    elif name == "grass":
        shade = noise * 2 + np.where((columns + rows // 3) % 7 < 2, -12, 0)
    elif name == "sand":
        shade = noise + noise * (noise > 5)
    elif name == "snow":
        shade = noise // 3 + 6 * rows // max(1, height) - 3
    elif name == "water":
        shade = np.where((rows + (columns // 6) % 2) % 9 < 2, 20, 0) + noise // 3
    elif name == "wood":
        shade = np.where(rows % 15 < 1, -40, 0) + ((rows // 15) * 7 % 3 - 1) * 7 + noise // 2
    elif name == "carpet":
        shade = np.where((rows // 4 + columns // 4) % 2 == 0, 9, -9) + noise // 2
    else:
        shade = np.where((rows % 22 < 2) | (columns % 22 < 2), -44, 0) + noise // 4
    return base + np.broadcast_to(shade, (height, width)).astype(np.int16)[..., None]


def draw(scene: Scene) -> Image.Image:
    """The scene as an RGB picture of its own size, the same for the same scene everywhere."""
    width, height = scene.width, scene.height
    # The raw output of this bit generator is fixed by NumPy's compatibility policy.
    raw = np.random.PCG64(scene.noise).random_raw((width * height + 7) // 8)
    noise = raw.view(np.uint8)[: width * height].reshape(height, width).astype(np.int16) % 17 - 8
    above = _surface(scene.backdrop, width, scene.horizon, noise[: scene.horizon])
    below = _surface(scene.ground, width, height - scene.horizon, noise[scene.horizon :])
    picture = _to_picture(np.concatenate([above, below]))
    for thing in scene.objects:
        _stamp(picture, thing)
    grain = (noise[::-1, ::-1] // 2)[..., None]
    return _to_picture(np.asarray(picture, dtype=np.int16) + grain)
