"""One image's regions as bytes: the record a region store holds, and the schema that says how to read it.

A record is little-endian: a header of 32 bytes (magic, version, bytes per feature number, width, height,
boxes, feature width, class scores of a box), then features, boxes, object ids, attribute ids, object scores,
attribute scores, selection scores and, where the schema has them, float16 class scores, each in box order,
and zeros up to a multiple of 16 bytes. Features come first so that they start on a 16-byte boundary; every
field can be cut to its first boxes without touching the rest.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lxmert.data.halves import all_finite, copy_features
from lxmert.errors import DataError
from lxmert.types import Regions

VERSION = 1
HEADER_BYTES = 32
ALIGNMENT_BYTES = 16
# Box outside its image by more than this is refused; resizing rounds the last pixel either way.
BOX_SLACK_PX = 1.0
UNKNOWN_ID = -1
FEATURE_TYPES: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}

_HEADER = struct.Struct("<2sBBIIIII8x")
_MAGIC = b"RG"
# Bytes of one box beside its features: 4 coordinates, 2 ids, 3 scores, four bytes each.
_BOX_BYTES = 36
_MAX_ID_BYTES = 500  # an LMDB key holds 511


@dataclass(frozen=True)
class StoreSchema:
    """What all records of a region store have in common.

    Attributes:
        feature_width: F, numbers of one region feature.
        feature_dtype: "float16" or "float32", as stored.
        max_boxes: no record has more.
        object_classes: ids lie in [0, object_classes), or are -1 where a format gives none.
        attribute_classes: the same for attributes.
        profile: the whole extraction profile; its "profile" is the name, "version" its version.
        class_scores: numbers of a box's class distribution, background first; 0 where none are kept.
    """

    feature_width: int
    feature_dtype: str
    max_boxes: int
    object_classes: int
    attribute_classes: int
    profile: dict[str, Any]
    class_scores: int = 0

    def __post_init__(self) -> None:
        if self.feature_dtype not in FEATURE_TYPES:
            raise DataError(f"region store: feature type {self.feature_dtype!r}: must be float16 or float32.")
        for name in ("feature_width", "max_boxes", "object_classes", "attribute_classes"):
            if getattr(self, name) < 1:
                raise DataError(f"region store: {name} is {getattr(self, name)}; it must be 1 or more.")
        if self.class_scores not in (0, self.object_classes + 1):
            raise DataError(
                f"region store: {self.class_scores} class scores; background and"
                f" {self.object_classes} objects are {self.object_classes + 1}."
            )

    @property
    def profile_name(self) -> str:
        """Name of the extraction profile, "unnamed" where it has none."""
        return str(self.profile.get("profile", "unnamed"))

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The stored type of features."""
        return FEATURE_TYPES[self.feature_dtype]

    def to_json(self) -> str:
        """The schema as one line of sorted JSON; equal schemas give equal lines."""
        values = {"record_version": VERSION, **vars(self)}
        if not self.class_scores:
            del values["class_scores"]
        return dump_json(values)

    @classmethod
    def from_json(cls, text: str, where: str) -> StoreSchema:
        """Reads what `to_json` wrote.

        Raises:
            DataError: the records have another version, or the text is no schema.
        """
        try:
            values = json.loads(text)
            version = values.pop("record_version")
            if version != VERSION:
                raise DataError(
                    f"{where}: records of version {version}, this code reads version {VERSION}; "
                    f"{rebuild(where)}"
                )
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{where}: the schema cannot be read ({error}); {rebuild(where)}") from error


def dump_json(value: Any) -> str:
    """Sorted JSON without spaces or NaN: one form for one value.

    Raises:
        DataError: the value holds what JSON has no word for.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"region store: cannot be written as JSON: {error}.") from error


def encode_id(image_id: str, where: str) -> bytes:
    """UTF-8 of an image id.

    Raises:
        DataError: it is empty, too long, or holds control characters.
    """
    encoded = image_id.encode("utf-8", "surrogatepass")
    if not 0 < len(encoded) <= _MAX_ID_BYTES or min(encoded) < 32:
        raise DataError(
            f"{where}: image id {image_id[:60]!r}: must be 1 to {_MAX_ID_BYTES} bytes without control "
            "characters; rename the image."
        )
    return encoded


_Whole = TypeVar("_Whole", int, "NDArray[np.int64]")


def layout(boxes: _Whole, width: int, item_bytes: int, class_scores: int = 0) -> tuple[_Whole, _Whole]:
    """Offset of the boxes, and the size of the whole record; of one record, or of many at once."""
    at = HEADER_BYTES + _round_up(boxes * width * item_bytes, 4)
    return at, _round_up(at + boxes * (_BOX_BYTES + 2 * class_scores), ALIGNMENT_BYTES)


def _round_up(number: _Whole, multiple: int) -> _Whole:
    return -(-number // multiple) * multiple


def header_faults(words: NDArray[np.int64], schema: StoreSchema) -> NDArray[np.bool_]:
    """Which headers are none of records of this schema.

    Args:
        words: int64 [B, 8], each header as eight little-endian numbers of four bytes.
        schema: of the store.

    Returns:
        bool [B].
    """
    start = int.from_bytes(_MAGIC + bytes([VERSION, schema.numpy_dtype.itemsize]), "little")
    faults: NDArray[np.bool_] = (
        (words[:, 0] != start)
        | (words[:, 1:3] == 0).any(axis=1)
        | (words[:, 4] != schema.feature_width)
        | (words[:, 5] != schema.class_scores)
    )
    return faults


def encode_record(
    image_id: str, regions: Regions, schema: StoreSchema, where: str, buffer: bytearray | None = None
) -> memoryview:
    """The record of one image.

    Args:
        image_id: named in errors.
        regions: features may be float32 where the schema says float16: they are rounded to nearest even.
        schema: what the record must fit.
        where: file named in errors.
        buffer: memory to use again and again; it grows as needed, and the record lies at its start.

    Raises:
        DataError: the regions do not fit the schema, are not finite, or leave their image.
    """
    count = _check_shapes(image_id, regions, schema, where)
    item_bytes = schema.numpy_dtype.itemsize
    boxes_at, size = layout(count, schema.feature_width, item_bytes, schema.class_scores)
    if buffer is None:
        buffer = bytearray(size)
    elif len(buffer) < size:
        buffer.extend(bytes(size - len(buffer)))
    features_end = HEADER_BYTES + count * schema.feature_width * item_bytes
    scores_end = boxes_at + count * _BOX_BYTES
    boxes_end = scores_end + 2 * count * schema.class_scores
    buffer[features_end:boxes_at] = bytes(boxes_at - features_end)
    buffer[boxes_end:size] = bytes(size - boxes_end)
    _HEADER.pack_into(
        buffer, 0, _MAGIC, VERSION, item_bytes, regions.width, regions.height, count, schema.feature_width,
        schema.class_scores,
    )  # fmt: skip
    features = np.ndarray((count, schema.feature_width), schema.numpy_dtype, buffer, HEADER_BYTES)
    boxes = np.ndarray((count, 4), "<f4", buffer, boxes_at)
    ids = np.ndarray((2, count), "<i4", buffer, boxes_at + 16 * count)
    scores = np.ndarray((3, count), "<f4", buffer, boxes_at + 24 * count)
    copy_features(features, regions.features)
    boxes[:] = regions.boxes_px
    ids[0] = regions.object_ids
    ids[1] = regions.attribute_ids
    scores[0] = regions.object_scores
    scores[1] = regions.attribute_scores
    scores[2] = regions.selection_scores
    if schema.class_scores:
        classes = np.ndarray((count, schema.class_scores), "<f2", buffer, scores_end)
        np.copyto(classes, regions.class_scores, casting="same_kind")  # type: ignore[arg-type]
    fault = _feature_fault(features, regions, schema) or _box_fault(boxes, regions)
    fault = fault or _label_fault(ids, scores, schema)
    if not fault and schema.class_scores and not all_finite(classes):
        fault = "a class score is not a finite number; extract the image again."
    if fault:
        raise DataError(f"{where}: image {image_id}: {fault}")
    return memoryview(buffer)[:size]


def _check_shapes(image_id: str, regions: Regions, schema: StoreSchema, where: str) -> int:
    """Number of boxes, once every array is known to have its shape and type."""
    fault = ""
    count = len(regions.boxes_px)
    features = regions.features
    if not 1 <= count <= schema.max_boxes:
        fault = f"{count} boxes, profile {schema.profile_name} has 1 to {schema.max_boxes}"
    elif features.shape != (count, schema.feature_width):
        fault = f"features of shape {features.shape}, the store wants ({count}, {schema.feature_width})"
    elif features.dtype not in (schema.numpy_dtype, np.dtype("<f4")):
        fault = f"features of type {features.dtype}, the store wants {schema.feature_dtype}"
    elif regions.boxes_px.shape != (count, 4):
        fault = f"boxes of shape {regions.boxes_px.shape}, not ({count}, 4)"
    elif not (0 < regions.width < 2**31 and 0 < regions.height < 2**31):
        fault = f"image size {regions.width}x{regions.height}"
    elif schema.class_scores and (
        regions.class_scores is None or regions.class_scores.shape != (count, schema.class_scores)
    ):
        found = None if regions.class_scores is None else regions.class_scores.shape
        fault = f"class scores of shape {found}, the store wants ({count}, {schema.class_scores})"
    else:
        for name in ("object_ids", "object_scores", "attribute_ids", "attribute_scores", "selection_scores"):
            shape = getattr(regions, name).shape
            if shape != (count,):
                fault = f"{name} of shape {shape}, not ({count},)"
                break
    if fault:
        raise DataError(f"{where}: image {image_id}: {fault}; extract the image again with one profile.")
    return count


def _feature_fault(features: NDArray[Any], regions: Regions, schema: StoreSchema) -> str:
    if all_finite(features):
        return ""
    if np.isfinite(regions.features).all():
        return f"a feature exceeds {schema.feature_dtype}'s range; store the features as float32."
    return "a feature is not a finite number; extract the image again."


def _box_fault(boxes: NDArray[np.float32], regions: Regions) -> str:
    low, high = boxes.min(axis=0).tolist(), boxes.max(axis=0).tolist()
    # Written so that NaN, which min and max hand on, is a fault.
    if (
        low[0] >= -BOX_SLACK_PX
        and low[1] >= -BOX_SLACK_PX
        and high[2] <= regions.width + BOX_SLACK_PX
        and high[3] <= regions.height + BOX_SLACK_PX
        and (boxes[:, 2:] >= boxes[:, :2]).all()
    ):
        return ""
    if not np.isfinite(boxes).all():
        return "a box is not finite; extract the image again."
    if (boxes[:, 2:] < boxes[:, :2]).any():
        return "a box ends before it begins; boxes are x1, y1, x2, y2."
    return (
        f"a box leaves its {regions.width}x{regions.height} image by more than {BOX_SLACK_PX:g} pixel; "
        "check that boxes are pixels of the original image and that width and height are not swapped."
    )


def _label_fault(ids: NDArray[np.int32], scores: NDArray[np.float32], schema: StoreSchema) -> str:
    least, most = ids.min(axis=1).tolist(), ids.max(axis=1).tolist()
    finite = [bool(np.isfinite(row).all()) for row in scores]
    for row, (word, limit) in enumerate(
        (("object", schema.object_classes), ("attribute", schema.attribute_classes))
    ):
        if least[row] < UNKNOWN_ID or most[row] >= limit:
            wrong = least[row] if least[row] < UNKNOWN_ID else most[row]
            return f"{word} id {wrong} is outside 0..{limit - 1}; check which vocabulary made it."
        if least[row] >= 0 and not finite[row]:
            return f"a score of an {word} is not a finite number; extract the image again."
    if not finite[2] and np.isinf(scores[2]).any():
        return "a selection score is infinite; extract the image again."
    return ""


def decode_record(data: NDArray[np.uint8], offset: int, image_id: str, where: str) -> Regions:
    """The regions of a record, as read-only views of `data` (ids are copied to int64).

    Args:
        data: uint8 array that holds the record; the views keep it alive.
        offset: where the record begins.
        image_id: named in errors.
        where: file named in errors.

    Raises:
        DataError: no whole record lies there.
    """
    try:
        width, height, features, numbers, classes = _parse_record(data, offset)
    except ValueError as error:
        raise damaged(where, image_id, str(error)) from error
    ids = numbers[4:6].view("<i4").astype(np.int64)
    ids.flags.writeable = False
    # A frozen dataclass sets each field through object.__setattr__, which would cost more than the views.
    regions = object.__new__(Regions)
    regions.__dict__.update(
        boxes_px=numbers[:4].reshape(-1, 4),
        features=features,
        object_ids=ids[0],
        object_scores=numbers[6],
        attribute_ids=ids[1],
        attribute_scores=numbers[7],
        selection_scores=numbers[8],
        width=width,
        height=height,
        class_scores=classes,
    )
    return regions


def _parse_record(
    data: NDArray[np.uint8], offset: int
) -> tuple[int, int, NDArray[Any], NDArray[np.float32], NDArray[np.float16] | None]:
    """Width, height, features, the other numbers and the class scores of the record at `offset`, as views.

    Returns:
        Width and height in pixels; features [R, F]; float32 [9, R]: rows 0 to 3 hold the boxes ([R, 4] in
        memory), 4 and 5 the bits of the object and attribute ids (int32), 6 to 8 object, attribute and
        selection scores; float16 [R, K + 1] or None.

    Raises:
        ValueError: no whole record lies there.
    """
    width, height, count, feature_width, item_bytes, class_scores, boxes_at, _ = _read_header(data, offset)
    features = np.ndarray((count, feature_width), _BY_SIZE[item_bytes], data, offset + HEADER_BYTES)
    numbers = np.ndarray((9, count), "<f4", data, offset + boxes_at)
    if not class_scores:
        return width, height, features, numbers, None
    at = offset + boxes_at + count * _BOX_BYTES
    return width, height, features, numbers, np.ndarray((count, class_scores), "<f2", data, at)


def _read_header(data: NDArray[np.uint8], offset: int) -> tuple[int, int, int, int, int, int, int, int]:
    """Width, height, boxes, feature width, bytes per number, class scores, offset of the boxes, size."""
    if offset + HEADER_BYTES <= len(data):
        header = _HEADER.unpack_from(data.data, offset)
        magic, version, item_bytes, width, height, count, feature_width, class_scores = header
        if magic == _MAGIC and version == VERSION and item_bytes in _BY_SIZE and width and height:
            boxes_at, size = layout(count, feature_width, item_bytes, class_scores)
            if offset + size <= len(data):
                return width, height, count, feature_width, item_bytes, class_scores, boxes_at, size
    raise ValueError("the record cannot be read")


_BY_SIZE = {dtype.itemsize: dtype for dtype in FEATURE_TYPES.values()}


def record_slice(data: NDArray[np.uint8], offset: int, image_id: str, where: str) -> NDArray[np.uint8]:
    """The bytes of the record at `offset`.

    Raises:
        DataError: no whole record lies there.
    """
    try:
        return data[offset : offset + _read_header(data, offset)[-1]]
    except ValueError as error:
        raise damaged(where, image_id, str(error)) from error


def damaged(where: str, image_id: str, what: str) -> DataError:
    """The error for a record that is not what was written."""
    return DataError(
        f"{where}: image {image_id}: {what}; the file is damaged: remove it and run: snakemake {where}"
    )


def rebuild(where: str | Path) -> str:
    """What to do about a store that cannot be used."""
    return f"remove the file and run: snakemake {where}"


def difference(one: str, other: str, one_name: str = "another schema", other_name: str = "this one") -> str:
    """How two schemas differ, naming both profiles."""
    first, second = json.loads(one), json.loads(other)
    names = [str(schema["profile"].get("profile", "unnamed")) for schema in (first, second)]
    if names[0] != names[1]:
        return f"profile {names[0]} ({one_name}) and profile {names[1]} ({other_name})"
    for name in sorted(first.keys() | second.keys()):
        if first.get(name) != second.get(name):
            return (
                f"profile {names[0]} with {name} {short(first.get(name))} ({one_name}) "
                f"and {short(second.get(name))} ({other_name})"
            )
    return f"profile {names[0]}"


def short(value: Any) -> str:
    """A value as JSON, cut to what fits in an error."""
    text = dump_json(value)
    return text if len(text) <= 80 else text[:77] + "..."
