"""Ten people answer one question: mostly right, sometimes unsure, sometimes in other words."""

from __future__ import annotations

from collections import Counter

from lxmert.world.rng import Stream
from lxmert.world.scenes import ALL_GROUNDS
from lxmert.world.vqa import Question
from lxmert.world.words import KIND_SYNONYMS, NUMBER_WORDS

NEAR_COLORS = {
    "red": ("orange", "pink"),
    "orange": ("red", "yellow"),
    "yellow": ("orange", "gold"),
    "green": ("blue", "dark green"),
    "blue": ("purple", "dark blue"),
    "purple": ("blue", "violet"),
    "pink": ("red", "purple"),
    "black": ("gray", "blue"),
}
NEAR_KINDS = {
    "ball": ("ring", "circle"),
    "box": ("crate", "square"),
    "star": ("cross", "stars"),
    "heart": ("star", "hearts"),
    "ring": ("ball", "hoop"),
    "cross": ("plus", "star"),
    "moon": ("crescent", "ring"),
    "kite": ("diamond", "star"),
    "tree": ("christmas tree", "house"),
    "house": ("hut", "tree"),
    "cup": ("mug", "box"),
    "fish": ("ball", "a fish"),
}
OTHERS = {
    "texture": {"plain": ("solid", "none"), "striped": ("stripes", "lines"), "dotted": ("dots", "spotted")},
    "size": {"small": ("little", "tiny"), "large": ("big", "huge")},
    "place": {"indoors": ("inside", "in a room"), "outdoors": ("outside", "in a park")},
    "side": {"left": ("left side",), "right": ("right side",), "top": ("above",), "bottom": ("below",)},
    "yes/no": {"yes": ("no", "yeah"), "no": ("yes", "not really")},
}


def _variant(question: Question, stream: Stream) -> str:
    """What someone says who does not give the usual right answer."""
    truth, kind = question.answer, question.answer_kind
    if kind == "color":
        return stream.choice(NEAR_COLORS[truth])
    if kind == "kind":
        choices = [*NEAR_KINDS[truth]]
        if truth in KIND_SYNONYMS:
            choices.append(KIND_SYNONYMS[truth])
        return stream.choice(choices)
    if kind == "count":
        number = int(truth)
        if stream.chance(0.4):
            return NUMBER_WORDS[number]
        return str(max(0, number + (1 if stream.chance(0.5) else -1)))
    if kind == "ground":
        return stream.choice([ground for ground in ALL_GROUNDS if ground != truth])
    return stream.choice(OTHERS[kind][truth])


def ten_answers(question: Question, stream: Stream) -> list[dict[str, object]]:
    """Ten records {answer, answer_confidence, answer_id 1…10} in the official form."""
    # Some pictures are harder to read than others: the share of right answers varies by question.
    right = min(1.0, question.agreement + stream.between(-0.18, 0.12))
    records: list[dict[str, object]] = []
    for number in range(1, 11):
        sure = stream.chance(right)
        answer = question.answer if sure else _variant(question, stream)
        confidence = stream.weighted(
            {"yes": 0.85, "maybe": 0.12, "no": 0.03} if sure else {"yes": 0.4, "maybe": 0.6}
        )
        records.append({"answer": answer, "answer_confidence": confidence, "answer_id": number})
    return records


def majority(records: list[dict[str, object]], truth: str) -> str:
    """The most frequent answer; the true one wins a tie, then the first in the alphabet."""
    votes = Counter(str(record["answer"]) for record in records)
    return min(votes, key=lambda answer: (-votes[answer], answer != truth, answer))
