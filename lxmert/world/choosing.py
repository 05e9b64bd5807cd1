"""Choices that makers of questions share: fair repeats, near misses, absent things."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from lxmert.world import facts
from lxmert.world.facts import Looks
from lxmert.world.rng import Stream
from lxmert.world.scenes import COLORS, KINDS, Scene

Item = TypeVar("Item")


def distinct(
    scene: Scene,
    stream: Stream,
    amount: int,
    templates: Mapping[Callable[[Scene, Stream], Item | None], float],
    text_and_answer: Callable[[Item], tuple[str, str]],
) -> list[Item]:
    """Up to ``amount`` items with different texts, drawn from weighted makers.

    A repeated text is replaced by one of the same maker and the same answer: there are fewer things that
    are in a picture than things that are not, so dropping repeats would make "no" the better guess.
    """
    out: dict[str, Item] = {}
    for _ in range(8 * amount):
        if len(out) == amount:
            break
        maker = stream.weighted(templates)
        item = maker(scene, stream)
        if item is None:
            continue
        text, wanted = text_and_answer(item)
        for _ in range(12):
            if text not in out:
                out[text] = item
                break
            again = maker(scene, stream)
            if again is not None and text_and_answer(again)[1] == wanted:
                item, text = again, text_and_answer(again)[0]
    return list(out.values())


def absent_looks(scene: Scene, stream: Stream) -> Looks | None:
    """Colour and kind that no object combines, though often each of them occurs."""
    for _ in range(20):
        kind, color = stream.choice(KINDS), stream.choice(COLORS)
        near = stream.below(3)
        if near == 0:
            kind = stream.choice(scene.objects).kind
        elif near == 1:
            color = stream.choice(scene.objects).color
        looks = Looks(kind=kind, color=color)
        if facts.count(scene, looks) == 0:
            return looks
    return None


def other_value(value: str, values: tuple[str, ...], seen: list[str], stream: Stream) -> str:
    """Another value, half of the time one that is to be seen elsewhere in the picture."""
    near = [item for item in seen if item != value]
    if near and stream.chance(0.5):
        return stream.choice(near)
    return stream.choice([item for item in values if item != value])
