"""Sentences that describe a scene: captions of the picture and phrases for its regions."""

from __future__ import annotations

from lxmert.world import facts, words
from lxmert.world.facts import Looks
from lxmert.world.rng import Stream
from lxmert.world.scenes import Scene, SceneObject


def _some(thing: SceneObject, stream: Stream, richest: int = 3) -> Looks:
    """The object's kind with some of its looks, most often the colour."""
    parts: dict[str, str] = {"kind": thing.kind}
    if stream.chance(0.8):
        parts["color"] = thing.color
    if stream.chance(0.35) and len(parts) < richest:
        parts["texture"] = thing.texture
    if stream.chance(0.25) and len(parts) < richest:
        parts["size"] = thing.size
    return Looks(**parts)


def _phrase(thing: SceneObject, stream: Stream, richest: int = 3) -> str:
    return words.article(words.noun(_some(thing, stream, richest), stream, free=0.25))


def _counted(scene: Scene, stream: Stream) -> str | None:
    """A group such as "three red stars": things of equal kind, or None when every kind occurs once."""
    kinds = sorted({thing.kind for thing in scene.objects if facts.count(scene, Looks(thing.kind)) > 1})
    if not kinds:
        return None
    group = facts.select(scene, Looks(stream.choice(kinds)))
    color = group[0].color if len({thing.color for thing in group}) == 1 else None
    return f"{words.NUMBER_WORDS[len(group)]} {words.noun(Looks(group[0].kind, color), many=True)}"


def caption(scene: Scene, stream: Stream) -> str:
    """One sentence of about 6 to 14 words; every statement in it is true."""
    where = words.GROUND_PHRASES[scene.ground]
    pair = stream.sample(scene.objects, 2)
    first, last = _phrase(pair[0], stream), _phrase(pair[-1], stream, richest=2)
    group = _counted(scene, stream)
    style = stream.below(6)
    if style == 0 and group:
        form = stream.choice(("{} and some other things {}.", "There are {} in this picture {}."))
        return words.capital(form.format(group, f"with {scene.ground}" if "picture" in form else where))
    if style == 1:
        return stream.choice(
            (
                f"A picture of {first} and {last} {where}.",
                f"An {scene.place[:-1]} scene with {first} and {last}.",
            )
        )
    if style == 2 and len(pair) > 1:
        relations = [name for name in facts.RELATIONS if facts.holds(scene, pair[0], name, pair[1])]
        if relations:
            relation = stream.choice(words.RELATION_WORDS[stream.choice(relations)])
            return words.capital(f"{first} is {relation} {last}.")
    if style == 3 and len(scene.objects) > 2:
        three = [_phrase(thing, stream, richest=2) for thing in stream.sample(scene.objects, 3)]
        return words.capital(f"{three[0]}, {three[1]} and {three[2]} {where}.")
    if style == 4:
        ground = (
            f"{scene.ground} and a {scene.backdrop}"
            if scene.place == "indoors"
            else f"{scene.ground} under the sky"
        )
        return stream.choice(
            (f"There is {first} with {ground}.", f"{words.capital(first)} in front of {ground}.")
        )
    ending = "" if len(pair) < 2 else f" and {last}"
    return stream.choice(
        (f"There is {first}{ending} {scene.place}.", words.capital(f"{first}{ending} {where}."))
    )


def captions_for(scene: Scene, stream: Stream, amount: int) -> list[str]:
    """``amount`` captions, now and then one more; some carry a trailing blank, as the published ones do."""
    count = amount + (1 if stream.chance(0.04) else 0)
    return [caption(scene, stream) + (" " if stream.chance(0.02) else "") for _ in range(count)]


def region_phrase(scene: Scene, thing: SceneObject, stream: Stream) -> str:
    """A short phrase about one object: "a striped red kite", "the kite is red", "kite on the sand"."""
    name = words.noun(_some(thing, stream), stream, free=0.2)
    style = stream.below(5)
    if style == 0:
        part = stream.choice(("color", "texture", "size"))
        return f"the {thing.kind} is {getattr(thing, part)}"
    if style == 1 and thing.center[1] > scene.horizon:
        return f"{name} {words.GROUND_PHRASES[scene.ground]}"
    if style == 2 and len(scene.objects) > 1:
        other = stream.choice([item for item in scene.objects if item is not thing])
        relations = [relation for relation in facts.RELATIONS if facts.holds(scene, thing, relation, other)]
        if relations:
            return f"{name} {words.RELATION_WORDS[stream.choice(relations)][1]} {words.article(other.kind)}"
    return name if style == 3 else words.article(name)
