"""What is true in a scene: selection by looks, counting, unique descriptions, clear relations."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lxmert.world.rng import Stream
from lxmert.world.scenes import Scene, SceneObject

RELATIONS = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}
OPPOSITES = {"left": "right", "right": "left", "above": "below", "below": "above"}
# Centres must lie this share of the picture apart before a relation is spoken of.
CLEAR_MARGIN = 0.17


@dataclass(frozen=True)
class Looks:
    """A description: every part that is given must hold."""

    kind: str | None = None
    color: str | None = None
    texture: str | None = None
    size: str | None = None

    def fit(self, thing: SceneObject) -> bool:
        """Whether the object answers to this description."""
        return (
            self.kind in (None, thing.kind)
            and self.color in (None, thing.color)
            and self.texture in (None, thing.texture)
            and self.size in (None, thing.size)
        )

    def parts(self) -> dict[str, str]:
        """The parts that are given, kind last, in the order an English speaker says them."""
        named = {"size": self.size, "texture": self.texture, "color": self.color, "kind": self.kind}
        return {name: value for name, value in named.items() if value is not None}


def select(scene: Scene, looks: Looks) -> list[SceneObject]:
    """All objects of the scene that fit."""
    return [thing for thing in scene.objects if looks.fit(thing)]


def count(scene: Scene, looks: Looks) -> int:
    """How many objects fit."""
    return len(select(scene, looks))


def shift(scene: Scene, a: SceneObject, b: SceneObject, axis: int) -> float:
    """How far a's centre lies beyond b's along x (0) or y (1), as a share of the picture."""
    return (a.center[axis] - b.center[axis]) / (scene.width, scene.height)[axis]


def holds(scene: Scene, a: SceneObject, relation: str, b: SceneObject) -> bool | None:
    """Whether a is clearly left of / right of / above / below b; None when nobody could say."""
    axis, sign = RELATIONS[relation]
    distance = shift(scene, a, b, axis) * sign
    if distance >= CLEAR_MARGIN:
        return True
    return False if distance <= -CLEAR_MARGIN else None


def side_of_picture(scene: Scene, thing: SceneObject, axis: int) -> str | None:
    """left/right (axis 0) or top/bottom (axis 1) when the object stands clearly on one side."""
    share = thing.center[axis] / (scene.width, scene.height)[axis]
    if 0.38 < share < 0.62:
        return None
    return (("left", "right"), ("top", "bottom"))[axis][share > 0.5]


def describe(scene: Scene, thing: SceneObject, stream: Stream, hide: tuple[str, ...] = ()) -> Looks | None:
    """A description that only this object fits, as short as possible, never using the parts in ``hide``.

    Without "kind" in ``hide`` it always names the kind ("the small ball"); one extra word is added
    now and then, as people do. None when no description of up to three parts is unique.
    """
    base = Looks() if "kind" in hide else Looks(kind=thing.kind)
    adjectives = [part for part in ("color", "texture", "size") if part not in hide]
    tries = [base] if base.kind and not stream.chance(0.12) else []
    singles = [replace(base, **{part: getattr(thing, part)}) for part in stream.shuffled(adjectives)]
    if "color" not in hide and "kind" in hide:
        singles.sort(key=lambda looks: looks.color is None)
    tries += singles
    if len(adjectives) > 1:
        a, b = stream.sample(adjectives, 2)
        tries.append(replace(base, **{a: getattr(thing, a), b: getattr(thing, b)}))
    for looks in tries:
        if count(scene, looks) == 1:
            return looks
    return None


def clear_pair(
    scene: Scene, stream: Stream, axis: int | None = None
) -> tuple[SceneObject, Looks, str, SceneObject, Looks] | None:
    """Two objects, each with a unique description, and a relation that clearly holds from first to second."""
    relations = [name for name, (at, _) in RELATIONS.items() if axis in (None, at)]
    for _ in range(6):
        if len(scene.objects) < 2:
            return None
        a, b = stream.sample(scene.objects, 2)
        true = [name for name in relations if holds(scene, a, name, b)]
        first, second = describe(scene, a, stream), describe(scene, b, stream)
        if true and first and second:
            return a, first, stream.choice(true), b, second
    return None


def sole_neighbour(scene: Scene, stream: Stream) -> tuple[SceneObject, str, SceneObject, Looks] | None:
    """An object, the relation in which it alone stands to another, that other and its description."""
    for anchor in stream.shuffled(scene.objects):
        looks = describe(scene, anchor, stream)
        if looks is None:
            continue
        others = [thing for thing in scene.objects if thing is not anchor]
        for relation in stream.shuffled(tuple(RELATIONS)):
            axis, sign = RELATIONS[relation]
            shifts = [shift(scene, thing, anchor, axis) * sign for thing in others]
            there = [i for i, value in enumerate(shifts) if value > -0.03]
            if len(there) == 1 and shifts[there[0]] >= CLEAR_MARGIN:
                return others[there[0]], relation, anchor, looks
    return None
