"""GQA questions about two things: relations, logic and comparisons."""

from __future__ import annotations

from lxmert.world import facts, words
from lxmert.world.facts import Looks
from lxmert.world.gqa_drafts import RELATION_NAMES, Draft, Step, exist_draft, pick
from lxmert.world.rng import Stream
from lxmert.world.scenes import KINDS, Scene, SceneObject


def _relation_steps(a: SceneObject, first: Looks, b: SceneObject, second: Looks) -> tuple[Step, ...]:
    steps = pick(second, b)
    return (*steps, *pick(first, a, start=len(steps)))


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
    program = (*steps, ("verify rel", (len(pick(second, b)) - 1,), f"{one},{where},s ({{{a.depth}}})"))
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
    program = (*steps, ("choose rel", (len(pick(second, b)) - 1,), argument))
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
        steps += pick(Looks(kind), things[0] if things else None, start=len(steps))
        steps.append(("exist", (len(steps) - 1,), "?"))
    program = (*steps, (joiner, (1, 3), ""))
    full = f"Yes, there is {one} {joiner} {two}."
    if not truth:
        full = f"No, there is no {kinds[0]} and no {kinds[1]}."
        if joiner == "and":
            full = f"No, there is no {next(k for k, things in zip(kinds, found, strict=True) if not things)}."
    mentions = tuple((kind, things[0].depth) for kind, things in zip(kinds, found, strict=True) if things)
    implied = tuple(exist_draft(scene, Looks(kind)) for kind in kinds) if truth == (joiner == "and") else ()
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
