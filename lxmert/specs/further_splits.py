"""Splits that a task leaves out unless config.yaml names them (`further_splits`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from lxmert.errors import suggest

Document = dict[str, Any]


def split_mistakes(
    task: Document, wanted: Sequence[str], corpus: Document, featureless: Collection[str]
) -> Iterator[str]:
    """What is wrong with naming these splits of a task.

    Args:
        task: its document.
        wanted: the named splits.
        corpus: the document of the corpus.
        featureless: image sets whose features nobody published, if published ones are read.
    """
    further = _further(task)
    for split in wanted:
        if split not in further:
            yield f'unknown further split "{split}".{suggest(split, further)}'
        elif corpus["raw"] != "assets":
            yield f"corpus {corpus['corpus']} has no {split}; leave it out."
        elif task["splits"][split]["image_set"] in featureless:
            yield f"nobody published features of {split}; set features: extract."


def with_splits(task: Document, wanted: Sequence[str]) -> Document:
    """The document without its further splits, but for those that are wanted, which are answered too."""
    splits = {
        split: {key: value for key, value in part.items() if key != "further"}
        for split, part in task["splits"].items()
        if split in wanted or not part.get("further")
    }
    more = {"predict_on": [*task["predict_on"], *wanted]} if wanted else {}
    return {**task, "splits": splits, **more}


def _further(task: Document) -> list[str]:
    return [split for split, part in task["splits"].items() if part.get("further")]
