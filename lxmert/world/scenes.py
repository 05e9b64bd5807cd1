"""Scenes: what stands where in a picture, before it is drawn and described."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lxmert.world.rng import Stream

# Few enough that a small encoder meets each pair of kind and colour often within minutes of training.
KINDS = ("ball", "box", "star", "heart", "ring", "tree", "cup", "fish")
COLORS = ("red", "yellow", "green", "blue", "purple", "black")
TEXTURES = ("plain", "striped", "dotted")
SIZES = ("small", "large")
PLACES = ("indoors", "outdoors")
GROUNDS = {"outdoors": ("grass", "sand", "snow", "water"), "indoors": ("wood", "carpet", "tiles")}
ALL_GROUNDS = tuple(ground for grounds in GROUNDS.values() for ground in grounds)
BACKDROPS = {"outdoors": "sky", "indoors": "wall"}

# Width over height of each drawing; the drawing fills its box.
ASPECTS = {"moon": 0.78, "kite": 0.76, "tree": 0.82, "fish": 1.4, "box": 1.12, "cup": 1.1}
# Height as a share of the picture's shorter side.
HEIGHTS = {"small": (0.19, 0.23), "large": (0.34, 0.41)}
MOST_HIDDEN = 0.36
OBJECT_COUNTS = {2: 0.22, 3: 0.34, 4: 0.28, 5: 0.16}

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class SceneObject:
    """One thing: its class, looks, box (x1, y1, x2, y2 in pixels, may leave the picture) and depth.

    A larger depth is drawn later, in front.
    """

    kind: str
    color: str
    texture: str
    size: str
    box: Box
    depth: int

    @property
    def center(self) -> tuple[float, float]:
        """The middle of the box in pixels."""
        x1, y1, x2, y2 = self.box
        return (x1 + x2) / 2, (y1 + y2) / 2


@dataclass(frozen=True)
class Scene:
    """A picture's content: frame in pixels, ground below the horizon, objects from back to front."""

    width: int
    height: int
    place: str
    ground: str
    horizon: int
    noise: int
    objects: tuple[SceneObject, ...]

    @property
    def backdrop(self) -> str:
        """What fills the picture above the horizon: sky or wall."""
        return BACKDROPS[self.place]

    def scaled(self, factor: float) -> Scene:
        """The same scene in another resolution."""
        width, height = round(self.width * factor), round(self.height * factor)
        sx, sy = width / self.width, height / self.height
        objects = tuple(
            replace(thing, box=(thing.box[0] * sx, thing.box[1] * sy, thing.box[2] * sx, thing.box[3] * sy))
            for thing in self.objects
        )
        horizon = round(self.horizon * sy)
        return replace(self, width=width, height=height, horizon=horizon, objects=objects)


@dataclass(frozen=True)
class Favourites:
    """Kinds and colours that a series of scenes prefers, so that its pictures resemble each other."""

    kinds: tuple[str, ...]
    colors: tuple[str, ...]
    share: float


def hidden_share(index: int, boxes: Sequence[Box], width: int, height: int) -> float:
    """Share of box ``index`` that is outside the picture or behind a later box (10 × 10 points)."""
    x1, y1, x2, y2 = boxes[index]
    in_front = boxes[index + 1 :]
    hidden = 0
    for row in range(10):
        y = y1 + (y2 - y1) * (row + 0.5) / 10
        for column in range(10):
            x = x1 + (x2 - x1) * (column + 0.5) / 10
            outside = not (0 <= x < width and 0 <= y < height)
            hidden += outside or any(a <= x < c and b <= y < d for a, b, c, d in in_front)
    return hidden / 100


def overlap_share(a: Box, b: Box) -> float:
    """Shared area over the smaller of the two areas."""
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))


def _place(stream: Stream, kind: str, size: str, boxes: list[Box], width: int, height: int) -> Box | None:
    """A box for one more object in front of ``boxes``, or None when the picture is full."""
    high = min(width, height) * stream.between(*HEIGHTS[size])
    wide = high * ASPECTS.get(kind, 1.0)
    beyond = 0.22 if stream.chance(0.12) else 0.0
    most_overlap = 0.45 if stream.chance(0.3) else 0.04
    for attempt in range(60):
        if attempt == 40:
            most_overlap = 0.45
        x = stream.between(-beyond * wide, width - wide * (1 - beyond))
        y = stream.between(-beyond * high, height - high * (1 - beyond))
        box = (x, y, x + wide, y + high)
        if any(overlap_share(box, other) > most_overlap for other in boxes):
            continue
        trial = [*boxes, box]
        if all(hidden_share(i, trial, width, height) <= MOST_HIDDEN for i in range(len(trial))):
            return box
    return None


def _looks(stream: Stream, favourites: Favourites | None) -> tuple[str, str]:
    """Kind and colour of one object."""
    kind, color = stream.choice(KINDS), stream.choice(COLORS)
    if favourites is not None:
        if stream.chance(favourites.share):
            kind = stream.choice(favourites.kinds)
        if stream.chance(favourites.share):
            color = stream.choice(favourites.colors)
    return kind, color


def _wish_list(stream: Stream, favourites: Favourites | None) -> list[tuple[str, str, str, str]]:
    """(kind, colour, texture, size) of every object wanted; often one kind comes several times."""
    count = stream.weighted(OBJECT_COUNTS)
    repeats = min(count, stream.weighted({1: 0.5, 2: 0.2, 3: 0.18, 4: 0.12}))
    kind, color = _looks(stream, favourites)
    same_color = stream.chance(0.4)
    wishes = []
    for index in range(count):
        other_kind, other_color = _looks(stream, favourites)
        if index < repeats:
            other_kind = kind
            other_color = color if same_color else other_color
        wishes.append((other_kind, other_color, stream.choice(TEXTURES), stream.choice(SIZES)))
    return stream.shuffled(wishes)


def sample_scene(stream: Stream, favourites: Favourites | None = None) -> Scene:
    """A new scene of two to six objects, none hidden by more than MOST_HIDDEN."""
    long_side, short_side = 178 + stream.below(40), 150 + stream.below(28)
    width, height = (long_side, short_side) if stream.chance(0.62) else (short_side, long_side)
    place = stream.choice(PLACES)
    ground = stream.choice(GROUNDS[place])
    horizon = round(height * stream.between(0.3, 0.5))
    boxes: list[Box] = []
    objects: list[SceneObject] = []
    for kind, color, texture, size in _wish_list(stream, favourites):
        box = _place(stream, kind, size, boxes, width, height)
        if box is None:
            size = "small"
            box = _place(stream, kind, size, boxes, width, height)
        if box is not None:
            objects.append(SceneObject(kind, color, texture, size, box, depth=len(objects)))
            boxes.append(box)
    return Scene(width, height, place, ground, horizon, stream.below(2**32), tuple(objects))
