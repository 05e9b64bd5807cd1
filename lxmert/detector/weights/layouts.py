"""Between our row order, which is Caffe's, and that of the detectron2 files and the Hugging Face port.

They keep background and "no attribute" last, one objectness logit an anchor, and no box rows for the
background. Their anchors and the divisors of box corrections travel in the metadata ("published"), so that
a file can be written again with the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lxmert.detector.documents import DetectorSize
from lxmert.detector.weights.anchors import caffe_anchors, match_anchors, stock_anchors
from lxmert.detector.weights.names import ANCHORS_KEY, COUNTER_SUFFIX, PREDICTOR, RPN
from lxmert.detector.weights.report import Report
from lxmert.errors import WeightsError

CAFFE_DIVISORS = (1.0, 1.0, 1.0, 1.0)
DETECTRON_DIVISORS = (10.0, 10.0, 5.0, 5.0)

_ROLLED = tuple(
    f"{PREDICTOR}.{name}"
    for name in (
        "cls_score.weight", "cls_score.bias", "cls_embedding.weight", "attr_score.weight", "attr_score.bias",
    )
)  # fmt: skip
_OBJECTNESS, _DELTAS, _BOXES = f"{RPN}.objectness_logits.", f"{RPN}.anchor_deltas.", f"{PREDICTOR}.bbox_pred."


def detectron_shapes(shapes: dict[str, tuple[int, ...]], background: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a detectron2 file, given ours."""
    found = {}
    for name, shape in shapes.items():
        rows = shape[0] if shape else 0
        if name.startswith(_OBJECTNESS):
            rows //= 2
        elif name.startswith(_BOXES) and background == "last":
            rows -= 4
        found[name] = (rows, *shape[1:]) if shape else shape
    return found


def native_from_detectron(
    tensors: dict[str, np.ndarray],
    shapes: dict[str, tuple[int, ...]],
    size: DetectorSize,
    path: str,
    report: Report,
    *,
    shift_px: float = 0.0,
    divisors: tuple[float, ...] = DETECTRON_DIVISORS,
    background: str = "last",
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Our tensors of a detectron2 or Hugging Face file, and what its anchors and box rows mean.

    Args:
        tensors: by the file's names, any float kind.
        shapes: of every tensor of ours.
        size: what network it should be.
        path: named in messages.
        report: is told of every tensor.
        shift_px: what the file's anchor grid adds to every corner.
        divisors: what box corrections of this file are divided by.
        background: "last" as published, or "first" for files that kept Caffe's order.

    Returns:
        Tensors float32, and metadata: `cell_anchors`, `bbox_divisors` and `published`.

    Raises:
        WeightsError: a tensor is missing, left over, misshapen or not finite.
    """
    left = {name: np.asarray(value) for name, value in tensors.items()}
    counters = _take_counters(left, shapes, path, report)
    cells = left.pop(ANCHORS_KEY, None)
    theirs = detectron_shapes(shapes, background)
    _check_names(left, theirs, path)
    if cells is not None and cells.shape != (size.anchors, 4):
        raise WeightsError(f"{path}: {ANCHORS_KEY} is {list(cells.shape)}, should be [{size.anchors}, 4].")
    match = match_anchors(stock_anchors(size) if cells is None else cells, size, shift_px)
    _note_anchors(cells, match.kind, match.rows, report)
    native: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        values = left[name]
        if values.shape != theirs[name]:
            raise WeightsError(
                f"{path}: {name} is {list(values.shape)}, should be {list(theirs[name])}; convert with the"
                " size it was trained with."
            )
        if values.dtype.kind != "f" or not np.isfinite(values).all():
            raise WeightsError(f"{path}: {name} holds no finite numbers; fetch it again.")
        values = values.astype(np.float32)
        native[name], rule = _to_native(name, values, match.rows, background)
        report.took(name, name, values.shape, native[name].shape, rule)
        assert native[name].shape == shape, name
    meta = {
        "cell_anchors": None if match.cells is None else match.cells.astype(float).tolist(),
        "bbox_divisors": list(divisors),
        "published": {
            "anchors": None if cells is None else cells.astype(float).tolist(),
            "anchor_rows": match.rows,
            "background": background,
            "counters": counters,
            "shift_px": shift_px,
        },
    }
    return native, meta


def _take_counters(
    left: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]], path: str, report: Report
) -> dict[str, int]:
    """Batch counters of ordinary norms, which inference does not read."""
    counters = {}
    for name in [name for name in left if name.endswith(COUNTER_SUFFIX)]:
        owner = name[: -len("num_batches_tracked")] + "weight"
        value = left.pop(name)
        if owner not in shapes or value.size != 1:
            raise WeightsError(f"{path}: {name} counts for no norm of the detector; nothing was converted.")
        counters[name] = int(value.reshape(()))
        report.ignore(name, value.shape, "counts training batches; kept in the metadata")
    return counters


def _check_names(left: dict[str, np.ndarray], theirs: dict[str, tuple[int, ...]], path: str) -> None:
    for word, names in (("missing", theirs.keys() - left.keys()), ("unknown", left.keys() - theirs.keys())):
        if names:
            raise WeightsError(
                f"{path}: {len(names)} tensors {word}, first: {str(min(names))[:99]!a}; nothing was"
                " converted."
            )


def _note_anchors(cells: np.ndarray | None, kind: str, rows: list[int], report: Report) -> None:
    if cells is not None:
        report.took(ANCHORS_KEY, "metadata: cell_anchors", cells.shape, cells.shape, f"anchors: {kind}")
        report.permutations.pop("metadata: cell_anchors")
    report.facts["anchors"] = {"in_file": cells is not None, "kind": kind, "rows": rows}
    if kind == "own":
        report.warnings.append("anchors are neither Caffe's nor detectron2's; used exactly as in the file")
    elif kind == "stock":
        report.warnings.append(
            "anchors are detectron2's own (sizes outer, centred on cell corners); used as in the file"
            if cells is not None
            else "no anchors in the file; detectron2's own are used, as the program that wrote it would"
        )


def _to_native(name: str, values: np.ndarray, rows: list[int], background: str) -> tuple[np.ndarray, str]:
    moved = rows != sorted(rows)
    if name.startswith(_OBJECTNESS):
        foreground = values[rows]
        return (
            np.concatenate([np.zeros_like(foreground), foreground]),
            f"background rows of zeros before{', anchors reordered' if moved else ''}",
        )
    if name.startswith(_DELTAS):
        blocks = values.reshape(len(rows), 4, *values.shape[1:])[rows].reshape(values.shape)
        return blocks, "anchors reordered in blocks of 4" if moved else "same"
    if background == "first":
        return values, "same"
    if name in _ROLLED:
        return np.roll(values, 1, axis=0), "last row first"
    if name.startswith(_BOXES):
        return np.concatenate([np.zeros_like(values[:4]), values]), "4 background rows of zeros before"
    return values, "same"


def detectron_from_native(
    native: dict[str, np.ndarray],
    meta: dict[str, Any],
    size: DetectorSize,
    *,
    divisors: tuple[float, ...] = DETECTRON_DIVISORS,
    with_counters: bool = False,
) -> dict[str, np.ndarray]:
    """Tensors of a detectron2 or Hugging Face file with the same function.

    Weights that came from such a file give its very bits again: its anchors, their order, its counters
    and its box rows. Caffe's get their anchors in continuous form and Caffe's order.

    Args:
        native: our tensors.
        meta: their metadata.
        size: of the network.
        divisors: what the reader of the file divides box corrections by; rows are multiplied if ours are
            divided by something else.
        with_counters: writes the norms' batch counters if the source had them.
    """
    published = meta.get("published") or {}
    background = published.get("background", "last")
    rows = published.get("anchor_rows") or list(range(size.anchors))
    back = np.argsort(rows)
    own = np.array(meta.get("bbox_divisors") or CAFFE_DIVISORS, np.float32)
    factor = np.array(divisors, np.float32) / own
    found = {}
    for name, values in native.items():
        if name.startswith(_OBJECTNESS):
            half = len(values) // 2
            values = (values[half:] - values[:half])[back]
        elif name.startswith(_DELTAS):
            values = values.reshape(len(rows), 4, *values.shape[1:])[back].reshape(values.shape)
        elif name in _ROLLED and background == "last":
            values = np.roll(values, -1, axis=0)
        elif name.startswith(_BOXES):
            values = values[4:] if background == "last" else values
            if (factor != 1).any():
                scale = np.tile(factor, len(values) // 4).reshape(-1, *([1] * (values.ndim - 1)))
                values = values * scale
        found[name] = np.ascontiguousarray(values, np.float32)
    if not published:
        found[ANCHORS_KEY] = caffe_anchors(size)
    elif published.get("anchors") is not None:
        found[ANCHORS_KEY] = np.array(published["anchors"], np.float32)
    if with_counters:
        for name, count in (published.get("counters") or {}).items():
            found[name] = np.array(count, np.int64)
    return found
