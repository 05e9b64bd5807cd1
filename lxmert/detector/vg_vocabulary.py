"""Object and attribute vocabularies counted in Visual Genome's raw files, aliases joined.

The published vocabularies (1,600 and 400) began like this and were then sorted by hand, so that nobody can
count them again; published weights need the published files. This is for detectors of one's own.

Source: bottom-up-attention's `data/genome/setup_vg.py`, whose rules of cleaning and counting these are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxmert.data.raw_json import list_records
from lxmert.detector.vg_data import Vocabulary, clean_attribute, clean_object, clean_string
from lxmert.errors import DataError


@dataclass(frozen=True)
class Counts:
    """How often each cleaned name occurs.

    Attributes:
        objects: first names of boxes, adjectives taken off.
        attributes: the first attribute of each record, and the adjectives taken off object names.
    """

    objects: Counter[str]
    attributes: Counter[str]


def count_names(raw: Path, images: set[str] | None = None) -> Counts:
    """Counts over `scene_graphs.json` and `attributes.json` of a `vg` folder, one image in memory at a time.

    Args:
        raw: the folder.
        images: count these images only; None counts all.

    Raises:
        DataError: a file is missing or malformed.
    """
    objects: Counter[str] = Counter()
    attributes: Counter[str] = Counter()
    for item in _items(raw / "scene_graphs.json", "objects", images):
        name, adjectives = clean_object(_first(item.get("names")))
        objects[name] += 1
        attributes.update(adjectives)
    for item in _items(raw / "attributes.json", "attributes", images):
        item = item.get("attribute", item)  # version 1.0 has one level more
        attributes.update(clean_attribute(_first(item.get("attributes"))))
    for counter in (objects, attributes):
        del counter[""]
    return Counts(objects, attributes)


def _items(path: Path, field: str, images: set[str] | None) -> Iterator[dict[str, Any]]:
    for number, record in enumerate(list_records(path)):
        if (
            not isinstance(record, dict)
            or "image_id" not in record
            or not isinstance(record.get(field), list)
        ):
            raise DataError(
                f"{path}: record {number} has no image_id or no list of {field}; fetch the file again."
            )
        if images is None or str(record["image_id"]) in images:
            for item in record[field]:
                if not isinstance(item, dict):
                    raise DataError(
                        f"{path}: image {record['image_id']}: {field} must be objects; fetch it again."
                    )
                yield item


def _first(names: Any) -> str:
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def join_aliases(counts: Counter[str], aliases: Vocabulary | None) -> dict[str, Counter[str]]:
    """Names by what they stand for: canonical name -> how often each of its spellings occurs.

    Args:
        counts: of cleaned names.
        aliases: a file in the form of a vocabulary: a class a line, its names between commas. A spelling of
            two lines belongs to the later one.
    """
    classes: dict[str, Counter[str]] = {}
    for name, number in counts.items():
        place = aliases.ids.get(name) if aliases is not None else None
        canonical = name if place is None or aliases is None else clean_string(aliases.names[place])
        classes.setdefault(canonical, Counter())[name] += number
    return classes


def vocabulary_lines(classes: dict[str, Counter[str]], size: int, least: int = 1) -> list[str]:
    """The commonest classes, a line each: the canonical name and the spellings met, with commas between.

    Args:
        classes: as `join_aliases` gives them.
        size: at most so many.
        least: rarer classes are left out.
    """
    totals = {name: sum(spellings.values()) for name, spellings in classes.items()}
    kept = sorted(
        (name for name in totals if totals[name] >= least and "," not in name), key=lambda n: (-totals[n], n)
    )
    return [",".join([name, *_others(name, classes[name])]) for name in kept[:size]]


def _others(name: str, spellings: Counter[str]) -> Iterable[str]:
    ordered = sorted(spellings, key=lambda spelling: (-spellings[spelling], spelling))
    return (spelling for spelling in ordered if spelling != name and "," not in spelling)
