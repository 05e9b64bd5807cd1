"""NLVR2 JSON lines in their official form."""

from __future__ import annotations

import json
from typing import Any

from lxmert.world.nlvr2 import balanced_statement
from lxmert.world.plan import PairSet, World
from lxmert.world.raw import RawFolder
from lxmert.world.rng import Stream
from lxmert.world.words import plural


def image_name(split: str, pair_set: PairSet, pair: int, side: int) -> str:
    """Path of one image below nlvr2/images."""
    folder = f"train/{pair_set.directory}" if split == "train" else split
    return f"{folder}/{split}-{pair_set.id}-{pair}-img{side}.png"


def kept_pairs(labels: list[bool], stream: Stream) -> list[int]:
    """The pairs whose line is written: as many true as false, and now and then only one of each."""
    true = [pair for pair, label in enumerate(labels) if label]
    false = [pair for pair, label in enumerate(labels) if not label]
    most = min(len(true), len(false))
    if most > 1 and stream.chance(0.12):
        most -= 1
    return sorted(stream.sample(true, most) + stream.sample(false, most))


def set_lines(split: str, pair_set: PairSet, stream: Stream, sentences: int) -> list[dict[str, Any]]:
    """All lines of one set of eight images."""
    taken: set[str] = set()
    lines = []
    for sentence in range(sentences):
        statement, labels = balanced_statement(pair_set.theme, pair_set.pairs, stream, taken)
        taken.add(statement.sentence)
        writer = str(stream.below(200))
        for pair in kept_pairs(labels, stream):
            label = str(labels[pair])
            kind = statement.kind or pair_set.theme.kinds[0]
            line: dict[str, Any] = {
                "validation": {str(stream.below(200)): label},
                "sentence": statement.sentence,
                "left_url": f"http://images.example.org/{image_name(split, pair_set, pair, 0)}",
                "writer": writer,
                "label": label,
                "right_url": f"http://images.example.org/{image_name(split, pair_set, pair, 1)}",
                "synset": kind,
                "query": f"{plural(kind)}{pair_set.id % 90}",
                "identifier": f"{split}-{pair_set.id}-{pair}-{sentence}",
            }
            if split == "train":
                line["directory"] = pair_set.directory
            else:
                agree = [label if stream.chance(0.95) else str(not labels[pair]) for _ in range(4)]
                line["extra_validations"] = {
                    str(200 + 10 * at + stream.below(10)): vote for at, vote in enumerate(agree)
                }
            lines.append(line)
    return lines


def write_nlvr2(world: World, raw: RawFolder) -> None:
    """The lines of train, dev and test1."""
    for split, sets in world.nlvr2.items():
        amount = world.spec["nlvr2"]["train_sentences" if split == "train" else "sentences"]
        lines = []
        for index, pair_set in enumerate(sets):
            stream = Stream(world.spec["seed"], "nlvr2 sentences", split, index)
            lines += set_lines(split, pair_set, stream, amount)
        raw.put_lines(f"nlvr2/data/{split}.json", (json.dumps(line) for line in lines))
