"""Splits that a task leaves out unless config.yaml names them (`further_splits`, `train_on`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from lxmert.errors import suggest

Document = dict[str, Any]


def split_mistakes(
    task: Document, wanted: Sequence[str], corpus: Document, featureless: Collection[str]
) -> Iterator[str]:
    """What is wrong with naming these further splits of a task.

    Args:
        task: its document.
        wanted: the named splits.
        corpus: the document of the corpus.
        featureless: image sets whose features nobody published, if published ones are read.
    """
    further = further_splits(task)
    for split in wanted:
        if split not in further:
            yield f'unknown further split "{split}".{suggest(split, further)}'
        else:
            yield from _unreadable(task, split, corpus, featureless)


def training_mistakes(
    task: Document, named: Sequence[str], corpus: Document, featureless: Collection[str]
) -> Iterator[str]:
    """What is wrong with training on these splits of a task; arguments as above."""
    labelled = [split for split, part in task["splits"].items() if part["labelled"]]
    for split in named:
        if split not in labelled:
            yield f'unknown split "{split}" with answers to learn from.{suggest(split, labelled)}'
        elif split == task["select_on"]:
            yield f"the best weights are selected on {split}, so they may not learn from it. Leave it out."
        else:
            yield from _unreadable(task, split, corpus, featureless)


def _unreadable(task: Document, split: str, corpus: Document, featureless: Collection[str]) -> Iterator[str]:
    part, held = task["splits"][split], corpus["further_splits"]
    if part.get("further") and held is not None and split not in held.get(task["task"], []):
        yield f"corpus {corpus['corpus']} has no {split}; leave it out."
    elif part["image_set"] in featureless:
        yield f"nobody published features of {split}; set features: extract."


def with_splits(task: Document, wanted: Sequence[str], trained: Sequence[str]) -> Document:
    """The document without its further splits, but for those that are wanted.

    Args:
        task: the document.
        wanted: further splits to keep and to answer.
        trained: splits to train on instead of its own choice, if any; further ones are kept.
    """
    more: Document = {"predict_on": [*task["predict_on"], *wanted]} if wanted else {}
    if trained:
        more["train_on"] = list(trained)
    kept = [*wanted, *trained]
    found = {**task, "splits": _chosen(task["splits"], kept), **more}
    if "splits" in task.get("published", {}):
        published = task["published"]
        found["published"] = {**published, "splits": _chosen(published["splits"], kept)}
    return found


def _chosen(splits: Document, kept: Sequence[str]) -> Document:
    return {
        split: {key: value for key, value in part.items() if key != "further"}
        for split, part in splits.items()
        if split in kept or not part.get("further")
    }


def further_splits(task: Document) -> list[str]:
    """The splits that a document leaves out."""
    return [split for split, part in task["splits"].items() if part.get("further")]
