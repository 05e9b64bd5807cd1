"""Images of the aggregated pretraining set, and which of COCO's and Visual Genome's are one photograph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lxmert.data.raw_json import list_records
from lxmert.errors import DataError
from lxmert.tasks import vqa
from lxmert.tasks.composition import MINIVAL
from lxmert.tasks.records import field, numbered

SPLITS = ("train", "valid")


class Images:
    """Which image a COCO or Visual Genome id stands for, and in which split it is."""

    def __init__(self, raw: Path, task: dict[str, Any]) -> None:
        self._sets: dict[str, str] = task["image_sets"]
        minival = vqa.read_image_ids(raw, task["minival_ids"])
        assert minival is not None
        coco: dict[int, str] = {}
        for subset, name in task["captions"].items():
            path = raw / name
            for place, record in numbered(list_records(path, "images"), path):
                coco[field(record, "id", int, place)] = self.coco_key(subset, record["id"])
        self._valid = {self.coco_key("val2014", number) for number in minival}
        absent = sorted(self._valid - set(coco.values()))
        if absent:
            raise DataError(
                f"{raw / task['minival_ids']}: {len(absent)} images are not in COCO val2014,"
                f" first: {absent[0]}. Put the list of this corpus there."
            )
        self._genome, images = _twins(raw / task["image_data"], coco)
        self._genome_set = self._sets["genome"]
        self._in_both = {key for key in self._genome.values() if key is not None}
        self._coco = len(coco)
        self._genome_only = images - len(self._genome)

    def coco_key(self, subset: str, number: int) -> str:
        """Key of a COCO image."""
        return vqa.image_key(self._sets[subset], number)

    def genome_key(self, number: int) -> str | None:
        """Key of a Visual Genome image: its COCO twin's, or its own."""
        return self._genome.get(number, f"{self._genome_set}/{number}")

    def split(self, key: str) -> str:
        """The split an image belongs to."""
        return "valid" if key in self._valid else "train"

    def part(self, key: str) -> str:
        """LXMERT's file that an image is in."""
        if key in self._valid:
            return MINIVAL
        image_set = key.partition("/")[0]
        if image_set == self._genome_set:
            return "vgnococo"
        return "mscoco_train" if image_set == self._sets["train2014"] else "mscoco_nominival"

    def group(self, key: str) -> str:
        """Which data sets hold an image."""
        if key.partition("/")[0] == self._genome_set:
            return "genome_only"
        return "both" if key in self._in_both else "coco_only"

    def counts(self) -> dict[str, int]:
        """Images of each group."""
        both = len(self._in_both)
        return {"coco_only": self._coco - both, "both": both, "genome_only": self._genome_only}


def _twins(path: Path, coco: dict[int, str]) -> tuple[dict[int, str | None], int]:
    """Visual Genome id -> key of its COCO twin, or None if another image speaks for it; and its size."""
    twins: dict[int, str | None] = {}
    speaker: dict[int, int] = {}  # COCO id -> the Visual Genome image that speaks for it
    images = 0
    for place, record in numbered(list_records(path), path):
        images += 1
        number = field(record, "image_id" if "image_id" in record else "id", int, place)
        coco_id = record.get("coco_id")
        if coco_id not in coco:  # also null, and -1 as the driver prints it
            continue
        if coco_id in speaker:
            twins[speaker[coco_id]] = None
        speaker[coco_id] = number
        twins[number] = coco[coco_id]
    return twins, images
