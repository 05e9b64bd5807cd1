"""Images of example panels, and the regions on them that matter to a question."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lxmert.data.images import read_listing
from lxmert.data.region_store import RegionStore
from lxmert.errors import DataError
from lxmert.files import explain_os_error
from lxmert.report.drawing import Box, draw_boxes, open_image
from lxmert.types import Regions

_SAME_PLACE = 0.5  # two boxes that overlap more show one thing
_SURE_OBJECT, _SURE_ATTRIBUTE = 0.3, 0.2
_LIKELY_OBJECT = 0.15  # enough where the words name it
_WORD = re.compile(r"[a-z0-9]+")


def read_names(path: Path | None) -> list[str]:
    """Class names, one a line, the first of each line's synonyms; none where no file is given.

    Raises:
        DataError: the file is missing or not text.
    """
    if path is None:
        return []
    try:
        return [line.partition(",")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise explain_os_error(error, path) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text at byte {error.start}. Fetch the file again.") from error


class ImageDrawer:
    """Draws images by key with the regions that matter to some words.

    Args:
        listings: of the image sets; one that is not listed cannot be drawn.
        features: region stores; without its store an image is drawn bare.
        objects: object names, position = id.
        attributes: attribute names, position = id.
    """

    def __init__(
        self,
        listings: Sequence[Path],
        features: Sequence[Path],
        objects: Sequence[str] = (),
        attributes: Sequence[str] = (),
    ) -> None:
        self._listings = {path.stem: path for path in listings}
        self._stores = {path.stem: RegionStore(path) for path in features}
        self._objects, self._attributes = objects, attributes
        self._files: dict[str, Path] = {}

    def look_up(self, keys: Iterable[str]) -> None:
        """Finds the files of some images; each listing is read once and not kept.

        Raises:
            DataError: a listing is faulty, or lacks an image.
        """
        wanted: dict[str, set[str]] = {}
        for key in keys:
            image_set, _, stem = key.partition("/")
            if image_set in self._listings and key not in self._files:
                wanted.setdefault(image_set, set()).add(stem)
        for image_set, stems in sorted(wanted.items()):
            path = self._listings[image_set]
            listing = read_listing(path)
            folder = Path(listing["folder"])
            for image in listing["images"]:
                if image["id"] in stems:
                    self._files[f"{image_set}/{image['id']}"] = folder / image["file"]
            for stem in sorted(stems):
                if f"{image_set}/{stem}" not in self._files:
                    raise DataError(f"{path}: lists no image {stem} of the examples. List the images again.")

    def draw(self, key: str, words: str, side_px: int, most_boxes: int = 4) -> Image.Image | None:
        """An image that was looked up, with boxes; None where its image set has no listing."""
        if key not in self._files:
            return None
        image_set, _, stem = key.partition("/")
        store = self._stores.get(image_set)
        boxes: list[Box] = []
        exif = "apply"
        if store is not None and stem in store:
            exif = store.schema.profile.get("image", {}).get("exif", exif)
            regions = store.regions(stem)
            boxes = [self._box(regions, place) for place in self._relevant(regions, words, most_boxes)]
        return draw_boxes(open_image(self._files[key], exif), boxes, side_px)

    def _box(self, regions: Regions, place: int) -> Box:
        x1, y1, x2, y2 = (float(value) for value in regions.boxes_px[place])
        return Box((x1, y1, x2, y2), " ".join(self._words(regions, place)))

    def _words(self, regions: Regions, place: int) -> list[str]:
        """The attribute, if it is likely, and the object of a region."""
        words = []
        if regions.attribute_scores[place] >= _SURE_ATTRIBUTE:
            words.append(_name(self._attributes, int(regions.attribute_ids[place]), "attribute"))
        words.append(_name(self._objects, int(regions.object_ids[place]), "object"))
        return words

    def _relevant(self, regions: Regions, words: str, most: int) -> list[int]:
        """Regions that the words name, then the surest others, one for each place on the image."""
        said = _stems(words)
        ranks: list[tuple[int, float, int]] = []
        for place in range(len(regions)):
            *attribute, name = self._words(regions, place)
            named = 2 * bool(_stems(name) & said) + bool(_stems(" ".join(attribute)) & said)
            score = float(np.nan_to_num(regions.object_scores[place]))
            if score >= (_LIKELY_OBJECT if named >= 2 else _SURE_OBJECT):
                ranks.append((-named, -score, place))
        chosen: list[int] = []
        for _, _, place in sorted(ranks):
            box = regions.boxes_px[place]
            if len(chosen) < most and all(_overlap(box, regions.boxes_px[c]) < _SAME_PLACE for c in chosen):
                chosen.append(place)
        return chosen


def _name(names: Sequence[str], number: int, kind: str) -> str:
    return names[number] if 0 <= number < len(names) else f"{kind} {number}"


def _stems(text: str) -> set[str]:
    """The words of a text, in lower case and without a plural's ending."""
    return {word.removesuffix("es") if word.endswith(("xes", "shes", "sses")) else word.removesuffix("s")
            for word in _WORD.findall(text.lower())}  # fmt: skip


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0.0)))
    areas = float(np.prod(one[2:] - one[:2])) + float(np.prod(other[2:] - other[:2]))
    return shared / max(areas - shared, 1e-9)
