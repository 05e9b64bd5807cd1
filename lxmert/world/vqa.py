"""Questions about one picture, in the manner of VQA.

Every maker takes (scene, stream) and returns a Question or None when the scene does not allow it. A
yes/no maker first asks whether both answers are possible in the scene and only then tosses its coin, so
the wording never tells the answer. Only unique things are referred to, only clear relations are asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lxmert.world import facts, words
from lxmert.world.choosing import absent_looks, distinct, other_value
from lxmert.world.facts import Looks
from lxmert.world.rng import Stream
from lxmert.world.scenes import COLORS, KINDS, TEXTURES, Scene, SceneObject


@dataclass(frozen=True)
class Question:
    """Text, the true answer, which kind of word answers it, and how often people get it right."""

    text: str
    answer: str
    answer_kind: str
    template: str
    agreement: float


Maker = Callable[[Scene, Stream], Question | None]


def _yes_no(truth: bool) -> str:
    return "yes" if truth else "no"


def _referent(scene: Scene, stream: Stream, hide: tuple[str, ...] = ()) -> tuple[SceneObject, Looks] | None:
    """A random object that can be named uniquely without the hidden parts."""
    for thing in stream.shuffled(scene.objects):
        looks = facts.describe(scene, thing, stream, hide)
        if looks is not None:
            return thing, looks
    return None


def color_of(scene: Scene, stream: Stream) -> Question | None:
    """What color is the star?"""
    found = _referent(scene, stream, hide=("color",))
    if found is None:
        return None
    name = words.noun(found[1], stream, free=0.15)
    form = stream.choice(
        (
            "What color is the {}?",
            "What color is the {} in the picture?",
            "What is the color of the {}?",
            "What color does the {} have?",
        )
    )
    return Question(form.format(name), found[0].color, "color", "color_of", 0.9)


def kind_of(scene: Scene, stream: Stream) -> Question | None:
    """What is red? What is the striped blue thing?"""
    found = _referent(scene, stream, hide=("kind",))
    if found is None:
        return None
    looks = found[1]
    name = words.noun(looks, stream, free=0.15)
    forms = ["What is the {}?", "What is the {} in this image?", "What kind of object is the {}?"]
    form = stream.choice(forms)
    if looks.color and not looks.texture and not looks.size and stream.chance(0.35):
        form, name = "What in this picture is {}?", looks.color
    return Question(form.format(name), found[0].kind, "kind", "kind_of", 0.85)


def texture_of(scene: Scene, stream: Stream) -> Question | None:
    """What pattern does the kite have?"""
    found = _referent(scene, stream, hide=("texture",))
    if found is None:
        return None
    name = words.noun(found[1], stream, free=0.15)
    form = stream.choice(
        (
            "What pattern does the {} have?",
            "What is the pattern of the {}?",
            "Is the {} plain, striped or dotted?",
        )
    )
    return Question(form.format(name), found[0].texture, "texture", "texture_of", 0.8)


def size_of(scene: Scene, stream: Stream) -> Question | None:
    """Is the cup small or large?"""
    found = _referent(scene, stream, hide=("size",))
    if found is None:
        return None
    name = words.noun(found[1])
    form = stream.choice(("What size is the {}?", "Is the {} small or large?", "How big is the {}?"))
    return Question(form.format(name), found[0].size, "size", "size_of", 0.8)


def ground_of(scene: Scene, stream: Stream) -> Question | None:
    """What covers the ground?"""
    form = stream.choice(
        (
            "What is on the ground?",
            "What covers the ground in this picture?",
            "What is the floor made of?",
            "What kind of ground is this?",
        )
    )
    return Question(form, scene.ground, "ground", "ground_of", 0.85)


def place_of(scene: Scene, stream: Stream) -> Question | None:
    """Was this taken indoors or outdoors?"""
    form = stream.choice(
        (
            "Was this picture taken indoors or outdoors?",
            "Where was this photo taken?",
            "Is this indoors or outdoors?",
        )
    )
    return Question(form, scene.place, "place", "place_of", 0.9)


def side_of(scene: Scene, stream: Stream) -> Question | None:
    """On which side is the fish?"""
    axis = stream.below(2)
    for thing in stream.shuffled(scene.objects):
        side = facts.side_of_picture(scene, thing, axis)
        looks = facts.describe(scene, thing, stream)
        if side and looks:
            name = words.noun(looks, stream, free=0.1)
            forms = (
                ("Which side of the picture is the {} on?", "Is the {} on the left or on the right?"),
                ("Is the {} at the top or at the bottom?", "Which half is the {} in, top or bottom?"),
            )[axis]
            return Question(stream.choice(forms).format(name), side, "side", "side_of", 0.85)
    return None


def kind_beside(scene: Scene, stream: Stream) -> Question | None:
    """What is to the left of the ring?"""
    found = facts.sole_neighbour(scene, stream)
    if found is None:
        return None
    thing, relation, _, looks = found
    where = stream.choice(words.RELATION_WORDS[relation])
    form = stream.choice(("What is {} the {}?", "What can be seen {} the {}?"))
    text = form.format(where, words.noun(looks, stream, free=0.1))
    return Question(text, thing.kind, "kind", "kind_beside", 0.75)


COUNT_WISHES = {0: 0.7, 1: 0.55, 2: 1.6, 3: 3.2, 4: 6.0, 5: 4.0, 6: 3.0}


def how_many(scene: Scene, stream: Stream) -> Question | None:
    """How many hearts are there? The number is drawn first, rare ones preferred."""
    part = stream.weighted({"kind": 0.55, "color": 0.25, "texture": 0.2})
    values = {"kind": KINDS, "color": COLORS, "texture": TEXTURES}[part]
    numbers: dict[int, list[Looks]] = {}
    for value in values:
        looks = Looks(**{part: value})
        numbers.setdefault(facts.count(scene, looks), []).append(looks)
    number = stream.weighted({n: COUNT_WISHES[n] for n in sorted(numbers)})
    looks = stream.choice(numbers[number])
    name = words.noun(looks, stream, many=True, free=0.1)
    form = stream.choice(
        (
            "How many {} are there?",
            "How many {} are in the picture?",
            "How many {} can you see?",
            "What number of {} is shown?",
        )
    )
    return Question(form.format(name), str(number), "count", "how_many", 0.85 if number < 4 else 0.7)


def how_many_things(scene: Scene, stream: Stream) -> Question | None:
    """How many things are there in total?"""
    form = stream.choice(("How many things are there in total?", "How many objects are in this picture?"))
    return Question(form, str(len(scene.objects)), "count", "how_many_things", 0.75)


def exists(scene: Scene, stream: Stream) -> Question | None:
    """Is there a ball? Is there a red ball?"""
    colored, truth = stream.chance(0.3), stream.chance(0.5)
    if colored:
        thing = stream.choice(scene.objects)
        looks = Looks(thing.kind, thing.color) if truth else absent_looks(scene, stream)
    else:
        present = [kind for kind in KINDS if facts.count(scene, Looks(kind))]
        absent = [kind for kind in KINDS if kind not in present]
        looks = Looks(stream.choice(present if truth else absent))
    if looks is None:
        return None
    name = words.article(words.noun(looks, stream, free=0.1))
    form = stream.choice(
        ("Is there {}?", "Is there {} in the picture?", "Can you see {}?", "Does this image show {}?")
    )
    return Question(
        form.format(name), _yes_no(truth), "yes/no", "exists_" + ("looks" if colored else "kind"), 0.93
    )


def is_color(scene: Scene, stream: Stream) -> Question | None:
    """Is the star purple?"""
    part = "color" if stream.chance(0.7) else "texture"
    found = _referent(scene, stream, hide=(part,))
    if found is None:
        return None
    thing, looks = found
    truth, value = stream.chance(0.5), getattr(thing, part)
    if not truth:
        seen = [getattr(other, part) for other in scene.objects]
        value = other_value(value, COLORS if part == "color" else TEXTURES, seen, stream)
    form = stream.choice(("Is the {} {}?", "Is the {} in the picture {}?"))
    text = form.format(words.noun(looks, stream, free=0.1), words.synonym(value, stream, 0.2))
    return Question(text, _yes_no(truth), "yes/no", f"is_{part}", 0.9)


def is_beside(scene: Scene, stream: Stream) -> Question | None:
    """Is the ball to the left of the cup?"""
    found = facts.clear_pair(scene, stream)
    if found is None:
        return None
    _, first, relation, _, second = found
    truth = stream.chance(0.5)
    if not truth:
        relation = facts.OPPOSITES[relation]
    where = stream.choice(words.RELATION_WORDS[relation])
    text = f"Is the {words.noun(first)} {where} the {words.noun(second)}?"
    return Question(text, _yes_no(truth), "yes/no", "is_beside", 0.85)


def both_exist(scene: Scene, stream: Stream) -> Question | None:
    """Are there both a tree and a fish?"""
    present = [kind for kind in KINDS if facts.count(scene, Looks(kind))]
    absent = [kind for kind in KINDS if kind not in present]
    if len(present) < 2:
        return None
    truth = stream.chance(0.5)
    pair = stream.sample(present, 2) if truth else [stream.choice(present), stream.choice(absent)]
    first, second = (words.article(kind) for kind in stream.shuffled(pair))
    form = stream.choice(("Are there both {} and {}?", "Is there {} and also {}?", "Do you see {} and {}?"))
    return Question(form.format(first, second), _yes_no(truth), "yes/no", "both_exist", 0.88)


def same_color(scene: Scene, stream: Stream) -> Question | None:
    """Are the ball and the cup the same color?"""
    single = [thing for thing in scene.objects if facts.count(scene, Looks(thing.kind)) == 1]
    pairs = [(a, b) for a in single for b in single if a.kind != b.kind]
    same = [pair for pair in pairs if pair[0].color == pair[1].color]
    differ = [pair for pair in pairs if pair[0].color != pair[1].color]
    if not same or not differ:
        return None
    truth = stream.chance(0.5)
    first, second = stream.choice(same if truth else differ)
    form = stream.choice(("Are the {} and the {} the same color?", "Do the {} and the {} share a color?"))
    return Question(form.format(first.kind, second.kind), _yes_no(truth), "yes/no", "same_color", 0.85)


def is_count(scene: Scene, stream: Stream) -> Question | None:
    """Are there two stars?"""
    number = 2 + stream.below(2)
    counts = {kind: facts.count(scene, Looks(kind)) for kind in KINDS}
    right = [kind for kind, n in counts.items() if n == number]
    wrong = [kind for kind, n in counts.items() if n not in (0, number)]
    if not right or not wrong:
        return None
    truth = stream.chance(0.5)
    kind = stream.choice(right if truth else wrong)
    form = stream.choice(("Are there {} {}?", "Are there exactly {} {} in the picture?"))
    text = form.format(words.NUMBER_WORDS[number], words.plural(kind))
    return Question(text, _yes_no(truth), "yes/no", "is_count", 0.85)


TEMPLATES: dict[Maker, float] = {
    color_of: 0.32,
    kind_of: 0.21,
    texture_of: 0.04,
    size_of: 0.03,
    ground_of: 0.1,
    place_of: 0.05,
    side_of: 0.02,
    kind_beside: 0.03,
    how_many: 0.03,
    how_many_things: 0.01,
    exists: 0.11,
    is_color: 0.035,
    is_beside: 0.01,
    both_exist: 0.015,
    same_color: 0.01,
    is_count: 0.015,
}


def questions_for(scene: Scene, stream: Stream, amount: int) -> list[Question]:
    """Up to ``amount`` different questions about one scene."""
    return distinct(scene, stream, amount, TEMPLATES, lambda question: (question.text, question.answer))
