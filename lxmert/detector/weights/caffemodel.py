"""Layers and blobs of a `.caffemodel`, read from the wire format: no Caffe, no protobuf package.

Both generations are read: `layer` (2014 and later, with BlobShape) and `layers` (V1 and the V0 inside
it, with num, channels, height, width).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lxmert.errors import WeightsError
from lxmert.files import explain_os_error
from lxmert.protobuf import BYTES, FIXED32, FIXED64, VARINT, Field, Malformed, Walker

# Field numbers of caffe.proto.
_NET_LAYERS_V1, _NET_LAYER = 2, 100
_NET_KNOWN = {1, 2, 3, 4, 5, 6, 7, 8, 100}
_LAYER_NAME, _LAYER_TYPE, _LAYER_BLOBS = 1, 2, 7
_V1_INNER, _V1_NAME, _V1_TYPE, _V1_BLOBS = 1, 4, 5, 6
_V0_NAME, _V0_BLOBS = 1, 50
_BLOB_LEGACY, _BLOB_DATA, _BLOB_SHAPE, _BLOB_DOUBLES = (1, 2, 3, 4), 5, 7, 8
_SHAPE_DIM = 1
_V1_TYPES = {4: "Convolution", 14: "InnerProduct"}


@dataclass(frozen=True)
class Blob:
    """One array of a layer.

    Attributes:
        values: float32 or float64 [n], a view of the file wherever it can be.
        shape: as written; () if the file names none.
        legacy: written as num, channels, height, width: short shapes have leading ones.
    """

    values: np.ndarray
    shape: tuple[int, ...]
    legacy: bool

    def reshaped(self, shape: tuple[int, ...]) -> np.ndarray | None:
        """float32 of the wanted shape, copied out of the file; None if this blob has another."""
        own = self.shape
        if self.legacy or not own:
            own = (1,) * (4 - len(own)) + own if own else (1, 1, 1, self.values.size)
            wanted = (1,) * (4 - len(shape)) + shape
        else:
            wanted = shape
        if own != wanted:
            return None
        with np.errstate(over="ignore"):  # a double too large becomes infinite, and is refused as such
            return self.values.astype(np.float32).reshape(shape)


@dataclass
class Layer:
    """A layer with its learned arrays; `kind` is Caffe's type, "" where the file states none we know."""

    name: str
    kind: str
    blobs: list[Blob] = field(default_factory=list)


@contextmanager
def open_caffemodel(path: str | Path) -> Iterator[dict[str, Layer]]:
    """The layers of a `.caffemodel` that hold arrays, by name, in the file's order.

    The arrays are views of a memory map, valid inside the block: a 262 MB file takes no memory until
    its numbers are used.

    Raises:
        WeightsError: the file is cut, is of another kind, or names a layer with arrays twice.
        DataError: the file cannot be read.
    """
    try:
        with open(path, "rb") as handle:
            if handle.seek(0, 2) == 0:
                raise WeightsError(f"{path}: is empty; fetch it again.")
            mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise explain_os_error(error, path) from error
    view = memoryview(mapped)
    try:
        layers = _layers(Walker(view), len(view))
    except Malformed as error:
        raise WeightsError(f"{path}: not a whole .caffemodel ({error}); fetch it again.") from None
    named: dict[str, Layer] = {}
    for layer in layers:
        if layer.blobs and layer.name in named:
            raise WeightsError(f"{path}: layer {layer.name!a} with weights stands twice; fetch it again.")
        if layer.blobs:
            named[layer.name] = layer
    if not named:
        raise WeightsError(f"{path}: holds no layer with weights; is it a .caffemodel?")
    yield named


def _layers(walker: Walker, size: int) -> list[Layer]:
    layers = []
    for item in walker.fields(0, size):
        if item.number not in _NET_KNOWN:
            raise Malformed(item.start, f"a network has no field {item.number}")
        if item.number == _NET_LAYER and item.kind == BYTES:
            layers.append(_layer(walker, item))
        elif item.number == _NET_LAYERS_V1 and item.kind == BYTES:
            layers.append(_layer_v1(walker, item))
        elif item.number in (_NET_LAYER, _NET_LAYERS_V1):
            raise Malformed(item.start, "a layer was expected")
    return layers


def _layer(walker: Walker, message: Field) -> Layer:
    layer = Layer("", "")
    for item in walker.fields(message.start, message.end):
        if item.number == _LAYER_NAME:
            layer.name = walker.text(item)
        elif item.number == _LAYER_TYPE:
            layer.kind = walker.text(item)
        elif item.number == _LAYER_BLOBS:
            layer.blobs.append(_blob(walker, item))
    return layer


def _layer_v1(walker: Walker, message: Field) -> Layer:
    layer = Layer("", "")
    for item in walker.fields(message.start, message.end):
        if item.number == _V1_NAME:
            layer.name = walker.text(item)
        elif item.number == _V1_TYPE and item.kind == VARINT:
            layer.kind = _V1_TYPES.get(item.value, "")
        elif item.number == _V1_BLOBS:
            layer.blobs.append(_blob(walker, item))
        elif item.number == _V1_INNER and item.kind == BYTES:
            for inner in walker.fields(item.start, item.end):
                if inner.number == _V0_NAME:
                    layer.name = layer.name or walker.text(inner)
                elif inner.number == _V0_BLOBS:
                    layer.blobs.append(_blob(walker, inner))
    return layer


def _blob(walker: Walker, message: Field) -> Blob:
    if message.kind != BYTES:
        raise Malformed(message.start, "an array was expected")
    legacy: dict[int, int] = {}
    shape: tuple[int, ...] | None = None
    singles: list[np.ndarray] = []
    doubles: list[np.ndarray] = []
    for item in _outside_runs(walker, message):
        if item.number in _BLOB_LEGACY and item.kind == VARINT:
            legacy[item.number] = item.value
        elif item.number == _BLOB_SHAPE and item.kind == BYTES:
            shape = tuple(
                value
                for part in walker.fields(item.start, item.end)
                if part.number == _SHAPE_DIM
                for value in walker.varints(part)
            )
        elif item.number in (_BLOB_DATA, _BLOB_DOUBLES):
            into, kind = (singles, FIXED32) if item.number == _BLOB_DATA else (doubles, FIXED64)
            if item.kind == BYTES:
                into.append(walker.packed(item, kind))
            elif item.kind == kind:
                into.append(walker.unpacked(item, message.end)[0])
            else:
                raise Malformed(item.start, "numbers were expected")
    values = _joined(singles)
    if values.size == 0:
        values = _joined(doubles)
    dims = tuple(legacy.get(number, 0) for number in _BLOB_LEGACY) if legacy else (shape or ())
    count = 1
    for dim in dims:
        count *= dim
    if dims and count != values.size:
        raise Malformed(
            message.start, f"{values.size} numbers in an array of shape {list(dims)[:8]} (too few, or cut)"
        )
    return Blob(values, dims, bool(legacy))


def _outside_runs(walker: Walker, message: Field) -> Iterator[Field]:
    """The fields of a blob; of a run of unpacked numbers only the first."""
    at = message.start
    while at < message.end:
        item = next(walker.fields(at, message.end))
        yield item
        at = item.end
        if item.number in (_BLOB_DATA, _BLOB_DOUBLES, 6, 9) and item.kind in (FIXED32, FIXED64):
            at = walker.unpacked(item, message.end)[1]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
