"""The benchmark of extraction: its references have our weights, and it counts what is multiplied."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

from bench_extract import TINY, flops, picture, read  # noqa: E402
from extract_reference import plain_faster_rcnn  # noqa: E402

from lxmert.detector.onednn import convolve, multiply  # noqa: E402
from lxmert.detector.seeded import seeded_detector  # noqa: E402


@torch.inference_mode()
def test_the_reference_has_our_weights():
    model = seeded_detector(TINY).requires_grad_(False)
    boxes = torch.tensor([[3.0, 4.0, 90.0, 80.0], [0.0, 0.0, 200.0, 150.0]])
    blob = read(picture(), TINY)
    image = torch.from_numpy(blob.pixels)
    features = model.feature_map(image[None])
    ours = model.describe(features, boxes)
    reference = plain_faster_rcnn(model)
    cells = reference.roi_heads.box_roi_pool({"0": features}, [boxes], [image.shape[1:]])
    found = reference.roi_heads.box_head(cells)
    torch.testing.assert_close(found, ours.features)
    torch.testing.assert_close(reference.roi_heads.box_predictor(found)[0], ours.class_logits)
    (whole,) = reference([image])
    assert whole["boxes"].shape[1] == 4 and len(whole["scores"]) > 0


@torch.inference_mode()
def test_fused_operations_count_as_plain_ones():
    x, weight = torch.rand(2, 8, 9, 11), torch.rand(16, 8, 3, 3)
    images = x.contiguous(memory_format=torch.channels_last)
    plain = flops(lambda: F.conv2d(x, weight, None, 2, 1))
    assert plain == 2 * 2 * 16 * 8 * 9 * 5 * 6 and plain == flops(
        lambda: convolve(images, weight, None, (2, 2), (1, 1), relu=True)
    )
    added = torch.rand(2, 16, 5, 6).contiguous(memory_format=torch.channels_last)
    assert plain == flops(lambda: convolve(images, weight, None, (2, 2), (1, 1), added=added))
    rows, matrix = torch.rand(7, 8), torch.rand(5, 8)
    assert flops(lambda: multiply(rows, matrix, torch.zeros(5))) == flops(lambda: F.linear(rows, matrix))


def test_the_rearranged_network_multiplies_less():
    """Fewer products than the plain network for the same picture and regions."""
    from lxmert.detector.backends import for_inference
    from lxmert.detector.golden_stages import doctor_extractor, read_profile

    if not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN, so nothing is rearranged")
    counts = {}
    for kind in ("plain", "rearranged"):
        extractor = doctor_extractor(read_profile("lxmert-36"), convolutions=kind)
        blob = read(picture(), extractor.model.size)
        counts[kind] = flops(lambda e=extractor, b=blob: e.regions(b))
    assert counts["rearranged"] < 0.75 * counts["plain"]
    assert for_inference(seeded_detector(TINY)).rearranged
