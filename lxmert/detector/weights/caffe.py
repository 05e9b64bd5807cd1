"""From Caffe layers to our tensors: the same values under our names, norms' sums divided by their factor."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lxmert.detector.documents import DetectorSize
from lxmert.detector.weights.caffemodel import Blob, Layer
from lxmert.detector.weights.names import HEAD_LAYERS, UNUSED_CAFFE_LAYERS, conv_groups
from lxmert.detector.weights.report import Report
from lxmert.errors import WeightsError, suggest

_HEAD_KINDS = {"rpn_conv/3x3": "Convolution", "rpn_cls_score": "Convolution", "rpn_bbox_pred": "Convolution",
               "cls_embedding": "Embed"}  # fmt: skip


def native_from_caffe(
    layers: dict[str, Layer],
    shapes: dict[str, tuple[int, ...]],
    size: DetectorSize,
    path: str,
    report: Report,
) -> dict[str, np.ndarray]:
    """Our tensors, float32, of a network's Caffe layers.

    Caffe's order is ours: background and "none" first, two-way objectness, weights [out, in, ...].

    Args:
        layers: by name, as `open_caffemodel` gives them.
        shapes: of every tensor wanted.
        size: what network it should be.
        path: named in messages.
        report: is told of every array.

    Raises:
        WeightsError: an array is missing, left over, of another shape or kind, or not finite.
    """
    reader = _Reader(layers, shapes, path, report)
    reader.take_backbone(size)
    for name, prefix in HEAD_LAYERS.items():
        targets = [target for target in (f"{prefix}.weight", f"{prefix}.bias") if target in shapes]
        if targets:
            reader.take(name, _HEAD_KINDS.get(name, "InnerProduct"), targets)
    reader.settle_rest(UNUSED_CAFFE_LAYERS)
    return reader.tensors


def backbone_from_caffe(
    layers: dict[str, Layer],
    shapes: dict[str, tuple[int, ...]],
    size: DetectorSize,
    path: str,
    report: Report,
    unused: Mapping[str, str],
) -> dict[str, np.ndarray]:
    """The same of convolutions and norms alone, of a network that has no detector's heads.

    Args:
        layers: as above, like all but the last.
        shapes: of every tensor wanted.
        size: what network it should be.
        path: named in messages.
        report: is told of every array.
        unused: layers that may be there beside them, and why they are not used.
    """
    reader = _Reader(layers, shapes, path, report)
    reader.take_backbone(size)
    reader.settle_rest(unused)
    return reader.tensors


class _Reader:
    """Takes layers one by one and remembers what is left."""

    def __init__(
        self, layers: dict[str, Layer], shapes: dict[str, tuple[int, ...]], path: str, report: Report
    ) -> None:
        self.left = dict(layers)
        self.shapes, self.path, self.report = shapes, path, report
        self.tensors: dict[str, np.ndarray] = {}

    def layer(self, name: str, kind: str, blobs: int) -> list[Blob]:
        layer = self.left.pop(name, None)
        if layer is None:
            raise WeightsError(
                f"{self.path}: layer {name} is missing; is it the whole detector, and of this size?"
            )
        if layer.kind not in ("", kind):
            raise WeightsError(
                f"{self.path}: layer {name} is of type {layer.kind[:40]!a}, should be {kind}; fetch it again."
            )
        if len(layer.blobs) != blobs:
            raise WeightsError(
                f"{self.path}: layer {name} has {len(layer.blobs)} arrays, should have {blobs}; fetch it"
                " again."
            )
        return layer.blobs

    def array(self, name: str, position: int, blob: Blob, shape: tuple[int, ...]) -> np.ndarray:
        values = blob.reshaped(shape)
        if values is None:
            raise WeightsError(
                f"{self.path}: array {position} of layer {name} is {list(blob.shape)[:8]}, should be"
                f" {list(shape)}; convert with the size it was trained with."
            )
        if not np.isfinite(values).all():
            raise WeightsError(f"{self.path}: layer {name} has numbers that are not finite; fetch it again.")
        return values

    def take(self, name: str, kind: str, targets: list[str]) -> None:
        blobs = self.layer(name, kind, len(targets))
        for position, (blob, target) in enumerate(zip(blobs, targets, strict=True)):
            values = self.array(name, position, blob, self.shapes[target])
            self.tensors[target] = values
            self.report.took(f"{name}[{position}]", target, blob.shape, values.shape, "same")

    def take_backbone(self, size: DetectorSize) -> None:
        for group in conv_groups(size):
            self.take(group.conv, "Convolution", [f"{group.prefix}.weight"])
            self.take_norm(group.norm, f"{group.prefix}.norm")
            self.take(group.scale, "Scale", [f"{group.prefix}.norm.weight", f"{group.prefix}.norm.bias"])

    def take_norm(self, name: str, prefix: str) -> None:
        blobs = self.layer(name, "BatchNorm", 3)
        factor = float(self.array(name, 2, blobs[2], (1,))[0])
        self.report.took(f"{name}[2]", f"{prefix} (factor)", blobs[2].shape, (1,), f"divides: {factor:g}")
        self.report.permutations.pop(f"{prefix} (factor)")
        for position, part in enumerate(("running_mean", "running_var")):
            target = f"{prefix}.{part}"
            values = self.array(name, position, blobs[position], self.shapes[target])
            with np.errstate(over="ignore"):
                values = values / np.float32(factor) if factor else values
            if not np.isfinite(values).all() or (part == "running_var" and values.min() < 0):
                raise WeightsError(f"{self.path}: layer {name} has no statistics of a norm; fetch it again.")
            self.tensors[target] = values
            self.report.took(
                f"{name}[{position}]", target, blobs[position].shape, values.shape,
                "divided by the norm's factor",
            )  # fmt: skip

    def settle_rest(self, unused: Mapping[str, str]) -> None:
        for name in list(self.left):
            if name in unused:
                for position, blob in enumerate(self.left.pop(name).blobs):
                    self.report.ignore(f"{name}[{position}]", blob.shape, unused[name])
        if self.left:
            first = min(self.left)
            known = [*HEAD_LAYERS, *unused]
            raise WeightsError(
                f"{self.path}: {len(self.left)} layers with weights belong to no part of the detector, first:"
                f" {first!a}; nothing was converted.{suggest(first, known).split(' Known')[0]}"
            )
