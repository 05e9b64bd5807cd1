"""A detector to begin training with: the backbone of a ResNet-101 that learnt ImageNet, the rest at random.

The published detector began with MSRA's ResNet-101 (He et al. 2015), which is offered as a Caffe file and,
with its norms folded to a scale and a shift, as Detectron's pickle; both are this very network. torchvision's
ResNet-101 is of another kind: its stride is in the 3x3 convolution and its input is RGB shares of 255. Its
first convolution is rewritten for our input; its stride stays where ours is, which training has to mend.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lxmert.detector.documents import DetectorSize
from lxmert.detector.model import Detector, build_detector
from lxmert.detector.weights.caffe import backbone_from_caffe
from lxmert.detector.weights.caffemodel import open_caffemodel
from lxmert.detector.weights.containers import read_tensors
from lxmert.detector.weights.names import ConvGroup, conv_groups
from lxmert.detector.weights.report import Report
from lxmert.errors import WeightsError
from lxmert.files import explain_os_error, fingerprint
from lxmert.pickles import read_arrays_pickle

Tensors = dict[str, np.ndarray]

_EPSILON = 1e-5  # of our norms
_ZIP, _LEGACY_TORCH = b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9c"
# torchvision's input: RGB in [0, 1], less these means, divided by these deviations.
_MEAN_RGB, _STD_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLASSIFIER = "tells ImageNet's thousand classes, which the detector does not"
_BRANCHES = {"shortcut": "branch1", "conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c"}


def import_backbone(
    path: str | Path, size: DetectorSize, seed: int = 0
) -> tuple[Detector, dict[str, Any], Report]:
    """A detector with an ImageNet backbone, its metadata and the account of the file's tensors.

    Args:
        path: MSRA's .caffemodel, Detectron's .pkl of it, or torchvision's state dict (.pth, .safetensors).
        size: the network; its stages must be those of the file.
        seed: of the layers that are new; training with `init: backbone` draws its own.

    Raises:
        WeightsError, DataError: the file is damaged, or is not exactly this backbone.
    """
    path = Path(path)
    kind = guess_kind(path)
    report = Report({"kind": f"imagenet-{kind}", "path": path.name, "files": {path.name: fingerprint(path)}})
    model = build_detector(size, seed)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    tensors = _READERS[kind](path, shapes, size, report)
    assert set(tensors) == set(backbone_names(size))
    for name, values in tensors.items():
        if values.shape != shapes[name]:
            raise WeightsError(
                f"{path}: {name} would be {list(values.shape)[:8]}, should be {list(shapes[name])}; give the"
                " weights of a ResNet-101."
            )
        if not np.isfinite(values).all() or (name.endswith("running_var") and values.min() < 0):
            raise WeightsError(f"{path}: {name} holds no usable numbers; fetch the file again.")
    found = {name: torch.from_numpy(values) for name, values in tensors.items()}
    model.load_state_dict(found, strict=False)
    report.counts = {"backbone": sum(values.size for values in tensors.values())}
    report.facts = {"tensors": len(tensors), "convolutions": len(conv_groups(size))}
    return model, {"source": report.source, "backbone": "imagenet"}, report


def backbone_names(size: DetectorSize) -> list[str]:
    """Names of the tensors that a backbone brings: convolutions and norms up to the last stage."""
    parts = ("weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")
    return [f"{group.prefix}.{part}" for group in conv_groups(size) for part in parts]


def guess_kind(path: Path) -> str:
    """Which program's file it is, by what it holds.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with open(path, "rb") as handle:
            start = handle.read(9)
    except OSError as error:
        raise explain_os_error(error, path) from error
    if start.startswith((_ZIP, _LEGACY_TORCH[:7])) or path.suffix == ".safetensors" or start[8:] == b"{":
        return "torchvision"
    return "detectron" if start.startswith(b"\x80") else "caffe"


def _from_caffe(path: Path, shapes: Any, size: DetectorSize, report: Report) -> Tensors:
    with open_caffemodel(path) as layers:
        return backbone_from_caffe(layers, shapes, size, str(path), report, {"fc1000": _CLASSIFIER})


def _from_detectron(path: Path, shapes: Any, size: DetectorSize, report: Report) -> Tensors:
    document = read_arrays_pickle(path)
    blobs = document.get("blobs", document) if isinstance(document, dict) else {}
    left = _Left(
        {name: value for name, value in blobs.items() if isinstance(value, np.ndarray)}, path, report
    )
    found: Tensors = {}
    for group in conv_groups(size):
        own = _detectron_name(group)
        norm = "res_conv1_bn" if own == "conv1" else f"{own}_bn"
        scale, shift = left.take(f"{norm}_s"), left.take(f"{norm}_b")
        if own == "conv1" and "conv1_b" in left.tensors:
            shift = shift + scale * left.take("conv1_b")
        found[f"{group.prefix}.weight"] = left.take(f"{own}_w")
        # The norm's statistics are in these two already: ours get those that change nothing.
        found |= {
            f"{group.prefix}.norm.weight": scale,
            f"{group.prefix}.norm.bias": shift,
            f"{group.prefix}.norm.running_mean": np.zeros_like(shift),
            f"{group.prefix}.norm.running_var": np.full_like(shift, 1.0 - _EPSILON),
        }
    left.settle(("fc1000_", "pred_"))
    return found


def _from_torchvision(path: Path, shapes: Any, size: DetectorSize, report: Report) -> Tensors:
    left = _Left(read_tensors(path), path, report)
    found: Tensors = {}
    for group in conv_groups(size):
        conv, norm = _torchvision_names(group)
        found[f"{group.prefix}.weight"] = left.take(f"{conv}.weight")
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{group.prefix}.norm.{part}"] = left.take(f"{norm}.{part}")
        left.tensors.pop(f"{norm}.num_batches_tracked", None)
    left.settle(("fc.",))
    _read_our_input(found, size)
    report.warnings.append(
        "torchvision's ResNet-101 has its stride in the 3x3 convolutions, this network in the 1x1 before:"
        " its frozen res3 sees other positions than it learnt on. MSRA's weights have it where this one has."
    )
    return found


def _read_our_input(tensors: Tensors, size: DetectorSize) -> None:
    """Rewrites the first convolution and its norm for BGR bytes less our mean; exact but for the border."""
    name = "backbone.stem.conv1"
    ours, std = np.array(size.image.mean_bgr), 255 * np.array(_STD_RGB[::-1])
    offset = (ours - 255 * np.array(_MEAN_RGB[::-1])) / std
    weight = tensors[f"{name}.weight"][:, ::-1].astype(np.float64)  # [O, BGR, k, k]
    constant = (weight * offset[:, None, None]).sum((1, 2, 3))
    tensors[f"{name}.weight"] = (weight / std[:, None, None]).astype(np.float32)
    mean = tensors[f"{name}.norm.running_mean"]
    tensors[f"{name}.norm.running_mean"] = (mean - constant).astype(np.float32)


class _Left:
    """Tensors of a file, taken one by one, so that what is left is known."""

    def __init__(self, tensors: Tensors, path: Path, report: Report) -> None:
        self.tensors, self.path, self.report = dict(tensors), path, report

    def take(self, name: str) -> np.ndarray:
        values = self.tensors.pop(name, None)
        if values is None:
            raise WeightsError(
                f"{self.path}: {name} is missing; give MSRA's ResNet-101 (.caffemodel or Detectron's .pkl),"
                " or torchvision's state dict."
            )
        self.report.took(name, name, values.shape, values.shape, "same")
        return np.array(values, np.float32)

    def settle(self, classifier: tuple[str, ...]) -> None:
        """Notes the classifier; anything else is an error."""
        for name in [name for name in self.tensors if name.startswith(classifier)]:
            self.report.ignore(name, self.tensors.pop(name).shape, _CLASSIFIER)
        if self.tensors:
            raise WeightsError(
                f"{self.path}: {len(self.tensors)} tensors belong to no part of the backbone, first:"
                f" {min(self.tensors)[:80]!a}; nothing was converted. Is it a ResNet-101?"
            )


def _detectron_name(group: ConvGroup) -> str:
    """`conv1`, `res4_22_branch2a` of our `backbone.res4.22.conv1`."""
    if group.conv == "conv1":
        return "conv1"
    stage, block, part = group.prefix.split(".")[-3:]
    return f"{stage}_{block}_{_BRANCHES[part]}"


def _torchvision_names(group: ConvGroup) -> tuple[str, str]:
    """Convolution and norm: `layer3.22.conv1` and `layer3.22.bn1` of our `backbone.res4.22.conv1`."""
    if group.conv == "conv1":
        return "conv1", "bn1"
    stage, block, part = group.prefix.split(".")[-3:]
    place = f"layer{int(stage.removeprefix('res')) - 1}.{block}"
    if part == "shortcut":
        return f"{place}.downsample.0", f"{place}.downsample.1"
    return f"{place}.{part}", f"{place}.{part.replace('conv', 'bn')}"


_READERS: dict[str, Callable[[Path, Any, DetectorSize, Report], Tensors]] = {
    "caffe": _from_caffe,
    "detectron": _from_detectron,
    "torchvision": _from_torchvision,
}
