"""Your own data as a whole: its lines, the ids of their images, and the split of each image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxmert.custom.folder import ImageFolder, find_images
from lxmert.custom.lines import SPLITS, Line, read_lines
from lxmert.custom.splits import assign_splits
from lxmert.errors import DataError, SpecError


@dataclass(frozen=True)
class OwnData:
    """A file of examples and its images.

    Attributes:
        path: the file.
        lines: all of it.
        images: image ids of each line.
        splits: image id -> split.
        folder: the image folder.
    """

    path: Path
    lines: list[Line]
    images: list[tuple[str, ...]]
    splits: dict[str, str]
    folder: ImageFolder

    def questions(self, split: str) -> Iterator[tuple[Line, tuple[str, ...]]]:
        """(line, image ids) of the questions of a split, in the order of the file."""
        for line, ids in zip(self.lines, self.images, strict=True):
            if line.question is not None and self.splits[ids[0]] == split:
                yield line, ids


def read_own_data(path: Path, images: Path, spec: Mapping[str, Any]) -> OwnData:
    """Reads and checks a file of examples.

    Args:
        path: JSON lines.
        images: folder of the images.
        spec: `seed`, `shares`, `images_per_example` (1 or 2), `test_answers`.

    Raises:
        DataError: something is wrong with a line, or with all of them together.
    """
    lines = read_lines(path)
    wanted, found = spec["images_per_example"], len(lines[0].images)
    if found != wanted:
        task = {1: "custom_qa", 2: "custom_pairs"}[found]
        raise DataError(
            f"{path}: its lines have {'one image' if found == 1 else 'two images'} each."
            f" Set tasks: [{task}] in config.yaml."
        )
    folder = ImageFolder(images)
    ids = find_images(folder, lines, path)
    splits = assign_splits(lines, ids, spec["shares"], spec["seed"], path)
    data = OwnData(path, lines, ids, splits, folder)
    _check_splits(data, bool(spec["test_answers"]))
    return data


def _check_splits(data: OwnData, test_answers: bool) -> None:
    for split in SPLITS:
        count = 0
        for line, _ in data.questions(split):
            count += 1
            if line.answers is None and (split != "test" or test_answers):
                remedy = "set custom/test_answers: false" if split == "test" else 'move it to "split": "test"'
                raise DataError(
                    f"{data.path}:{line.number}: a question of split {split} without an answer."
                    f" Add the answer, or {remedy}."
                )
        if not count:
            named = "" if data.lines[0].split is None else f', or name "split": "{split}" in some lines'
            raise DataError(
                f"{data.path}: no example is left for split {split} ({len(data.splits)} images)."
                f" Change custom/shares{named}."
            )


def own_data_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a job spec that reading needs, checked.

    Raises:
        SpecError: the shares leave nothing to train on.
    """
    shares = spec["shares"]
    if shares["valid"] + shares["test"] >= 1:
        raise SpecError("custom/shares: valid and test leave nothing to train on; together give less than 1.")
    return {name: spec[name] for name in ("seed", "shares", "images_per_example", "test_answers")}
