"""Compositional questions with programs, in the manner of GQA.

A maker returns a Draft: paraphrases, answer, the program that computes it, types, and the objects its
phrases name. Drafts that follow from another (``implied``) become its entailed questions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lxmert.world import facts, words
from lxmert.world.facts import Looks
from lxmert.world.rng import Stream
from lxmert.world.scenes import COLORS, GROUNDS, KINDS, PLACES, TEXTURES, Scene, SceneObject
from lxmert.world.vqa import absent_looks, distinct, other_value, sole_neighbour

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


def _pick(looks: Looks, thing: SceneObject | None, start: int = 0) -> tuple[Step, ...]:
    """Program steps that select the described object; ``{n}`` marks the object of depth n, (-) none."""
    mark = "-" if thing is None else f"{{{thing.depth}}}"
    name = looks.kind or "thing"
    steps: list[Step] = [("select", (), f"{name} ({mark})")]
    for part in ("color", "texture", "size"):
        value = getattr(looks, part)
        if value:
            steps.append((f"filter {SPOKEN[part]}", (start + len(steps) - 1,), value))
    return tuple(steps)


def _named(scene: Scene, stream: Stream, hide: tuple[str, ...]) -> tuple[SceneObject, Looks, str] | None:
    """A random unique object, its description and the phrase for it."""
    for thing in stream.shuffled(scene.objects):
        looks = facts.describe(scene, thing, stream, hide)
        if looks is not None:
            return thing, looks, words.noun(looks)
    return None


def query_attribute(scene: Scene, stream: Stream) -> Draft | None:
    """What color is the kite? It entails that the kite is (not) of some colour."""
    part = stream.weighted({"color": 0.66, "texture": 0.24, "size": 0.1})
    found = _named(scene, stream, (part,))
    if found is None:
        return None
    thing, looks, name = found
    value, spoken = getattr(thing, part), SPOKEN[part]
    verb = "does the {} have" if part == "texture" else "is the {}"
    texts = (
        f"What {spoken} {verb}?".format(name),
        f"What is the {spoken} of the {name}?",
        f"Which {spoken} {verb}?".format(name),
    )
    steps = (*_pick(looks, thing), ("query", (len(_pick(looks, thing)) - 1,), spoken))
    wrong = stream.choice([item for item in ATTRIBUTES[part] if item != value])
    implied = (_is_draft(thing, looks, part, value, True), _is_draft(thing, looks, part, wrong, False),
               _choose_draft(thing, looks, part, stream.shuffled((value, wrong))))  # fmt: skip
    return Draft(
        texts,
        value,
        f"The {name} is {value}.",
        steps,
        "query",
        "attr",
        "directOf",
        spoken,
        f"10q-{looks.kind}_{spoken}",
        ((name, thing.depth),),
        implied,
    )


def _is_draft(thing: SceneObject, looks: Looks, part: str, value: str, truth: bool) -> Draft:
    name, real = words.noun(looks), getattr(thing, part)
    steps = _pick(looks, thing)
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


def verify_attribute(scene: Scene, stream: Stream) -> Draft | None:
    """Is the kite red?"""
    part = stream.weighted({"color": 0.65, "texture": 0.25, "size": 0.1})
    found = _named(scene, stream, (part,))
    if found is None:
        return None
    thing, looks, _ = found
    value, truth = getattr(thing, part), stream.chance(0.5)
    if not truth:
        seen = [getattr(other, part) for other in scene.objects]
        value = other_value(value, ATTRIBUTES[part], seen, stream)
    return _is_draft(thing, looks, part, value, truth)


def _choose_draft(thing: SceneObject, looks: Looks, part: str, options: list[str]) -> Draft:
    name, value = words.noun(looks), getattr(thing, part)
    first, second = options
    steps = _pick(looks, thing)
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


def choose_attribute(scene: Scene, stream: Stream) -> Draft | None:
    """Is the kite red or blue?"""
    part = stream.weighted({"color": 0.7, "texture": 0.2, "size": 0.1})
    found = _named(scene, stream, (part,))
    if found is None:
        return None
    thing, looks, _ = found
    value = getattr(thing, part)
    wrong = other_value(value, ATTRIBUTES[part], [getattr(other, part) for other in scene.objects], stream)
    return _choose_draft(thing, looks, part, stream.shuffled((value, wrong)))


def query_name(scene: Scene, stream: Stream) -> Draft | None:
    """What is the striped blue thing?"""
    found = _named(scene, stream, ("kind",))
    if found is None:
        return None
    thing, looks, name = found
    steps = _pick(looks, thing)
    texts = (
        f"What is the {name} called?",
        f"What is the {name} in this picture?",
        f"What kind of thing is the {name}?",
    )
    return Draft(
        texts,
        thing.kind,
        f"The {name} is {words.article(thing.kind)}.",
        (*steps, ("query", (len(steps) - 1,), "name")),
        "query",
        "cat",
        "categoryThis",
        "object",
        f"09-{looks.color or looks.texture or looks.size}",
        ((name, thing.depth),),
    )


def query_neighbour(scene: Scene, stream: Stream) -> Draft | None:
    """What is to the left of the cup? or: What color is the thing above the cup?"""
    found = sole_neighbour(scene, stream)
    if found is None:
        return None
    thing, relation, anchor, looks = found
    name, where = words.noun(looks), RELATION_NAMES[relation]
    steps = _pick(looks, anchor)
    steps = (*steps, ("relate", (len(steps) - 1,), f"_,{where},s ({{{thing.depth}}})"))
    if stream.chance(0.6):
        texts = (f"What is {where} the {name}?", f"Which thing is {where} the {name}?")
        answer, program = thing.kind, (*steps, ("query", (len(steps) - 1,), "name"))
        full, group, detailed = f"The {answer} is {where} the {name}.", "object", "relS"
    else:
        texts = (
            f"What color is the thing {where} the {name}?",
            f"Which color is the thing {where} the {name}?",
        )
        answer, program = thing.color, (*steps, ("query", (len(steps) - 1,), "color"))
        full, group, detailed = f"The {thing.kind} is {answer}.", "color", "directOf"
    semantic = "rel" if group == "object" else "attr"
    return Draft(
        texts,
        answer,
        full,
        program,
        "query",
        semantic,
        detailed,
        group,
        f"14-{looks.kind}_{where},s",
        ((name, anchor.depth), (thing.kind, thing.depth)),
    )


def query_ground(scene: Scene, stream: Stream) -> Draft | None:
    """What is on the ground? The two places have grounds of their own."""
    texts = ("What is on the ground?", "What covers the ground?", "What kind of ground is it?")
    other = stream.choice([name for names in GROUNDS.values() for name in names if name != scene.ground])
    pair = stream.shuffled((scene.ground, other))
    if stream.chance(0.4):
        texts = (
            f"Is the ground {pair[0]} or {pair[1]}?",
            f"Is the ground covered with {pair[0]} or {pair[1]}?",
        )
        program: tuple[Step, ...] = (("select", (), "scene"), ("choose ground", (0,), "|".join(pair)))
        return Draft(
            texts,
            scene.ground,
            f"It is {scene.ground}.",
            program,
            "choose",
            "global",
            "groundChoose",
            "ground",
            "02c-ground",
        )
    program = (("select", (), "scene"), ("query", (0,), "ground"))
    return Draft(
        texts,
        scene.ground,
        f"It is {scene.ground}.",
        program,
        "query",
        "global",
        "ground",
        "ground",
        "02q-ground",
    )


def choose_place(scene: Scene, stream: Stream) -> Draft | None:
    """Is it indoors or outdoors?"""
    first, second = stream.shuffled(PLACES)
    texts = (f"Is it {first} or {second}?", f"Was the picture taken {first} or {second}?")
    program: tuple[Step, ...] = (("select", (), "scene"), ("choose location", (0,), f"{first}|{second}"))
    return Draft(
        texts,
        scene.place,
        f"It is {scene.place}.",
        program,
        "choose",
        "global",
        "locationVerifyC",
        "place",
        "13-location",
    )


def _exist_draft(scene: Scene, looks: Looks) -> Draft:
    found = facts.select(scene, looks)
    name, truth = words.noun(looks), bool(found)
    steps = _pick(looks, found[0] if found else None)
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


def verify_exists(scene: Scene, stream: Stream) -> Draft | None:
    """Is there a red kite? If so, there is a kite."""
    colored, truth = stream.chance(0.6), stream.chance(0.5)
    if colored:
        thing = stream.choice(scene.objects)
        looks = Looks(thing.kind, thing.color) if truth else absent_looks(scene, stream)
    else:
        present = [kind for kind in KINDS if facts.count(scene, Looks(kind))]
        looks = Looks(stream.choice(present if truth else [kind for kind in KINDS if kind not in present]))
    if looks is None:
        return None
    draft = _exist_draft(scene, looks)
    if colored and truth:
        implied = (_exist_draft(scene, Looks(looks.kind)),)
        draft = Draft(**{**draft.__dict__, "implied": implied})
    return draft


def _relation_steps(a: SceneObject, first: Looks, b: SceneObject, second: Looks) -> tuple[Step, ...]:
    steps = _pick(second, b)
    return (*steps, *_pick(first, a, start=len(steps)))


def verify_relation(scene: Scene, stream: Stream) -> Draft | None:
    """Is the kite above the cup? Then the cup is below the kite."""
    found = facts.clear_pair(scene, stream)
    if found is None:
        return None
    a, first, relation, b, second = found
    truth = stream.chance(0.5)
    asked = relation if truth else facts.OPPOSITES[relation]
    draft = _relation_draft(a, first, asked, b, second, truth)
    implied = (_relation_draft(b, second, facts.OPPOSITES[asked], a, first, truth),)
    return Draft(**{**draft.__dict__, "implied": implied})


def _relation_draft(
    a: SceneObject, first: Looks, relation: str, b: SceneObject, second: Looks, truth: bool
) -> Draft:
    one, two, where = words.noun(first), words.noun(second), RELATION_NAMES[relation]
    steps = _relation_steps(a, first, b, second)
    program = (*steps, ("verify rel", (len(_pick(second, b)) - 1,), f"{one},{where},s ({{{a.depth}}})"))
    texts = (f"Is the {one} {where} the {two}?", f"Is the {one} positioned {where} the {two}?")
    full = f"Yes, the {one} is {where} the {two}."
    if not truth:
        full = f"No, the {one} is {RELATION_NAMES[facts.OPPOSITES[relation]]} the {two}."
    return Draft(
        texts,
        "yes" if truth else "no",
        full,
        program,
        "verify",
        "rel",
        "relVerify",
        None,
        f"16-{first.kind}_{where}_{second.kind}",
        ((one, a.depth), (two, b.depth)),
    )


def choose_relation(scene: Scene, stream: Stream) -> Draft | None:
    """Is the kite to the left or to the right of the cup?"""
    axis = stream.below(2)
    found = facts.clear_pair(scene, stream, axis)
    if found is None:
        return None
    a, first, relation, b, second = found
    one, two = words.noun(first), words.noun(second)
    options = stream.shuffled([name for name, (at, _) in facts.RELATIONS.items() if at == axis])
    said = [f"to the {name}" if axis == 0 else name for name in options]
    middle = f"{said[0]} or {said[1]}{' of' if axis == 0 else ''}"
    texts = (f"Is the {one} {middle} the {two}?", f"Is the {one} placed {middle} the {two}?")
    full = f"The {one} is {RELATION_NAMES[relation]} the {two}."
    steps = _relation_steps(a, first, b, second)
    argument = f"{one},{'|'.join(RELATION_NAMES[name] for name in options)},s ({{{a.depth}}})"
    program = (*steps, ("choose rel", (len(_pick(second, b)) - 1,), argument))
    return Draft(
        texts,
        relation,
        full,
        program,
        "choose",
        "rel",
        "relChooser",
        "hposition" if axis == 0 else "vposition",
        f"15-{first.kind}_{second.kind}",
        ((one, a.depth), (two, b.depth)),
    )


def logical(scene: Scene, stream: Stream) -> Draft | None:
    """Are there both a tree and a fish? Is there a tree or a fish?"""
    joiner, truth = stream.choice(("and", "or")), stream.chance(0.5)
    present = [kind for kind in KINDS if facts.count(scene, Looks(kind))]
    absent = [kind for kind in KINDS if kind not in present]
    if len(present) < 2:
        return None
    if joiner == "and":
        kinds = stream.sample(present, 2) if truth else [stream.choice(present), stream.choice(absent)]
    else:
        kinds = [stream.choice(present), stream.choice(absent)] if truth else stream.sample(absent, 2)
    kinds = stream.shuffled(kinds)
    found = [facts.select(scene, Looks(kind)) for kind in kinds]
    one, two = (words.article(kind) for kind in kinds)
    texts = (
        (f"Are there both {one} and {two}?", f"Do you see {one} and {two}?")
        if joiner == "and"
        else (f"Is there {one} or {two}?", f"Do you see either {one} or {two}?")
    )
    steps: list[Step] = []
    for kind, things in zip(kinds, found, strict=True):
        steps += _pick(Looks(kind), things[0] if things else None, start=len(steps))
        steps.append(("exist", (len(steps) - 1,), "?"))
    program = (*steps, (joiner, (1, 3), ""))
    full = f"Yes, there is {one} {joiner} {two}."
    if not truth:
        full = f"No, there is no {kinds[0]} and no {kinds[1]}."
        if joiner == "and":
            full = f"No, there is no {next(k for k, things in zip(kinds, found, strict=True) if not things)}."
    mentions = tuple((kind, things[0].depth) for kind, things in zip(kinds, found, strict=True) if things)
    implied = tuple(_exist_draft(scene, Looks(kind)) for kind in kinds) if truth == (joiner == "and") else ()
    return Draft(
        texts,
        "yes" if truth else "no",
        full,
        program,
        "logical",
        "obj",
        f"exist{joiner.capitalize()}",
        None,
        f"07-{'_'.join(kinds)}",
        mentions,
        implied,
    )


def compare_colors(scene: Scene, stream: Stream) -> Draft | None:
    """Are the kite and the cup the same color?"""
    single = [thing for thing in scene.objects if facts.count(scene, Looks(thing.kind)) == 1]
    pairs = [(a, b) for a in single for b in single if a is not b]
    same = [pair for pair in pairs if pair[0].color == pair[1].color]
    differ = [pair for pair in pairs if pair[0].color != pair[1].color]
    if not same or not differ:
        return None
    alike, asked_same = stream.chance(0.5), stream.chance(0.5)
    a, b = stream.choice(same if alike else differ)
    word = "the same" if asked_same else "different"
    texts = (f"Are the {a.kind} and the {b.kind} {word} color{'' if asked_same else 's'}?",
             f"Do the {a.kind} and the {b.kind} have {word} color{'' if asked_same else 's'}?")  # fmt: skip
    program: tuple[Step, ...] = (
        ("select", (), f"{a.kind} ({{{a.depth}}})"),
        ("select", (), f"{b.kind} ({{{b.depth}}})"),
        ("same color" if asked_same else "different color", (0, 1), ""),
    )
    truth = alike == asked_same
    full = f"{'Yes' if truth else 'No'}, the {a.kind} is {a.color} and the {b.kind} is {b.color}."
    return Draft(
        texts,
        "yes" if truth else "no",
        full,
        program,
        "compare",
        "attr",
        "twoSame" if asked_same else "twoDifferent",
        None,
        f"18-{a.kind}_{b.kind}_color",
        ((a.kind, a.depth), (b.kind, b.depth)),
    )


def compare_sizes(scene: Scene, stream: Stream) -> Draft | None:
    """Which is larger, the kite or the cup?"""
    single = [thing for thing in scene.objects if facts.count(scene, Looks(thing.kind)) == 1]
    pairs = [(a, b) for a in single for b in single if a.size != b.size]
    if not pairs:
        return None
    a, b = stream.choice(pairs)
    size = stream.choice(("small", "large"))
    comparative = {"small": "smaller", "large": "larger"}[size]
    winner = a if a.size == size else b
    texts = (
        f"Which is {comparative}, the {a.kind} or the {b.kind}?",
        f"What is {comparative}, the {a.kind} or the {b.kind}?",
    )
    program: tuple[Step, ...] = (
        ("select", (), f"{a.kind} ({{{a.depth}}})"),
        ("select", (), f"{b.kind} ({{{b.depth}}})"),
        (f"choose {comparative}", (0, 1), ""),
    )
    return Draft(
        texts,
        winner.kind,
        f"The {winner.kind} is {comparative}.",
        program,
        "compare",
        "attr",
        "comparativeChoose",
        "object",
        f"19-{a.kind}_{b.kind}_size",
        ((a.kind, a.depth), (b.kind, b.depth)),
    )


TEMPLATES: dict[Maker, float] = {
    query_attribute: 0.27,
    query_name: 0.13,
    query_neighbour: 0.08,
    query_ground: 0.05,
    verify_exists: 0.1,
    verify_attribute: 0.1,
    verify_relation: 0.05,
    choose_attribute: 0.08,
    choose_relation: 0.04,
    choose_place: 0.015,
    logical: 0.1,
    compare_colors: 0.06,
    compare_sizes: 0.025,
}


def drafts_for(scene: Scene, stream: Stream, amount: int) -> list[Draft]:
    """Up to ``amount`` drafts about one scene, no two with the same first wording."""
    return distinct(scene, stream, amount, TEMPLATES, lambda draft: (draft.texts[0], draft.answer))
