"""Writes `.caffemodel` files in both generations of the wire format, for tests of the reader."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np

from lxmert.detector.documents import DetectorSize, parse_size
from lxmert.detector.model import with_classes
from lxmert.detector.weights.convert import native_shapes
from lxmert.detector.weights.names import HEAD_LAYERS, conv_groups
from lxmert.specs.documents import read_document

FACTOR = np.float32(2.0)  # third array of a norm: mean and variance are written times this


def narrow_size(objects: int = 5, attributes: int = 3) -> DetectorSize:
    """The full network's structure (104 convolutions, 12 anchors) at a few channels."""
    size = with_classes(parse_size(read_document("detector_size", "sample")), objects, attributes, "test")
    full = parse_size(read_document("detector_size", "full"))
    stages = tuple(replace(stage, bottleneck=4, channels=8) for stage in full.stages)
    return replace(
        size, size="narrow", stem=replace(size.stem, channels=4), stages=stages,
        rpn=replace(full.rpn, width=8),
        head=replace(full.head, pool=5, bottleneck=4, channels=16),
        predictor=replace(full.predictor, embedding=4, attribute_hidden=6),
        image=replace(size.image, short_side_px=64, long_side_px=96),
        proposals=replace(
            full.proposals, min_side_px=4, test=replace(full.proposals.test, before_nms=80, after_nms=20)
        ),
    )  # fmt: skip


def shallow(size: DetectorSize) -> DetectorSize:
    """The same with one block a stage, for tests that load it a thousand times."""
    stages = tuple(replace(stage, blocks=1) for stage in size.stages)
    return replace(size, stages=stages, head=replace(size.head, blocks=1))


def random_native(size: DetectorSize, seed: int = 0) -> dict[str, np.ndarray]:
    """Plausible tensors of a detector: variances above 0, distinct everywhere."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in native_shapes(size).items():
        values = rng.normal(0, 0.3, shape)
        if name.endswith(("running_var", "norm.weight")):
            values = np.abs(values) + 0.5
        found[name] = values.astype(np.float32)
    return found


Written = tuple[str, str, list[np.ndarray]]  # name, type, arrays


def caffe_layers(native: dict[str, np.ndarray], size: DetectorSize) -> list[Written]:
    """Name, type and arrays of each Caffe layer."""
    layers = []
    for group in conv_groups(size):
        norm = f"{group.prefix}.norm"
        layers.append((group.conv, "Convolution", [native[f"{group.prefix}.weight"]]))
        statistics = [native[f"{norm}.running_mean"] * FACTOR, native[f"{norm}.running_var"] * FACTOR]
        layers.append((group.norm, "BatchNorm", [*statistics, np.array([FACTOR])]))
        layers.append((group.scale, "Scale", [native[f"{norm}.weight"], native[f"{norm}.bias"]]))
    kinds = {"rpn": "Convolution", "bbo": "InnerProduct", "cls_embedding": "Embed"}
    for name, prefix in HEAD_LAYERS.items():
        arrays = [native[key] for key in (f"{prefix}.weight", f"{prefix}.bias") if key in native]
        if arrays:
            layers.append((name, kinds.get(name, kinds.get(name[:3], "InnerProduct")), arrays))
    return layers


def varint(value: int) -> bytes:
    """Base-128, least significant first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def numbers(array: np.ndarray, packed: bool, double: bool) -> bytes:
    """The data field of a blob."""
    values = array.ravel()
    if double:
        number, kind, data = 8, 1, values.astype("<f8")
    else:
        number, kind, data = 5, 5, values.astype("<f4")
    if packed:
        return field(number, data.tobytes())
    key = varint(number << 3 | kind)
    return b"".join(key + data[i : i + 1].tobytes() for i in range(len(data)))


def blob(array: np.ndarray, legacy: bool, packed: bool = True, double: bool = False) -> bytes:
    """A BlobProto with BlobShape, or with num, channels, height, width."""
    data = numbers(array, packed, double)
    if legacy:
        dims = (1,) * (4 - array.ndim) + array.shape
        return b"".join(varint(n << 3) + varint(d) for n, d in enumerate(dims, 1)) + data
    shape = b"".join(varint(d) for d in array.shape)
    return field(7, field(1, shape) if packed else b"".join(b"\x08" + varint(d) for d in array.shape)) + data


def write_caffemodel(
    layers: list[Written],
    legacy: bool = False,
    packed: bool = True,
    double: bool = False,
) -> bytes:
    """A network in the new form (`layer`), or in the old one (`layers`, V1)."""
    out = [field(1, b"ResNet-101"), varint(5 << 3) + varint(1)]
    others = [("input-data", "Python", []), ("conv1_relu", "ReLU", [])]
    for name, kind, arrays in [*others, *layers]:
        blobs = [blob(array, legacy, packed, double) for array in arrays]
        if legacy:
            type_number = {"Convolution": 4, "InnerProduct": 14, "ReLU": 18}.get(kind, 0)
            body = field(2, b"x") + field(4, name.encode()) + varint(5 << 3) + varint(type_number)
            out.append(field(2, body + b"".join(field(6, item) for item in blobs) + rate(7)))
        else:
            body = field(1, name.encode()) + field(2, kind.encode()) + field(3, b"x")
            out.append(field(100, body + b"".join(field(7, item) for item in blobs) + field(139, rate(3))))
    return b"".join(out)


def rate(number: int) -> bytes:
    """A float field the reader has no use for."""
    return varint(number << 3 | 5) + struct.pack("<f", 1e-5)
