"""Published detector weights to ours and back, with an account of every tensor."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lxmert.detector.documents import DetectorSize
from lxmert.detector.model import Detector, load_detector, save_detector
from lxmert.detector.weights.caffe import native_from_caffe
from lxmert.detector.weights.caffemodel import open_caffemodel
from lxmert.detector.weights.containers import (
    HF_CONFIG,
    HF_WEIGHTS,
    check_hf_config,
    hf_config,
    read_detectron_pickle,
    read_hf_folder,
    write_detectron_pickle,
    write_hf_folder,
)
from lxmert.detector.weights.layouts import (
    CAFFE_DIVISORS,
    DETECTRON_DIVISORS,
    detectron_from_native,
    native_from_detectron,
)
from lxmert.detector.weights.names import (
    ATTRIBUTE_LAYERS,
    FULL_COUNTS,
    HEAD_LAYERS,
    PREDICTOR,
    conv_groups,
    count_groups,
)
from lxmert.detector.weights.report import Report
from lxmert.errors import WeightsError, suggest
from lxmert.files import explain_os_error, fingerprint

log = logging.getLogger(__name__)

KINDS = ("caffe", "detectron", "huggingface")
TARGETS = ("detectron", "huggingface")

# Of the vocabulary files whose line numbers the published rows follow.
OBJECTS_SHA256 = "d985096938db111f585a311ff0a2ee9092fbc325c3a619ac9622e57e5389722f"
ATTRIBUTES_SHA256 = "19981b5a288f284c576545a21de78634f1a78c26b6949f7acf12b924739fdc66"


def guess_kind(path: Path) -> str:
    """What a file or folder is, by what it holds.

    Raises:
        WeightsError: it is none of the published kinds.
        DataError: it cannot be read.
    """
    if path.is_dir() or path.name in HF_WEIGHTS:
        return "huggingface"
    try:
        with open(path, "rb") as handle:
            start = handle.read(4)
    except OSError as error:
        raise explain_os_error(error, path) from error
    if start[:1] == b"\x80":
        return "detectron"
    if start == b"PK\x03\x04":
        raise WeightsError(
            f"{path}: a PyTorch file; give the folder with it and its {HF_CONFIG}, named {HF_WEIGHTS[-1]}."
        )
    if path.suffix == ".caffemodel" or start[:1] in (b"\x0a", b"\x12", b"\xa2"):
        return "caffe"
    raise WeightsError(
        f"{path}: neither a .caffemodel, a detectron2 pickle nor a Hugging Face folder; fetch it again."
    )


def import_weights(
    path: str | Path,
    size: DetectorSize,
    *,
    kind: str | None = None,
    background: str = "last",
    divisors: tuple[float, ...] | None = None,
) -> tuple[Detector, dict[str, Any], Report]:
    """A detector from published weights, its metadata and the account of its tensors.

    Args:
        path: .caffemodel, detectron2 pickle, or Hugging Face folder.
        size: the network they are for.
        kind: one of KINDS; by default what the file looks like.
        background: row of the background in files of detectron2's names: "last" or "first".
        divisors: what box corrections are divided by; by default as published (Caffe 1, 1, 1, 1;
            detectron2 10, 10, 5, 5; Hugging Face as its configuration says).

    Raises:
        WeightsError, DataError: the file is damaged, or is not exactly this network.
    """
    path = Path(path)
    kind = kind or guess_kind(path)
    if kind not in KINDS:
        raise WeightsError(f"{kind}: unknown kind of weights.{suggest(kind, KINDS)}")
    report = Report({"kind": kind, "path": path.name, "files": {}})
    native, extra, size = _READERS[kind](path, size, report, background, divisors)
    meta = _metadata(report, size, extra)
    report.counts = _check_counts({name: value.shape for name, value in native.items()}, size, path)
    report.facts["convolutions"] = len(conv_groups(size))
    report.facts["tensors"] = len(native)
    _look_closer(native, report)
    with torch.device("meta"):
        model = Detector(size)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in native.items()}, assign=True)
    model.apply_meta(meta)
    return model.requires_grad_(False).eval(), meta, report


@lru_cache(maxsize=8)
def native_shapes(size: DetectorSize) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a detector."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in Detector(size).state_dict().items()}


def without_attributes(size: DetectorSize) -> DetectorSize:
    """The size of a detector that has no attribute layers."""
    return replace(size, classes=replace(size.classes, attributes=0))


def _note_file(report: Report, path: Path) -> None:
    report.source["files"][path.name] = fingerprint(path)


def _from_caffe(path: Path, size: DetectorSize, report: Report, background: str, divisors: Any) -> Any:
    del background
    _note_file(report, path)
    with open_caffemodel(path) as layers:
        if not any(name in layers for name in ATTRIBUTE_LAYERS):
            size = without_attributes(size)
        native = native_from_caffe(layers, native_shapes(size), size, str(path), report)
    return native, {"bbox_divisors": list(divisors or CAFFE_DIVISORS)}, size


def _from_detectron(path: Path, size: DetectorSize, report: Report, background: str, divisors: Any) -> Any:
    _note_file(report, path)
    tensors = read_detectron_pickle(path)
    size = _with_what_is_there(tensors, size)
    native, extra = native_from_detectron(
        tensors, native_shapes(size), size, str(path), report, background=background,
        divisors=divisors or DETECTRON_DIVISORS,
    )  # fmt: skip
    return native, extra, size


def _from_huggingface(path: Path, size: DetectorSize, report: Report, background: str, divisors: Any) -> Any:
    folder = path if path.is_dir() else path.parent
    tensors, config, weights = read_hf_folder(folder)
    _note_file(report, weights)
    _note_file(report, folder / HF_CONFIG)
    size = _with_what_is_there(tensors, size)
    said = check_hf_config(config, size, str(folder / HF_CONFIG))
    native, extra = native_from_detectron(
        tensors, native_shapes(size), size, str(weights), report, background=background,
        shift_px=said["shift_px"], divisors=divisors or said["divisors"],
    )  # fmt: skip
    extra["published"] |= {"config": config, "weights": weights.name}
    return native, extra, size


_READERS = {"caffe": _from_caffe, "detectron": _from_detectron, "huggingface": _from_huggingface}


def _with_what_is_there(tensors: dict[str, np.ndarray], size: DetectorSize) -> DetectorSize:
    prefixes = [HEAD_LAYERS[name] for name in ATTRIBUTE_LAYERS]
    held = any(name.startswith(f"{prefix}.") for name in tensors for prefix in prefixes)
    return size if held else without_attributes(size)


def _metadata(report: Report, size: DetectorSize, extra: dict[str, Any]) -> dict[str, Any]:
    source = {**report.source, "kind": report.source["kind"]}
    vocabularies = {}
    if size.size == "full":  # the published rows follow the published vocabularies
        vocabularies = {"objects_sha256": OBJECTS_SHA256, "attributes_sha256": ATTRIBUTES_SHA256}
    return {"source": source, **vocabularies, **extra}


def _check_counts(shapes: dict[str, tuple[int, ...]], size: DetectorSize, path: Path) -> dict[str, int]:
    """Elements by part; of the full size they are the published ones."""
    counts = count_groups(shapes)
    if size.size == "full":
        expected = dict(FULL_COUNTS)
        if not size.classes.attributes:
            for name in ATTRIBUTE_LAYERS:
                expected.pop(HEAD_LAYERS[name])
        if counts != expected or len(conv_groups(size)) != 104:
            raise WeightsError(f"{path}: the parts count {counts}, should count {expected}.")
    return counts


def _look_closer(native: dict[str, np.ndarray], report: Report) -> None:
    """Notes what cannot be wrong in trained weights unless rows were mistaken."""
    bias = native[f"{PREDICTOR}.cls_score.bias"]
    if len(bias) > 2 and bias.any() and int(bias.argmax()) == len(bias) - 1:
        report.warnings.append(
            "the largest class bias is in the last row, where background would be if rows were mistaken:"
            " check --background"
        )
    flat = sum(int((v == 0).sum()) for name, v in native.items() if name.endswith("running_var"))
    if flat:
        report.warnings.append(f"{flat} channels have a variance of 0; they are constant")


def save_imported(path: str | Path, model: Detector, meta: dict[str, Any]) -> None:
    """Writes our safetensors, which every verb reads."""
    save_detector(path, model, meta)


def export_weights(
    weights: str | Path, target: str, out: str | Path, hf_weights: str = HF_WEIGHTS[0]
) -> dict[str, np.ndarray]:
    """Writes our weights as a detectron2 pickle or a Hugging Face folder; gives the tensors written.

    Raises:
        WeightsError: the target is unknown, or the weights are not ours.
        DataError: the place cannot be written.
    """
    if target not in TARGETS:
        raise WeightsError(f"{target}: unknown target.{suggest(target, TARGETS)}")
    model, meta = load_detector(weights)
    native = {name: value.numpy() for name, value in model.state_dict().items()}
    config = (meta.get("published") or {}).get("config")
    divisors = DETECTRON_DIVISORS
    if meta.get("published"):
        divisors = tuple(meta["bbox_divisors"])
    tensors = detectron_from_native(
        native, meta, model.size, divisors=divisors, with_counters=target == "huggingface"
    )
    if target == "detectron":
        write_detectron_pickle(out, tensors)
    else:
        write_hf_folder(out, tensors, config or hf_config(model.size, divisors), hf_weights)
    return tensors
