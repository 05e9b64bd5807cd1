"""Your own data (`corpus: custom`): its settings, checked and laid over the corpus document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxmert.specs.documents import merge

Document = dict[str, Any]

# Raw files are made of your own (corpus document: `raw: own`).
OWN = "own"
# Weights that you name, as a choice between training here and fetching.
GIVEN = "given"
# Recipe and extraction profile of a detector size other than the corpus's, where config names none.
_DETECTORS = {"full": {"recipe": "vg", "profile": "lxmert-36"}}


def own_mistakes(settings: Document, shares_path: str = "custom/shares") -> Iterator[tuple[str, str]]:
    """(path in config.yaml, what is wrong) of everything that can be seen before anything is read."""
    for name, what in (("images", "the folder of your images"), ("examples", "your file of JSON lines")):
        if name not in settings:
            yield f"custom/{name}", f"missing; name {what}."
    if not settings["detector"]:
        yield (
            "custom/detector",
            "missing; region features need one. Give {train: boxes} to train it on your boxes, or {weights:"
            " FILE}.",
        )
    if "weights" in settings and "vocabulary" not in settings:
        yield "custom/vocabulary", "missing; name the vocab.txt that custom/weights were trained with."
    if "answers" in settings and "weights" not in settings:
        yield "custom/weights", "missing; custom/answers are of no use without the weights they belong to."
    if sum(settings["shares"].values()) >= 1:
        yield shares_path, "valid and test leave nothing to train on; together give less than 1."
    if "images" in settings and not Path(settings["images"]).is_dir():
        yield "custom/images", f"{settings['images']}: no such folder."
    detector = {f"detector/{key}": value for key, value in settings["detector"].items()}
    for name in ("examples", "weights", "vocabulary", "answers", "detector/weights"):
        file = {**settings, **detector}.get(name)
        if file is not None and not Path(file).is_file():
            yield f"custom/{name}", f"{file}: no such file."


def lay_own_over(corpus: Document, settings: Document) -> Document:
    """The corpus document with the settings of your own data."""
    detector = settings["detector"]
    size = detector.get("size", corpus["detector"]["size"])
    chosen = {**_DETECTORS.get(size, {}), **detector}
    over: Document = {
        "detector": {key: chosen[key] for key in ("size", "recipe") if key in chosen},
        "min_answer_count": settings["min_answer_count"],
        "init": "pretrained" if "weights" in settings else corpus["init"],
    }
    if "profile" in chosen:
        over["profile"] = chosen["profile"]
    merged: Document = merge(corpus, over)
    if "vocabulary" in settings:
        merged["vocabulary"] = {"asset": f"{OWN}/vocab.txt", "size": None, "texts": []}
    if "size" in settings:
        merged["systems"] = {
            name: entry if entry["size"] == settings["size"] else {"size": settings["size"], "recipes": {}}
            for name, entry in corpus["systems"].items()
        }
    return merged
