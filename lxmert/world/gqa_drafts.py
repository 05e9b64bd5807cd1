"""A GQA question before it has an id, with its program; and the drafts that others imply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lxmert.world import facts, words
from lxmert.world.facts import Looks
from lxmert.world.rng import Stream
from lxmert.world.scenes import COLORS, TEXTURES, Scene, SceneObject

Step = tuple[str, tuple[int, ...], str]
ATTRIBUTES = {"color": COLORS, "texture": TEXTURES, "size": ("small", "large")}
SPOKEN = {"color": "color", "texture": "pattern", "size": "size"}
RELATION_NAMES = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}


@dataclass(frozen=True)
class Draft:
    """A question before it has an id; ``mentions`` pairs a phrase with the depth of its object."""

    texts: tuple[str, ...]
    answer: str
    full_answer: str
    program: tuple[Step, ...]
    structural: str
    semantic: str
    detailed: str
    group: str | None
    local: str
    mentions: tuple[tuple[str, int], ...] = ()
    implied: tuple[Draft, ...] = field(default=())


Maker = Callable[[Scene, Stream], Draft | None]


def pick(looks: Looks, thing: SceneObject | None, start: int = 0) -> tuple[Step, ...]:
    """Program steps that select the described object; ``{n}`` marks the object of depth n, (-) none."""
    mark = "-" if thing is None else f"{{{thing.depth}}}"
    name = looks.kind or "thing"
    steps: list[Step] = [("select", (), f"{name} ({mark})")]
    for part in ("color", "texture", "size"):
        value = getattr(looks, part)
        if value:
            steps.append((f"filter {SPOKEN[part]}", (start + len(steps) - 1,), value))
    return tuple(steps)


def named(scene: Scene, stream: Stream, hide: tuple[str, ...]) -> tuple[SceneObject, Looks, str] | None:
    """A random unique object, its description and the phrase for it."""
    for thing in stream.shuffled(scene.objects):
        looks = facts.describe(scene, thing, stream, hide)
        if looks is not None:
            return thing, looks, words.noun(looks)
    return None


def is_draft(thing: SceneObject, looks: Looks, part: str, value: str, truth: bool) -> Draft:
    """Is the kite red? ``truth`` says whether it is."""
    name, real = words.noun(looks), getattr(thing, part)
    steps = pick(looks, thing)
    program = (*steps, (f"verify {SPOKEN[part]}", (len(steps) - 1,), value))
    full = f"Yes, the {name} is {value}." if truth else f"No, the {name} is {real}."
    texts = (f"Is the {name} {value}?", f"Does the {name} look {value}?")
    return Draft(
        texts,
        "yes" if truth else "no",
        full,
        program,
        "verify",
        "attr",
        "verifyAttr",
        None,
        f"06-{looks.kind}_{value}",
        ((name, thing.depth),),
    )


def choose_draft(thing: SceneObject, looks: Looks, part: str, options: list[str]) -> Draft:
    """Is the kite red or blue? One of the two options is right."""
    name, value = words.noun(looks), getattr(thing, part)
    first, second = options
    steps = pick(looks, thing)
    program = (*steps, (f"choose {SPOKEN[part]}", (len(steps) - 1,), f"{first}|{second}"))
    texts = (f"Is the {name} {first} or {second}?", f"Does the {name} look {first} or {second}?")
    return Draft(
        texts,
        value,
        f"The {name} is {value}.",
        program,
        "choose",
        "attr",
        "chooseAttr",
        SPOKEN[part],
        f"10c-{looks.kind}_{SPOKEN[part]}",
        ((name, thing.depth),),
    )


def exist_draft(scene: Scene, looks: Looks) -> Draft:
    """Is there a red kite? The scene tells."""
    found = facts.select(scene, looks)
    name, truth = words.noun(looks), bool(found)
    steps = pick(looks, found[0] if found else None)
    phrase = words.article(name)
    texts = (f"Is there {phrase}?", f"Is there {phrase} in the picture?", f"Do you see {phrase}?")
    full = f"Yes, there is {phrase}." if truth else f"No, there is no {name}."
    detailed = "existAttr" if looks.color else "exist"
    mentions = ((name, found[0].depth),) if truth else ()
    return Draft(
        texts,
        "yes" if truth else "no",
        full,
        (*steps, ("exist", (len(steps) - 1,), "?")),
        "verify",
        "obj",
        detailed if truth else detailed + "C",
        None,
        f"05-{looks.kind}_{looks.color or ''}".rstrip("_"),
        mentions,
    )
