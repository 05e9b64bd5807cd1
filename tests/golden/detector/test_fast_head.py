"""The rearranged last stage against PyTorch's own convolutions, and both against float64."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from seeded_detectors import seeded_detector, small_size
from torchvision.ops import roi_pool

from lxmert.detector.backends import for_inference
from lxmert.detector.fast_head import FastHead
from lxmert.detector.rectangles import pooled_rectangles, shared_rectangles
from lxmert.detector.winograd import row_matrices, tile_matrices


def wide_size():
    """A small network whose regions have 14 x 14 cells, as the full one's."""
    size = small_size()
    return replace(size, head=replace(size.head, pool=14, blocks=3))


def random_boxes(count: int, width: float, height: float, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(0, width - 1, (count, 2)), 1)
    y = np.sort(rng.uniform(0, height - 1, (count, 2)), 1)
    return torch.from_numpy(np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1).astype(np.float32))


@pytest.mark.parametrize("outputs", [1, 2, 3, 4])
def test_a_tile_is_a_correlation(outputs):
    rng = np.random.default_rng(outputs)
    cells, taps = rng.normal(size=outputs + 2), rng.normal(size=3)
    inputs, filters, back = tile_matrices(outputs)
    found = back @ ((filters @ taps) * (inputs @ cells))
    np.testing.assert_allclose(found, np.correlate(cells, taps, "valid"), atol=1e-12)
    assert len(inputs) == outputs + 2  # products, where plain sums take 3 for each output


@pytest.mark.parametrize("cells", range(1, 11))
def test_a_row_is_a_correlation_between_zeros(cells):
    rng = np.random.default_rng(cells)
    values, taps = rng.normal(size=cells), rng.normal(size=3)
    inputs, filters, back = row_matrices(cells)
    found = back @ ((filters @ taps) * (inputs @ values))
    np.testing.assert_allclose(found, np.correlate(np.pad(values, 1), taps, "valid"), atol=1e-12)
    assert len(row_matrices(7)[0]) == 11  # so 121 products instead of 441 for 7 x 7 cells


@pytest.mark.parametrize("pool", [14, 7])
def test_rectangles_are_quantised_pooling_to_the_bit(pool):
    features = torch.randn(1, 5, 37, 51, generator=torch.Generator().manual_seed(0))
    # The last pixel of a blob of 601 rounds to a column behind a map of 37 or 38 cells: empty, hence 0.
    boxes = torch.cat([random_boxes(300, 815, 591), random_boxes(300, 90, 90, 1)])
    edges = [[8, 8, 24, 24], [0, 0, 831, 607], [815, 591, 831, 607], [3, 3, 3, 3], [820, 600, 900, 700]]
    boxes = torch.cat([boxes, torch.tensor(edges, dtype=torch.float32)])
    found = shared_rectangles(boxes, 37, 51, pool, 1 / 16)
    pooled = torch.cat([part for _, part in pooled_rectangles(features[0], found, 100)])
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)
    expected = roi_pool(features, rois, (pool, pool), 1 / 16)
    assert torch.equal(pooled[found.cells[found.region]].permute(0, 3, 1, 2), expected)
    assert len(found) < found.cells.numel() / 2 and len(found.cells) < len(boxes)
    assert (expected[-1] == 0).all()


def plain_features(stage, features, boxes, pool, dtype):
    stage = copy.deepcopy(stage).to(dtype)
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)
    return stage(roi_pool(features, rois, (pool, pool), 1 / 8).to(dtype)).mean((2, 3))


@torch.inference_mode()
def test_rounding_is_that_of_float32():
    """Relative to float64, errors are at most four times those of plain convolutions, and below 2e-6."""
    model = seeded_detector(wide_size())
    with torch.no_grad():  # residual branches as strong as their shortcuts: the harder case
        for name, value in model.roi_heads.res5.named_parameters():
            if name.endswith("conv3.norm.weight"):
                value.fill_(1.0)
    model.fold_norms()
    stage = model.roi_heads.res5
    features = torch.rand(1, 64, 20, 30, generator=torch.Generator().manual_seed(0))
    boxes = random_boxes(50, 235, 155)
    exact = plain_features(stage, features, boxes, 14, torch.float64)
    plain = plain_features(stage, features, boxes, 14, torch.float32)
    fast = FastHead(stage, 14, 1 / 8).features(features, boxes)
    errors = [float(((x - exact).norm(dim=1) / exact.norm(dim=1)).max()) for x in (plain, fast)]
    print(f"largest relative error: plain {errors[0]:.1e}, rearranged {errors[1]:.1e}")
    assert errors[1] < 4 * errors[0] and errors[1] < 2e-6


@torch.inference_mode()
def test_equal_regions_have_equal_features_and_groups_do_not_matter(monkeypatch):
    import lxmert.detector.fast_head as module

    model = seeded_detector(wide_size(), 1)
    model.fold_norms()
    head = FastHead(model.roi_heads.res5, 14, 1 / 8)
    features = torch.rand(1, 64, 20, 30, generator=torch.Generator().manual_seed(0))
    boxes = random_boxes(21, 235, 155)
    boxes[7] = (boxes[2] / 8).round() * 8 + 1
    boxes[2] = (boxes[2] / 8).round() * 8
    first = head.features(features, boxes)
    assert torch.equal(first[7], first[2]) and not torch.equal(first[7], first[3])
    monkeypatch.setattr(module, "GROUP", 4)
    torch.testing.assert_close(head.features(features, boxes), first, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head.features(features, boxes[5:6]), first[5:6], rtol=1e-5, atol=1e-6)


def test_memory_is_used_again_in_either_mode():
    model = seeded_detector(wide_size(), 1)
    model.fold_norms()
    head = FastHead(model.roi_heads.res5, 14, 1 / 8)
    features = torch.rand(1, 64, 20, 30, generator=torch.Generator().manual_seed(0))
    boxes = random_boxes(21, 235, 155)
    found = []
    for mode in (torch.inference_mode, torch.no_grad, torch.inference_mode):
        with mode():
            found.append(head.features(features, boxes))
            head.features(features.flip(2), boxes)
    assert torch.equal(found[0], found[1]) and torch.equal(found[1], found[2])


@pytest.mark.parametrize("size", [wide_size(), small_size()], ids=["rearranged", "does not fit"])
@torch.inference_mode()
def test_the_whole_network_agrees_with_plain_convolutions(size):
    model = seeded_detector(size, 2)
    plain = for_inference(copy.deepcopy(model), convolutions="plain")
    fast = for_inference(model)
    assert (fast.roi_heads.fast is not None) == (size.head.pool == 14) and plain.roi_heads.fast is None
    pixels = 60 * torch.randn(1, 3, 140, 180, generator=torch.Generator().manual_seed(0))
    maps = [each.feature_map(pixels) for each in (plain, fast)]
    assert maps[1].is_contiguous(memory_format=torch.channels_last) and not maps[0].is_contiguous(
        memory_format=torch.channels_last
    )
    torch.testing.assert_close(maps[1], maps[0], rtol=1e-4, atol=1e-5)
    boxes, scores = plain.proposals(maps[0], 140, 180, 1.0)
    again, _ = fast.proposals(maps[1], 140, 180, 1.0)
    torch.testing.assert_close(again, boxes, rtol=0, atol=1e-3)
    first, second = plain.describe(maps[0], boxes), fast.describe(maps[1], boxes)
    torch.testing.assert_close(second.features, first.features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(second.class_logits, first.class_logits, rtol=1e-3, atol=1e-4)
    assert len(boxes) > 20 and scores[0] > scores[-1]


def test_without_gradients_only():
    """Where gradients are wanted, and for half precision, the plain way is taken."""
    model = seeded_detector(wide_size(), 3)
    model = for_inference(model)
    pixels = torch.randn(1, 3, 64, 80)
    boxes = torch.tensor([[0.0, 3.0, 4.0, 40.0, 50.0]])
    features = model.feature_map(pixels)
    assert features.shape == (1, 64, 8, 10)
    with torch.inference_mode():
        fast = model.roi_heads.features(model.feature_map(pixels), boxes)
    plain = model.roi_heads.features(features, boxes)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        low = model.roi_heads.features(model.feature_map(pixels).float(), boxes).float()
    assert 1e-5 < float((low - plain).norm() / plain.norm()) < 0.1


def test_a_convolution_in_one_pass_is_the_convolution():
    from lxmert.detector.onednn import convolve

    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 9, 11, generator=rng).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(4, 6, 3, 3, generator=rng), torch.randn(4, generator=rng)
    added = torch.randn(2, 4, 5, 6, generator=rng).contiguous(memory_format=torch.channels_last)
    plain = F.conv2d(x, weight, bias, 2, 1)
    with torch.inference_mode():
        for relu in (False, True):
            end = F.relu if relu else (lambda y: y)
            found = convolve(x, weight, bias, (2, 2), (1, 1), relu=relu)
            torch.testing.assert_close(found, end(plain), rtol=1e-5, atol=1e-5)
            memory = added.clone(memory_format=torch.preserve_format)
            found = convolve(x, weight, bias, (2, 2), (1, 1), relu=relu, added=memory)
            torch.testing.assert_close(found, end(plain + added), rtol=1e-5, atol=1e-5)
            assert found.data_ptr() == memory.data_ptr()
