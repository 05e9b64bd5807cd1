"""Examples whose images are nowhere: what becomes of them in each split, and what a person is told.

Training goes without a few, since archives lack images, and addresses die. Who answers a split may not: a
leaderboard wants an answer to everything. There it is an error, unless config says that such examples are
answered all the same, as if their images were blank.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lxmert.errors import DataError
from lxmert.files import atomic_write_json
from lxmert.progress import count

log = logging.getLogger(__name__)

STOP, ANSWER = "stop", "answer"
REPORT = "missing.json"


@dataclass(frozen=True)
class Rule:
    """What becomes of such examples of one split.

    Attributes:
        limit: the largest share of them that is left out; None where none may be.
        answered: whether they stay, to be answered without their images.
    """

    limit: float | None = None
    answered: bool = False


def rule_of(spec: Mapping[str, Any], split: str) -> Rule:
    """The rule of a split by a job spec: `missing_images: {train: {SPLIT: LIMIT}, evaluated: answer}`."""
    settings = spec.get("missing_images", {})
    limit = settings.get("train", {}).get(split)
    return Rule(limit, answered=limit is None and settings.get("evaluated", STOP) == ANSWER)


def with_own_rules(
    spec: Mapping[str, Any], trained: Sequence[str], limit: float | None, evaluated: str | None
) -> dict[str, Any]:
    """A job spec with a person's own rules in place of its own.

    Args:
        spec: the job spec.
        trained: the training splits, if the spec names none.
        limit: the largest share that may be left out of each of them; None for the spec's own.
        evaluated: what becomes of such examples in other splits; None for the spec's own.
    """
    settings = dict(spec.get("missing_images", {}))
    if limit is not None:
        settings["train"] = dict.fromkeys(settings.get("train") or trained, limit)
    if evaluated is not None:
        settings["evaluated"] = evaluated
    return {**spec, "missing_images": settings}


@dataclass
class Missing:
    """Such examples of one split as they come."""

    rule: Rule
    examples: int = 0
    images: set[str] = field(default_factory=set)
    _first: str = ""

    def add(self, place: object, name: str, lacking: list[str]) -> bool:
        """Counts an example; True if it stays.

        Args:
            place: where it stands.
            name: its id.
            lacking: keys of its missing images.

        Raises:
            DataError: its split may not lack an image.
        """
        image_set, _, stem = lacking[0].partition("/")
        text = f"{place}: image {stem} of question {name} is not in image set {image_set}."
        if self.rule.limit is None and not self.rule.answered:
            raise DataError(
                f"{text} Complete its images or features, or set missing_images: {{evaluated:"
                f" {ANSWER}}} in config.yaml to have such questions answered without their images."
            )
        self._first = self._first or text
        self.examples += 1
        self.images.update(lacking)
        return self.rule.answered

    def check(self, split: str, kept: int) -> None:
        """Nothing, or an error if more are left out than may be.

        Args:
            split: its name, for messages.
            kept: examples that stay.

        Raises:
            DataError: with both figures and the first example.
        """
        limit, total = self.rule.limit, self.examples + kept
        if limit is None or self.examples <= limit * total:
            return
        enough = min(1.0, math.ceil(100 * self.examples / total) / 100)
        raise DataError(
            f"{self._first} {count(len(self.images))} images of {split} are missing:"
            f" {count(self.examples)} of {count(total)} examples ({_percent(self.examples / total)}) would be"
            f" left out, and {_percent(limit)} may. Complete the images or features, or set"
            f" missing_images: {{train: {enough}}} in config.yaml."
        )

    def meta(self) -> dict[str, Any]:
        """What the file of examples says of them; nothing where there are none."""
        if not self.examples:
            return {}
        if self.rule.answered:
            return {"unseen": self.examples, "absent_images": sorted(self.images)}
        return {"left_out": self.examples}

    def tell(self, split: str, kept: int) -> None:
        """Logs one line, if there are any."""
        if not self.examples:
            return
        total = kept if self.rule.answered else kept + self.examples
        fate = "are answered without their images" if self.rule.answered else "are left out"
        log.warning(
            "%s: %s of %s examples (%s) %s: %s images are missing, first %s",
            split,
            count(self.examples),
            count(total),
            _percent(self.examples / total),
            fate,
            count(len(self.images)),
            min(self.images),
        )


def write_report(found: Mapping[str, tuple[Missing, int]], folder: Path) -> None:
    """Writes `missing.json`, by split, beside the examples; nothing where no image is missing.

    Args:
        found: split -> what it lacks, and how many examples stay.
        folder: of the examples.
    """
    report = {
        split: {
            "examples": kept if missing.rule.answered else kept + missing.examples,
            "answered_without_images" if missing.rule.answered else "left_out": missing.examples,
            "limit": missing.rule.limit,
            "images": sorted(missing.images),
        }
        for split, (missing, kept) in found.items()
        if missing.examples
    }
    if report:
        atomic_write_json(folder / REPORT, report)
    else:
        (folder / REPORT).unlink(missing_ok=True)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
