"""What the aggregated pretraining set is made of, by source and part, beside what was published of it.

LXMERT's four files are called `mscoco_train`, `mscoco_nominival`, `mscoco_minival` and `vgnococo`. How they
were made was never published; a rebuilt set is believed when its counts agree with the paper's table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lxmert.progress import count

MINIVAL = "mscoco_minival"
PARTS = ("mscoco_train", "mscoco_nominival", "vgnococo", MINIVAL)
# Images of MS COCO that Visual Genome lacks, that it has too, and those that only it has.
GROUPS = ("coco_only", "both", "genome_only")


class Composition:
    """Sentences by source, part and group of images.

    Args:
        sources: names, in order.
        images: how many images each group has.
    """

    def __init__(self, sources: Sequence[str], images: Mapping[str, int]) -> None:
        self.sources, self.images = list(sources), dict(images)
        self.parts: Counter[tuple[str, str]] = Counter()
        self.groups: Counter[tuple[str, str]] = Counter()

    def add(self, source: str, part: str, group: str) -> None:
        """Counts a sentence."""
        self.parts[source, part] += 1
        self.groups[source, group] += 1

    @property
    def training(self) -> int:
        """Sentences outside minival."""
        return sum(number for (_, part), number in self.parts.items() if part != MINIVAL)

    def to_json(self) -> dict[str, Any]:
        """All of it, for the folder of examples."""
        return {
            "images": self.images,
            "training": self.training,
            "parts": {name: {part: self.parts[name, part] for part in PARTS} for name in self.sources},
            "groups": {name: {group: self.groups[name, group] for group in GROUPS} for name in self.sources},
        }

    def lines(self) -> Iterator[str]:
        """The table of sources and parts, for the log."""
        yield f"{'source':10s}" + "".join(f"{part:>18s}" for part in PARTS)
        for name in self.sources:
            yield f"{name:10s}" + "".join(f"{count(self.parts[name, part]):>18s}" for part in PARTS)
        totals = [sum(self.parts[name, part] for name in self.sources) for part in PARTS]
        yield f"{'all':10s}" + "".join(f"{count(total):>18s}" for total in totals)

    def deviations(self, published: Mapping[str, Any]) -> list[str]:
        """What differs from the published composition by more than it may, in words; empty if all agrees.

        Args:
            published: `images` by group, `sentences` by source and group, `within` (a share) of both;
                `training`: `least`, `most`, `within`.
        """
        wrong = []
        for group, wanted in published["images"].items():
            wrong += _far(f"images {group}", self.images[group], wanted, wanted, published["within"])
        for name, groups in published["sentences"].items():
            for group in GROUPS:
                wanted = groups.get(group, 0)
                wrong += _far(
                    f"{name} {group}", self.groups[name, group], wanted, wanted, published["within"]
                )
        span = published["training"]
        return wrong + _far("training", self.training, span["least"], span["most"], span["within"])


def _far(what: str, found: int, least: int, most: int, within: float) -> list[str]:
    if least * (1 - within) <= found <= most * (1 + within):
        return []
    wanted = count(least) if least == most else f"{count(least)} to {count(most)}"
    return [f"{what} {count(found)}, published {wanted}"]
