"""Words and phrases of the world's English."""

from __future__ import annotations

from lxmert.world.facts import Looks
from lxmert.world.rng import Stream

PLURALS = {"box": "boxes", "cross": "crosses", "fish": "fish"}
KIND_SYNONYMS = {"box": "crate", "ring": "hoop", "house": "hut", "cup": "mug"}
LOOK_SYNONYMS = {"small": ("little", "tiny"), "large": ("big",), "dotted": ("spotted",)}
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
# "Is the ball left of the cup?" in the several ways people say it.
RELATION_WORDS = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above", "higher than"),
    "below": ("below", "under"),
}
GROUND_PHRASES = {
    "grass": "on the grass",
    "sand": "on the sand",
    "snow": "on the snow",
    "water": "on the water",
    "wood": "on the wood floor",
    "carpet": "on the carpet",
    "tiles": "on the tiles",
}


def plural(word: str) -> str:
    """The plural of a noun of this world."""
    return PLURALS.get(word, word + "s")


def article(phrase: str) -> str:
    """The phrase with "a" or "an" before it."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def noun(looks: Looks, stream: Stream | None = None, many: bool = False, free: float = 0.0) -> str:
    """A description as a noun phrase without article: "small striped red ball", "blue things".

    Args:
        looks: what to say.
        stream: chooses synonyms; None gives the plain words.
        many: plural.
        free: chance of a synonym for each word that has one.
    """
    words = []
    for part, value in looks.parts().items():
        if part != "kind":
            words.append(synonym(value, stream, free))
    kind = looks.kind
    if kind is None:
        kind = "thing" if stream is None or stream.chance(0.6) else "object"
    elif stream is not None and kind in KIND_SYNONYMS and stream.chance(free / 2):
        kind = KIND_SYNONYMS[kind]
    return " ".join([*words, plural(kind) if many else kind])


def synonym(word: str, stream: Stream | None, free: float) -> str:
    """The word, or with chance ``free`` another for the same look."""
    if stream is not None and word in LOOK_SYNONYMS and stream.chance(free):
        return stream.choice(LOOK_SYNONYMS[word])
    return word


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]
