"""Examples on their way to a columns file: tokenised, their images looked up in the listings."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.data.columns import ColumnsWriter
from lxmert.data.images import read_listing
from lxmert.data.wordpiece import WordPieceTokenizer
from lxmert.errors import DataError
from lxmert.progress import track
from lxmert.tasks.missing_images import Missing, Rule
from lxmert.tasks.records import Place, equal_hashes

_CHUNK = 4096
SUBSET, MISSING = "subset", "missing"


@dataclass(slots=True)
class Example:
    """One question, sentence or caption about its image or images.

    Attributes:
        id: the publisher's id, unique in its split.
        text: as the raw file has it.
        images: image keys, "image_set/stem".
        answers: (answer id, score); empty where there is no label, or none in the vocabulary.
        type: the publisher's question type, if any.
        place: where it was read.
        source: number of the pretraining source.
    """

    id: str
    text: str
    images: tuple[str, ...]
    answers: list[tuple[int, float]]
    type: str
    place: Place
    source: int = 0


class Listings:
    """The images that exist, by key, over all image sets that were given."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.subsets: dict[str, int | None] = {}
        self._stems: dict[str, frozenset[str]] = {}
        for path in paths:
            listing = read_listing(path)
            name = listing["image_set"]
            self.subsets[name] = listing["subset"]
            try:
                self._stems[name] = frozenset(image["id"] for image in listing["images"])
            except (TypeError, KeyError) as error:
                raise DataError(f"{path}: an image has no id; make it with `lxmert list-images`.") from error

    def require(self, image_sets: Iterable[str]) -> None:
        """Checks that the listing of each image set was given.

        Raises:
            DataError: one was not.
        """
        for name in image_sets:
            if name not in self._stems:
                given = ", ".join(sorted(self._stems)) or "none"
                raise DataError(
                    f"--listings: image set {name} is needed and not among them (given: {given})."
                )

    def lacks(self, key: str) -> str | None:
        """None if the image exists; `SUBSET` if it was left out of one, else `MISSING`."""
        image_set, _, stem = key.partition("/")
        if stem in self._stems[image_set]:
            return None
        return MISSING if self.subsets[image_set] is None else SUBSET


class ExampleFile:
    """One columns file of examples being written; use as a context manager.

    Examples whose image was left out of a subset are dropped and counted; those whose image is nowhere
    go by the split's rule.

    Args:
        path: the file.
        listings: which images exist.
        tokenizer: the vocabulary.
        max_tokens: longest row of `input_ids`.
        meta: metadata; counts are added.
        images_per_example: 1 or 2.
        pretraining: write `source` instead of `id`, `text` and `type`.
        rule: what becomes of examples whose images are missing; by default they are an error.
    """

    def __init__(
        self,
        path: Path,
        listings: Listings,
        tokenizer: WordPieceTokenizer,
        max_tokens: int,
        meta: dict[str, Any],
        images_per_example: int = 1,
        pretraining: bool = False,
        rule: Rule = Rule(),  # noqa: B008 (frozen)
    ) -> None:
        kinds = (
            {"source": "uint8"} if pretraining else {"id": "strings", "text": "strings", "type": "strings"}
        )
        kinds |= {
            "input_ids": "ragged int32",
            "answer_ids": "ragged int32",
            "answer_scores": "ragged float32",
        }
        kinds |= {
            "image": "int32" if images_per_example == 1 else f"int32[{images_per_example}]",
            "images": "strings",
        }
        self.writer = ColumnsWriter(path, kinds, meta)
        self.count = self.dropped = self.answered = 0
        self.missing = Missing(rule)
        self._listings, self._tokenizer, self._max_tokens = listings, tokenizer, max_tokens
        self._pretraining = pretraining
        self._numbers: dict[str, int] = {}  # image key -> number in order of appearance
        self._waiting: list[Example] = []

    def __enter__(self) -> ExampleFile:
        self.writer.__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                self._finish()
        except BaseException as failure:
            self.writer.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self.writer.__exit__(kind, error, trace)

    @property
    def images(self) -> int:
        """Distinct images so far."""
        return len(self._numbers)

    @property
    def read(self) -> int:
        """Examples that were added or left out so far."""
        left_out = 0 if self.missing.rule.answered else self.missing.examples
        return self.count + self.dropped + left_out

    def add(self, example: Example) -> bool:
        """Adds an example; False if it is left out, as an image of it is none of a subset or missing.

        Raises:
            DataError: its image is missing, and the split may not lack one.
        """
        lacking = {key: why for key in example.images if (why := self._listings.lacks(key))}
        if SUBSET in lacking.values():
            self.dropped += 1
            return False
        if lacking and not self.missing.add(example.place, example.id, list(lacking)):
            return False
        for key in example.images:
            self._numbers.setdefault(key, len(self._numbers))
        self.count += 1
        self.answered += bool(example.answers)
        self._waiting.append(example)
        if len(self._waiting) == _CHUNK:
            self._flush()
        return True

    def _flush(self) -> None:
        rows, self._waiting = self._waiting, []
        if not rows:
            return
        self.writer.append(
            input_ids=self._tokenizer.encode([row.text for row in rows], self._max_tokens),
            image=[[self._numbers[key] for key in row.images] for row in rows],
            answer_ids=[[answer for answer, _ in row.answers] for row in rows],
            answer_scores=[[score for _, score in row.answers] for row in rows],
        )
        if self._pretraining:
            self.writer.append(source=[row.source for row in rows])
        else:
            self.writer.append(
                id=[row.id for row in rows], text=[row.text for row in rows], type=[row.type for row in rows]
            )

    def check(self) -> None:
        """Nothing, or an error if more examples lack their images than may.

        Raises:
            DataError: with the figures.
        """
        self.missing.check(str(self.writer.meta.get("split", self.writer.path.stem)), self.count)

    def _finish(self) -> None:
        self.check()
        self._flush()
        keys = sorted(self._numbers)
        ranks = np.empty(len(keys), np.int32)
        ranks[[self._numbers[key] for key in keys]] = np.arange(len(keys), dtype=np.int32)
        self.writer.change("image", lambda numbers: ranks[numbers])
        self.writer.append(images=keys)
        self.writer.meta |= {
            "count": self.count,
            "image_count": len(keys),
            "dropped": self.dropped,
            "answered": self.answered,
            **self.missing.meta(),
        }


def write_examples(read: Callable[[], Iterator[Example]], file: ExampleFile, label: str) -> None:
    """Writes all examples of a split.

    Args:
        read: gives the examples, again from the start each time it is called.
        file: where they go; entered and left here.
        label: for the progress line.

    Raises:
        DataError: an id occurs twice, an image is unknown, a raw file is faulty.
    """
    hashes = array("q")
    with file:
        for example in track(read(), None, "examples", label):
            hashes.append(hash(example.id))
            file.add(example)
        _check_distinct(hashes, read)


def _check_distinct(hashes: array[int], read: Callable[[], Iterator[Example]]) -> None:
    first: dict[str, Place] = {}
    examples, at = read(), 0
    for number in equal_hashes(hashes):  # perhaps equal by chance, so their ids are read again
        example = next(islice(examples, number - at, None))
        at = number + 1
        if example.id in first:
            raise DataError(
                f"{example.place}: id {example.id} occurs twice, first at {first[example.id]}."
                " Fetch the file again."
            )
        first[example.id] = example.place
