"""How many photographs of each evaluated split training has seen: the table, and the verdict.

A split whose figures are printed as results may share no photograph with the sentences or answers that the
same weights learnt from. With the detector's boxes it may: LXMERT's minival does; GQA's authors warn of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lxmert.progress import count

DETECTOR, PRETRAINING, FINE_TUNING = "detector", "pretraining", "fine-tuning"
STAGES = (DETECTOR, PRETRAINING, FINE_TUNING)


@dataclass(frozen=True)
class Seen:
    """What a stage of training has seen.

    Attributes:
        stage: one of `STAGES`.
        what: in words, for the table's foot.
        has: whether it has seen the photograph behind an image key.
    """

    stage: str
    what: str
    has: Callable[[str], bool]


@dataclass(frozen=True)
class Evaluated:
    """A split that is answered or scored.

    Attributes:
        task: its task.
        split: its name.
        keys: its images, one key a photograph.
        headline: whether it is scored here as unseen. What servers score may hold known photographs (GQA's
            submission answers its validation questions too), and so may a split whose score says so itself.
        seen: what the task's weights have seen, by stage.
    """

    task: str
    split: str
    keys: Sequence[str]
    headline: bool
    seen: Sequence[Seen] = field(repr=False)


@dataclass(frozen=True)
class Row:
    """A line of the table: `shared` counts photographs by stage; a stage that was left out has none."""

    task: str
    split: str
    photographs: int
    headline: bool
    shared: Mapping[str, int]

    @property
    def leaks(self) -> list[str]:
        """Stages that learnt from photographs of a split that is scored as unseen; the detector's may."""
        if not self.headline:
            return []
        return [stage for stage in (PRETRAINING, FINE_TUNING) if self.shared.get(stage)]

    def to_json(self) -> dict[str, Any]:
        """The line as it is written."""
        return {
            "task": self.task,
            "split": self.split,
            "photographs": self.photographs,
            "headline": self.headline,
            "shared": dict(self.shared),
            "leaks": self.leaks,
        }


def overlap(splits: Sequence[Evaluated]) -> list[Row]:
    """The table, a row a split."""
    return [
        Row(
            split.task,
            split.split,
            len(split.keys),
            split.headline,
            {seen.stage: sum(map(seen.has, split.keys)) for seen in split.seen},
        )
        for split in splits
    ]


def table_lines(rows: Sequence[Row], notes: Mapping[str, str]) -> list[str]:
    """The table as people read it: how many photographs of each split every stage has seen.

    Args:
        rows: of `overlap`.
        notes: stage -> what it has seen, in words.
    """
    cells = [["split", "photographs", *STAGES, "verdict"]]
    for row in rows:
        shared = [_share(row.shared.get(stage), row.photographs) for stage in STAGES]
        cells.append([f"{row.task} {row.split}", count(row.photographs), *shared, _verdict(row)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(_padded(line, widths)).rstrip() for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return [*lines, "", *(f"{stage}: {text}" for stage, text in notes.items())]


def _padded(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    last = len(cells) - 1
    return [
        cell.ljust(width) if number in (0, last) else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]


def _share(number: int | None, total: int) -> str:
    if number is None:
        return "–"
    return f"{count(number)} ({100 * number / max(total, 1):.1f} %)" if number else "0"


def _verdict(row: Row) -> str:
    if row.leaks:
        return f"LEAKS from {' and '.join(row.leaks)}"
    most = max(row.shared.get(stage, 0) for stage in STAGES[1:])
    if not most:
        return "seen by the detector alone" if row.shared.get(DETECTOR) else "disjoint"
    return "learnt from" if most == row.photographs else "in part learnt from"
