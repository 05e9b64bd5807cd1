"""One name for a photograph, whatever data set shows it.

MS COCO numbers its images once for all its years; Visual Genome holds half of them under numbers of its own;
GQA calls COCO's test images `n<number>`. Splits can only be compared once all of them speak of `coco 42`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from lxmert.data.raw_json import list_records
from lxmert.errors import DataError
from lxmert.files import explain_os_error

_COCO = re.compile(r"COCO_[a-z0-9]+_(\d{12})$")
_GQA_TEST = re.compile(r"n(\d+)$")
# Image sets whose plain numbers are Visual Genome's.
GENOME_SETS = ("vg", "vg_gqa", "gqa_testdev")


def is_gqa_test_image(stem: str) -> bool:
    """Whether a name is GQA's for an image of COCO's test2014, such as n91."""
    return _GQA_TEST.match(stem) is not None


class Photographs:
    """Names of photographs.

    Args:
        twins: Visual Genome id -> COCO id, of the images that both hold.
    """

    def __init__(self, twins: Mapping[int, int] | None = None) -> None:
        self.twins = dict(twins or {})

    def of(self, key: str) -> str:
        """The photograph behind an image key: `coco 42` of `mscoco_val2014/COCO_val2014_000000000042`."""
        image_set, _, stem = key.partition("/")
        if match := _COCO.match(stem):
            return f"coco {int(match[1])}"
        if image_set not in GENOME_SETS:
            return key
        if match := _GQA_TEST.match(stem):
            return f"coco {int(match[1])}"
        if not stem.isdecimal():
            return key
        twin = self.twins.get(int(stem))
        return f"vg {int(stem)}" if twin is None else f"coco {twin}"

    def all_of(self, keys: Iterable[str]) -> frozenset[str]:
        """Photographs behind image keys, each once."""
        return frozenset(map(self.of, keys))


def read_twins(image_data: Path) -> dict[int, int]:
    """Visual Genome id -> COCO id, from `image_data.json`.

    Raises:
        DataError: the file is faulty.
    """
    twins = {}
    for number, record in enumerate(list_records(image_data)):
        try:
            genome, coco = record.get("image_id", record.get("id")), record.get("coco_id")
            if coco is not None and int(coco) >= 0:  # the driver prints -1 for none
                twins[int(genome)] = int(coco)
        except (AttributeError, TypeError, ValueError) as error:
            raise DataError(
                f"{image_data}: record {number}: no image id, or a COCO id that is no number."
                " Fetch the file again."
            ) from error
    return twins


def read_detector_list(path: Path, image_set: str) -> list[str]:
    """Image keys of a list of the detector's images: a line each, the image's path first.

    Raises:
        DataError: the file cannot be read or names nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise explain_os_error(error, path) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text at byte {error.start}. Fetch the file again.") from error
    keys = [f"{image_set}/{Path(line.split()[0]).name.partition('.')[0]}" for line in lines if line.strip()]
    if not keys:
        raise DataError(f"{path}: names no image. Fetch the file again.")
    return keys
