"""Anchors, sizes, resizing, pooling and suppression against tables and plain NumPy."""

from __future__ import annotations

import base64
import csv
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import roi_pool

from lxmert.detector.anchors import cell_anchors, grid_anchors
from lxmert.detector.backbone import map_side
from lxmert.detector.boxes import decode_boxes, nms_plus_one
from lxmert.detector.documents import parse_size
from lxmert.detector.preprocess import decode_image, image_scale, make_blob, resize_by_factor, scaled_sides
from lxmert.detector.selection import class_nms
from lxmert.specs.documents import read_document

# Inclusive corners, ratio outer and scale inner: the table of the Caffe reference.
CAFFE_ANCHORS = [
    [-38, -16, 53, 31], [-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199],
    [-24, -24, 39, 39], [-56, -56, 71, 71], [-120, -120, 135, 135], [-248, -248, 263, 263],
    [-14, -36, 29, 51], [-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359],
]  # fmt: skip
FULL = parse_size(read_document("detector_size", "full"))
MEAN = FULL.image.mean_bgr


def test_anchor_table():
    anchors = cell_anchors(16, (0.5, 1.0, 2.0), (4, 8, 16, 32))
    np.testing.assert_array_equal(anchors, np.array(CAFFE_ANCHORS, np.float32))


def test_anchor_grid_runs_rows_columns_anchors():
    cell = cell_anchors(16, (0.5, 1.0, 2.0), (4, 8, 16, 32))
    grid = grid_anchors(cell, 16, 2, 3)
    assert grid.shape == (72, 4)
    np.testing.assert_array_equal(grid[12 * (1 * 3 + 2) + 7], cell[7] + [32, 16, 32, 16])
    assert grid_anchors(cell, 16, 1, 1).shape == (12, 4)


@pytest.mark.parametrize(("side", "cells"), [(600, 38), (899, 57), (1000, 63), (597, 38), (562, 35)])
def test_feature_map_sides(side, cells):
    assert map_side(side, FULL) == cells


@pytest.mark.parametrize("side", range(3, 60))
def test_pooling_without_padding_rounds_as_caffe(side):
    pooled = F.max_pool2d(
        torch.arange(side).float()[None, None, None, :].expand(1, 1, side, side), 3, 2, 0, ceil_mode=True
    )
    assert pooled.shape[-1] == side // 2
    # The first window begins at pixel 0: padding of 1 would give 1 here.
    assert pooled[0, 0, 0, 0] == 2


def test_half_to_even_sizes():
    scale = image_scale(360, 640, 600, 1000)
    assert scale == 1.5625 and 360 * scale == 562.5
    assert scaled_sides(360, 640, scale) == (562, 1000)
    assert image_scale(480, 640, 600, 1000) == 1.25
    assert scaled_sides(1, 500, image_scale(1, 500, 600, 1000)) == (2, 1000)


def naive_resize(image: np.ndarray, scale: float) -> np.ndarray:
    channels, height, width = image.shape
    out_height, out_width = round(height * scale), round(width * scale)
    out = np.zeros((channels, out_height, out_width))
    for i in range(out_height):
        for j in range(out_width):
            y = min(max((i + 0.5) / scale - 0.5, 0), height - 1)
            x = min(max((j + 0.5) / scale - 0.5, 0), width - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            a, b = y - y0, x - x0
            top = image[:, y0, x0] * (1 - b) + image[:, y0, x1] * b
            bottom = image[:, y1, x0] * (1 - b) + image[:, y1, x1] * b
            out[:, i, j] = top * (1 - a) + bottom * a
    return out


@pytest.mark.parametrize(
    ("height", "width", "scale"), [(9, 16, 1.5625), (20, 31, 0.37), (1, 7, 2.0), (5, 5, 1.0)]
)
def test_resize_equals_plain_loops(height, width, scale):
    image = np.random.default_rng(0).normal(0, 80, (3, height, width)).astype(np.float32)
    np.testing.assert_allclose(resize_by_factor(image, scale), naive_resize(image, scale), atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(360, 640), (427, 640), (200, 1200), (1024, 768)])
def test_resize_equals_opencv(height, width):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    image = np.random.default_rng(0).normal(0, 80, (height, width, 3)).astype(np.float32)
    scale = image_scale(height, width, 600, 1000)
    expected = cv2.resize(image, None, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(
        resize_by_factor(image.transpose(2, 0, 1), scale), expected.transpose(2, 0, 1), atol=1e-3
    )


def test_mean_goes_before_the_resize():
    image = np.full((10, 12, 3), 200, np.uint8)
    blob = make_blob(image, 20, 100, MEAN)
    expected = (200 - np.array(MEAN, np.float64)).astype(np.float32)
    assert blob.pixels.shape == (3, 20, 24)
    np.testing.assert_allclose(blob.pixels, np.broadcast_to(expected[:, None, None], (3, 20, 24)), rtol=1e-6)


def naive_roi_pool(features: np.ndarray, box: np.ndarray, size: int, scale: float) -> np.ndarray:
    def half_away(value: float) -> int:
        return int(np.floor(abs(value) + 0.5) * np.sign(value))

    channels, height, width = features.shape
    x1, y1, x2, y2 = (half_away(float(np.float32(v) * np.float32(scale))) for v in box)
    roi_w, roi_h = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
    out = np.zeros((channels, size, size), np.float32)
    for p in range(size):
        for q in range(size):
            top = min(max(int(np.floor(np.float32(p) * np.float32(roi_h / size))) + y1, 0), height)
            bottom = min(max(int(np.ceil(np.float32(p + 1) * np.float32(roi_h / size))) + y1, 0), height)
            left = min(max(int(np.floor(np.float32(q) * np.float32(roi_w / size))) + x1, 0), width)
            right = min(max(int(np.ceil(np.float32(q + 1) * np.float32(roi_w / size))) + x1, 0), width)
            if bottom > top and right > left:
                out[:, p, q] = features[:, top:bottom, left:right].max((1, 2))
    return out


def test_roi_pool_equals_plain_loops():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(3, 20, 30)).astype(np.float32)
    corners = rng.uniform(0, [[470, 310]], (30, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32)
    boxes[0] = [8, 8, 24, 24]  # halves: 0.5 and 1.5 round away from zero
    rois = torch.from_numpy(np.concatenate([np.zeros((30, 1), np.float32), boxes], 1))
    pooled = roi_pool(torch.from_numpy(features)[None], rois, (14, 14), 1 / 16).numpy()
    for box, found in zip(boxes, pooled, strict=True):
        np.testing.assert_array_equal(found, naive_roi_pool(features, box, 14, 1 / 16))


def naive_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    order, kept = list(np.argsort(-scores, kind="stable")), []
    area = (boxes[:, 2] - boxes[:, 0] + np.float32(1)) * (boxes[:, 3] - boxes[:, 1] + np.float32(1))
    while order:
        i = order.pop(0)
        kept.append(int(i))
        left = []
        for j in order:
            w = max(
                np.float32(0), min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0]) + np.float32(1)
            )
            h = max(
                np.float32(0), min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1]) + np.float32(1)
            )
            if float(w * h / (area[i] + area[j] - w * h)) < threshold:
                left.append(j)
        order = left
    return kept


def random_boxes(rng: np.random.Generator, count: int, side: float) -> np.ndarray:
    corner = rng.uniform(0, side, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(2, side / 2, (count, 2))], 1).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_suppression_counts_one_more_pixel(threshold):
    rng = np.random.default_rng(2)
    differs = 0
    for _ in range(20):
        boxes, scores = random_boxes(rng, 60, 40), rng.permutation(60).astype(np.float32)
        found = nms_plus_one(torch.from_numpy(boxes), torch.from_numpy(scores), threshold).tolist()
        assert found == naive_nms(boxes, scores, threshold)
        plain = torch.ops.torchvision.nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
        differs += plain.tolist() != found
    assert differs > 0  # the convention matters


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 130])
def test_class_nms_equals_one_class_at_a_time(count):
    rng = np.random.default_rng(count)
    boxes, scores = random_boxes(rng, count, 60), rng.random((count, 7)).astype(np.float32)
    kept = class_nms(boxes, scores, 0.3)
    for c in range(7):
        assert set(np.flatnonzero(kept[:, c])) == set(naive_nms(boxes, scores[:, c], 0.3))


def test_class_nms_of_nothing():
    assert class_nms(np.zeros((0, 4), np.float32), np.zeros((0, 5), np.float32), 0.3).shape == (0, 5)


def test_decode_takes_nothing_off_the_far_corner():
    box = torch.tensor([[0.0, 0.0, 15.0, 15.0]])
    np.testing.assert_array_equal(decode_boxes(box, torch.zeros(1, 4)).numpy(), [[0, 0, 16, 16]])


def test_real_boxes_obey_the_geometry(shared_data):
    """The published boxes of ten COCO images end at the network input's last pixel and are large enough."""
    csv.field_size_limit(sys.maxsize)
    rows = 0
    with open(shared_data / "coco10" / "train2014_obj36.tsv", newline="") as handle:
        for row in csv.reader(handle, delimiter="\t"):
            image_id, height, width, count = row[0], int(row[1]), int(row[2]), int(row[7])
            boxes = np.frombuffer(base64.b64decode(row[8]), "<f4").reshape(count, 4)
            image = decode_image(shared_data / "coco10" / f"{image_id}.jpg")
            assert image.shape == (height, width, 3)
            scale = image_scale(height, width, 600, 1000)
            blob_height, blob_width = scaled_sides(height, width, scale)
            assert abs(boxes[:, 2].max() * scale - (blob_width - 1)) < 0.01
            assert abs(boxes[:, 3].max() * scale - (blob_height - 1)) < 0.01
            sides = (boxes[:, 2:] - boxes[:, :2]) * scale + 1
            assert sides.min() >= 16 * scale - 1e-3
            rows += 1
    assert rows == 10
