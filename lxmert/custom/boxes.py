"""Your boxes in Visual Genome's form, from which the detector learns."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from lxmert.custom.data import OwnData
from lxmert.custom.lines import Box
from lxmert.detector.vg_data import clean_attribute, clean_object, clean_string
from lxmert.errors import DataError
from lxmert.files import atomic_write_json, atomic_write_text

# Boxes drawn by hand reach over the edge a little.
_TOLERANCE_PX = 1.0
# A vocabulary has at least one line.
NO_ATTRIBUTE = "no attribute"
_SPLIT_FOLDER = "images"
FILES = (
    *("scene_graphs.json", "attributes.json", "image_data.json", "objects_vocab.txt", "attributes_vocab.txt"),
    *("splits/train.txt", "splits/val.txt", "splits/test.txt"),
)


def collect_boxes(data: OwnData) -> dict[str, dict[Box, int]]:
    """Image id -> its boxes, each once, with the line that brought it."""
    found: dict[str, dict[Box, int]] = {}
    for line, ids in zip(data.lines, data.images, strict=True):
        for image_id, boxes in zip(ids, line.boxes, strict=True):
            for box in boxes:
                found.setdefault(image_id, {}).setdefault(box, line.number)
    return dict(sorted(found.items()))


def write_boxes(data: OwnData, boxes: dict[str, dict[Box, int]], out: Path) -> dict[str, int]:
    """Writes objects, attributes, image sizes, splits and vocabularies.

    Args:
        data: what was read.
        boxes: as `collect_boxes` gives them.
        out: the `vg` folder of the raw files.

    Returns:
        Counts: images, boxes, labels, attributes.

    Raises:
        DataError: a box leaves its image, an image cannot be read, or a split has no box.
    """
    labels: Counter[str] = Counter()
    said: Counter[str] = Counter()
    objects, attributes, images = [], [], []
    number = 0
    for image_id, found in boxes.items():
        width, height = _image_size(data.folder.path(image_id))
        rows, texts = [], []
        for box, line in found.items():
            number += 1
            x, y, w, h = _inside(box, width, height, f"{data.path}:{line}")
            label, words = class_name(box.label), attribute_names(box)
            labels[label] += 1
            said.update(words)
            rows.append({"object_id": number, "names": [label], "x": x, "y": y, "w": w, "h": h})
            texts.append({"object_id": number, "attributes": words})
        objects.append({"image_id": image_id, "objects": rows})
        attributes.append({"image_id": image_id, "attributes": texts})
        images.append({"image_id": image_id, "width": width, "height": height})
    for name, value in (("scene_graphs", objects), ("attributes", attributes), ("image_data", images)):
        atomic_write_json(out / f"{name}.json", value)
    _write_vocabulary(out / "objects_vocab.txt", labels)
    _write_vocabulary(out / "attributes_vocab.txt", said or Counter([NO_ATTRIBUTE]))
    _write_splits(data, list(boxes), out / "splits")
    return {"images": len(images), "boxes": number, "labels": len(labels), "attributes": len(said)}


def class_name(label: str) -> str:
    """A label as the vocabulary has it: lower case, no comma, whole where VG's reader would part it."""
    name = clean_string(" ".join(label.replace(",", " ").split()))
    return name if clean_object(name)[0] == name else name.replace(" ", "-")


def attribute_names(box: Box) -> list[str]:
    """The attributes of a box as the vocabulary has them."""
    texts = (" ".join(text.replace(",", " ").split()) for text in box.attributes)
    return list(dict.fromkeys(part for text in texts for part in clean_attribute(text) if part))


def _image_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # stored on its side
            return (image.height, image.width) if turned else image.size
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error}). Replace it.") from error


def _inside(box: Box, width: int, height: int, place: str) -> tuple[float, float, float, float]:
    """x, y, width and height of a box."""
    x1, y1, x2, y2 = box.corners
    if min(x1, y1) < -_TOLERANCE_PX or x2 > width + _TOLERANCE_PX or y2 > height + _TOLERANCE_PX:
        raise DataError(
            f"{place}: box {list(box.corners)} leaves its image, which is {width} x {height} pixels."
            " Boxes are [x1, y1, x2, y2] in pixels of the image file."
        )
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    return x1, y1, x2 - x1, y2 - y1


def _write_vocabulary(path: Path, names: Counter[str]) -> None:
    """Most frequent first."""
    ordered = sorted(names, key=lambda name: (-names[name], name))
    atomic_write_text(path, "".join(f"{name}\n" for name in ordered))


def _write_splits(data: OwnData, ids: list[str], out: Path) -> None:
    for split, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        chosen = [image_id for image_id in ids if data.splits[image_id] == split]
        if not chosen and split != "test":
            raise DataError(
                f"{data.path}: no image of split {split} has boxes, and the detector needs some."
                " Draw boxes there too, or change custom/shares."
            )
        lines = (f"{_SPLIT_FOLDER}/{data.folder.linked_name(image_id)}\n" for image_id in chosen)
        atomic_write_text(out / f"{name}.txt", "".join(lines))


def vocabulary_of_weights(meta: dict[str, Any], name: str, count: int) -> list[str]:
    """Class names that a detector's weights carry, or numbers where they carry none."""
    names = meta.get(name)
    if isinstance(names, list) and len(names) == count:
        return [str(text).replace(",", " ") for text in names]
    return [f"{name.rstrip('s')} {number}" for number in range(count)]
