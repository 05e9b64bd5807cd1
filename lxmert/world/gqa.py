"""Compositional questions with programs, in the manner of GQA.

A maker returns a Draft: paraphrases, answer, the program that computes it, types, and the objects its
phrases name. Drafts that follow from another (``implied``) become its entailed questions.
"""

from __future__ import annotations

from lxmert.world import facts, words
from lxmert.world.choosing import absent_looks, distinct, other_value
from lxmert.world.facts import Looks, sole_neighbour
from lxmert.world.gqa_drafts import (
    ATTRIBUTES,
    RELATION_NAMES,
    SPOKEN,
    Draft,
    Maker,
    Step,
    choose_draft,
    exist_draft,
    is_draft,
    named,
    pick,
)
from lxmert.world.gqa_pairs import choose_relation, compare_colors, compare_sizes, logical, verify_relation
from lxmert.world.rng import Stream
from lxmert.world.scenes import ALL_GROUNDS, KINDS, PLACES, Scene


def query_attribute(scene: Scene, stream: Stream) -> Draft | None:
    """What color is the kite? It entails that the kite is (not) of some colour."""
    part = stream.weighted({"color": 0.8, "texture": 0.1, "size": 0.1})
    found = named(scene, stream, (part,))
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
    steps = (*pick(looks, thing), ("query", (len(pick(looks, thing)) - 1,), spoken))
    wrong = stream.choice([item for item in ATTRIBUTES[part] if item != value])
    implied = (is_draft(thing, looks, part, value, True), is_draft(thing, looks, part, wrong, False),
               choose_draft(thing, looks, part, stream.shuffled((value, wrong))))  # fmt: skip
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


def verify_attribute(scene: Scene, stream: Stream) -> Draft | None:
    """Is the kite red?"""
    part = stream.weighted({"color": 0.65, "texture": 0.25, "size": 0.1})
    found = named(scene, stream, (part,))
    if found is None:
        return None
    thing, looks, _ = found
    value, truth = getattr(thing, part), stream.chance(0.5)
    if not truth:
        seen = [getattr(other, part) for other in scene.objects]
        value = other_value(value, ATTRIBUTES[part], seen, stream)
    return is_draft(thing, looks, part, value, truth)


def choose_attribute(scene: Scene, stream: Stream) -> Draft | None:
    """Is the kite red or blue?"""
    part = stream.weighted({"color": 0.7, "texture": 0.2, "size": 0.1})
    found = named(scene, stream, (part,))
    if found is None:
        return None
    thing, looks, _ = found
    value = getattr(thing, part)
    wrong = other_value(value, ATTRIBUTES[part], [getattr(other, part) for other in scene.objects], stream)
    return choose_draft(thing, looks, part, stream.shuffled((value, wrong)))


def query_name(scene: Scene, stream: Stream) -> Draft | None:
    """What is the striped blue thing?"""
    found = named(scene, stream, ("kind",))
    if found is None:
        return None
    thing, looks, name = found
    steps = pick(looks, thing)
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
    steps = pick(looks, anchor)
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
    other = stream.choice([name for name in ALL_GROUNDS if name != scene.ground])
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


def verify_exists(scene: Scene, stream: Stream) -> Draft | None:
    """Is there a red kite? If so, there is a kite."""
    colored, truth = stream.chance(0.3), stream.chance(0.5)
    if colored:
        thing = stream.choice(scene.objects)
        looks = Looks(thing.kind, thing.color) if truth else absent_looks(scene, stream)
    else:
        present = [kind for kind in KINDS if facts.count(scene, Looks(kind))]
        looks = Looks(stream.choice(present if truth else [kind for kind in KINDS if kind not in present]))
    if looks is None:
        return None
    draft = exist_draft(scene, looks)
    if colored and truth:
        implied = (exist_draft(scene, Looks(looks.kind)),)
        draft = Draft(**{**draft.__dict__, "implied": implied})
    return draft


TEMPLATES: dict[Maker, float] = {
    query_attribute: 0.36,
    query_name: 0.2,
    query_neighbour: 0.02,
    query_ground: 0.12,
    verify_exists: 0.1,
    verify_attribute: 0.05,
    verify_relation: 0.015,
    choose_attribute: 0.1,
    choose_relation: 0.015,
    choose_place: 0.05,
    logical: 0.03,
    compare_colors: 0.03,
    compare_sizes: 0.015,
}


def drafts_for(scene: Scene, stream: Stream, amount: int) -> list[Draft]:
    """Up to ``amount`` drafts about one scene, no two with the same first wording."""
    return distinct(scene, stream, amount, TEMPLATES, lambda draft: (draft.texts[0], draft.answer))
