"""Statements about two pictures, in the manner of NLVR2.

A Statement is a sentence and its test. ``balanced_statement`` looks for one that is true of exactly half
of the pairs it is used with, so no sentence, and hence no wording, predicts its label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lxmert.world import facts, words
from lxmert.world.facts import Looks
from lxmert.world.rng import Stream
from lxmert.world.scenes import ALL_GROUNDS, COLORS, KINDS, PLACES, TEXTURES, Favourites, Scene

Pair = tuple[Scene, Scene]


@dataclass(frozen=True)
class Statement:
    """A sentence about a left and a right picture, with the function that judges it."""

    sentence: str
    template: str
    kind: str
    holds: Callable[[Scene, Scene], bool]


@dataclass(frozen=True)
class Theme:
    """What a set of eight pictures has in common; its sentences speak of it."""

    kinds: tuple[str, ...]
    colors: tuple[str, ...]

    def favourites(self) -> Favourites:
        """The same, as the scene sampler wants it."""
        return Favourites(self.kinds, self.colors, share=0.65)


def sample_theme(stream: Stream) -> Theme:
    """Three kinds and three colours."""
    return Theme(tuple(stream.sample(KINDS, 3)), tuple(stream.sample(COLORS, 3)))


def _looks(theme: Theme, stream: Stream) -> Looks:
    kind = stream.choice(theme.kinds)
    draw = stream.below(10)
    if draw < 2:
        return Looks(kind, stream.choice(theme.colors))
    if draw < 3:
        return Looks(kind, texture=stream.choice(TEXTURES))
    return Looks(kind)


def _has(scene: Scene, looks: Looks) -> bool:
    return facts.count(scene, looks) > 0


def _sided(theme: Theme, stream: Stream) -> Statement:
    side, looks = stream.below(2), _looks(theme, stream)
    name, where = words.article(words.noun(looks, stream, free=0.1)), ("left", "right")[side]
    form = stream.choice(
        ("The {0} image contains {1}.", "There is {1} in the {0} image.", "The picture on the {0} shows {1}.")
    )
    return Statement(
        form.format(where, name), "sided", looks.kind or "", lambda *pair: _has(pair[side], looks)
    )


def _both(theme: Theme, stream: Stream) -> Statement:
    looks = _looks(theme, stream)
    name = words.article(words.noun(looks, stream, free=0.1))
    form = stream.choice(("Both images contain {}.", "Each image shows {}.", "There is {} in both pictures."))
    return Statement(
        form.format(name), "both", looks.kind or "", lambda a, b: _has(a, looks) and _has(b, looks)
    )


def _at_least_one(theme: Theme, stream: Stream) -> Statement:
    looks = _looks(theme, stream)
    name = words.article(words.noun(looks, stream, free=0.1))
    form = stream.choice(
        (
            "At least one image contains {}.",
            "There is {} in at least one of the pictures.",
            "One or both images show {}.",
        )
    )
    return Statement(
        form.format(name), "at_least_one", looks.kind or "", lambda a, b: _has(a, looks) or _has(b, looks)
    )


def _neither(theme: Theme, stream: Stream) -> Statement:
    looks = _looks(theme, stream)
    name = words.article(words.noun(looks, stream, free=0.1))
    form = stream.choice(("Neither image contains {}.", "There is not {} in either picture."))
    return Statement(
        form.format(name), "neither", looks.kind or "", lambda a, b: not _has(a, looks) and not _has(b, looks)
    )


def _only_one(theme: Theme, stream: Stream) -> Statement:
    looks = _looks(theme, stream)
    name = words.article(words.noun(looks, stream, free=0.1))
    form = stream.choice(("One image has {} and the other does not.", "Only one of the images shows {}."))
    return Statement(
        form.format(name), "only_one", looks.kind or "", lambda a, b: _has(a, looks) != _has(b, looks)
    )


def _each_side(theme: Theme, stream: Stream) -> Statement:
    one, two = _looks(theme, stream), _looks(theme, stream)
    first, second = words.article(words.noun(one)), words.article(words.noun(two))
    sentence = f"The left image has {first} and the right image has {second}."
    return Statement(sentence, "each_side", one.kind or "", lambda a, b: _has(a, one) and _has(b, two))


def _sided_count(theme: Theme, stream: Stream) -> Statement:
    side, number, kind = stream.below(2), stream.weighted({1: 1, 2: 2, 3: 2}), stream.choice(theme.kinds)
    looks, name = Looks(kind), kind if number == 1 else words.plural(kind)
    form = stream.choice(("The {} image shows exactly {} {}.", "In the {} image there are exactly {} {}."))
    if number == 1:
        form = "The {} image shows exactly {} {}."
    sentence = form.format(("left", "right")[side], words.NUMBER_WORDS[number], name)
    return Statement(sentence, "sided_count", kind, lambda *pair: facts.count(pair[side], looks) == number)


def _total(theme: Theme, stream: Stream) -> Statement:
    number, kind = stream.weighted({2: 2, 3: 3, 4: 2}), stream.choice(theme.kinds)
    looks, at_least = Looks(kind), stream.chance(0.5)
    amount = ("at least " if at_least else "exactly ") + words.NUMBER_WORDS[number]
    form = stream.choice(("There are {} {} in total.", "The two images show {} {} together."))

    def holds(a: Scene, b: Scene) -> bool:
        total = facts.count(a, looks) + facts.count(b, looks)
        return total >= number if at_least else total == number

    return Statement(form.format(amount, words.plural(kind)), "total", kind, holds)


def _more(theme: Theme, stream: Stream) -> Statement:
    side, kind = stream.below(2), stream.choice(theme.kinds)
    looks, (one, two) = Looks(kind), (("left", "right"), ("right", "left"))[side]
    sentence = f"There are more {words.plural(kind)} in the {one} image than in the {two} image."
    return Statement(
        sentence,
        "more",
        kind,
        lambda *pair: facts.count(pair[side], looks) > facts.count(pair[1 - side], looks),
    )


def _place(theme: Theme, stream: Stream) -> Statement:
    place, form = stream.choice(PLACES), stream.weighted({"both": 3, "one": 1, "left": 2, "right": 2})
    if form == "both":
        sentence = stream.choice((f"Both pictures were taken {place}.", f"Both images show a scene {place}."))
        return Statement(sentence, "place", "", lambda a, b: a.place == b.place == place)
    if form == "one":
        sentence = f"Exactly one of the pictures was taken {place}."
        return Statement(sentence, "place", "", lambda a, b: (a.place == place) != (b.place == place))
    side = ("left", "right").index(form)
    sentence = stream.choice(
        (f"The {form} picture was taken {place}.", f"The {form} image shows a scene {place}.")
    )
    return Statement(sentence, "place", "", lambda *pair: pair[side].place == place)


def _ground(theme: Theme, stream: Stream) -> Statement:
    ground, side = stream.choice(ALL_GROUNDS), stream.below(3)
    verb = "are" if ground == "tiles" else "is"
    if side == 2:
        sentence = stream.choice((f"There {verb} {ground} in both pictures.", f"Each image shows {ground}."))
        return Statement(sentence, "ground", "", lambda a, b: a.ground == b.ground == ground)
    where = ("left", "right")[side]
    sentence = stream.choice(
        (f"There {verb} {ground} in the {where} image.", f"The picture on the {where} shows {ground}.")
    )
    return Statement(sentence, "ground", "", lambda *pair: pair[side].ground == ground)


def _all_colored(theme: Theme, stream: Stream) -> Statement:
    kind, color = stream.choice(theme.kinds), stream.choice(theme.colors)
    looks = Looks(kind)
    sentence = f"There are {words.plural(kind)} and all of them are {color}."

    def holds(a: Scene, b: Scene) -> bool:
        things = facts.select(a, looks) + facts.select(b, looks)
        return bool(things) and all(thing.color == color for thing in things)

    return Statement(sentence, "all_colored", kind, holds)


TEMPLATES: dict[Callable[[Theme, Stream], Statement], float] = {
    _sided: 0.14,
    _both: 0.06,
    _at_least_one: 0.06,
    _neither: 0.03,
    _only_one: 0.02,
    _each_side: 0.02,
    _sided_count: 0.015,
    _total: 0.01,
    _more: 0.005,
    _place: 0.4,
    _ground: 0.6,
    _all_colored: 0.005,
}


def balanced_statement(
    theme: Theme, pairs: Sequence[Pair], stream: Stream, taken: set[str]
) -> tuple[Statement, list[bool]]:
    """A statement not yet ``taken`` that is true of exactly half of the pairs, with its judgements.

    When a whole set resists, pairs are left out: the caller drops judgements of the larger side.
    """
    spare: tuple[Statement, list[bool]] | None = None
    for _ in range(12):
        maker = stream.weighted(TEMPLATES)
        for _ in range(25):
            statement = maker(theme, stream)
            if statement.sentence in taken:
                continue
            labels = [statement.holds(*pair) for pair in pairs]
            if 2 * sum(labels) == len(labels):
                return statement, labels
            if 0 < sum(labels) < len(labels):
                spare = spare or (statement, labels)
    assert spare is not None, "300 statements about eight pictures of one theme, and none splits them"
    return spare
