"""Targets and losses against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import torch

from lxmert.detector.batches import mirror_boxes
from lxmert.detector.documents import AnchorSampling, RegionSampling
from lxmert.detector.losses import (
    anchor_targets,
    attribute_loss,
    proposal_losses,
    region_losses,
    region_targets,
    smooth_l1,
)

ANCHORS = AnchorSampling(64, 0.5, 0.7, 0.3, False)
REGIONS = RegionSampling(8, 0.5, 0.5, (0.0, 0.5), (0.1, 0.1, 0.2, 0.2))


def boxes(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def test_anchor_labels():
    anchors = boxes([0, 0, 9, 9], [0, 0, 9, 19], [20, 20, 29, 29], [-1, 0, 8, 9], [60, 60, 70, 69])
    truth = boxes([0, 0, 9, 9])
    labels, targets = anchor_targets(anchors, truth, 70, 70, ANCHORS, torch.Generator())
    # equal: positive; half over: between; far: negative; outside on the left; x2 = width: outside
    assert labels.tolist() == [1, -1, 0, -1, -1]
    assert targets.abs().sum() == 0


def test_best_anchor_of_a_true_box_is_positive_below_the_threshold():
    anchors = boxes([0, 0, 9, 19], [40, 40, 49, 49])
    labels, targets = anchor_targets(anchors, boxes([0, 0, 9, 9]), 70, 70, ANCHORS, torch.Generator())
    assert labels.tolist() == [1, 0]
    np.testing.assert_allclose(targets[0].numpy(), [0, -0.25, 0, math.log(0.5)], rtol=1e-6)


def test_untouched_true_box_marks_nothing_unless_parity_is_wanted():
    anchors, truth = boxes([0, 0, 9, 9], [20, 20, 29, 29]), boxes([50, 50, 59, 59])
    assert anchor_targets(anchors, truth, 70, 70, ANCHORS, torch.Generator())[0].tolist() == [0, 0]
    quirk = AnchorSampling(64, 0.5, 0.7, 0.3, True)
    assert anchor_targets(anchors, truth, 70, 70, quirk, torch.Generator())[0].tolist() == [1, 1]


def test_no_true_box_makes_all_negative_up_to_the_batch():
    anchors = boxes(*[[i, 0, i + 5, 5] for i in range(10)])
    few = AnchorSampling(4, 0.5, 0.7, 0.3, False)
    labels, _ = anchor_targets(anchors, boxes(), 70, 70, few, torch.Generator().manual_seed(0))
    assert (labels == 0).sum() == 4 and (labels == -1).sum() == 6
    inside, _ = anchor_targets(anchors, boxes(), 2, 2, few, torch.Generator())
    assert (inside == -1).all()


def test_region_targets():
    truth = boxes([0, 0, 9, 9], [30, 30, 49, 49])
    attributes = torch.zeros(2, 16, dtype=torch.int64)
    attributes[0, :2] = torch.tensor([5, 7])
    proposals = boxes([0, 0, 9, 10], [60, 60, 69, 69])
    found = region_targets(proposals, truth, torch.tensor([3, 4]), attributes, REGIONS, torch.Generator())
    assert found.classes.tolist() == [3, 3, 4, 0]  # the proposal, both true boxes, the background
    np.testing.assert_allclose(
        found.deltas[0].numpy(), [0, (5 - 5.5) / 11 / 0.1, 0, math.log(10 / 11) / 0.2], rtol=1e-5, atol=1e-6
    )
    assert found.attributes[0].tolist() == [5, 7] + [-1] * 14
    assert found.attributes[2].tolist() == [0] + [-1] * 15  # no attributes: trained to say "none"
    assert found.attributes[3].tolist() == [-1] * 16


def test_region_targets_without_truth():
    found = region_targets(
        boxes([0, 0, 9, 9]), boxes(), torch.zeros(0).long(), torch.zeros(0, 16).long(), REGIONS,
        torch.Generator(),
    )  # fmt: skip
    assert found.classes.tolist() == [0]


def test_smooth_l1_meets_the_reference_form():
    x = torch.tensor([0.05, 1 / 9, 0.5])
    np.testing.assert_allclose(
        smooth_l1(x, torch.zeros(3), 3.0).numpy(), [0.5 * 0.15**2, 1 / 18, 0.5 - 0.5 / 9], rtol=1e-5
    )


def test_proposal_losses_average_within_then_over_images():
    logits = torch.zeros(2, 3, 2)
    logits[0, 0, 1] = math.log(3)  # probability 3/4 of foreground
    labels = torch.tensor([[1, 0, -1], [0, -1, -1]])
    deltas, targets = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    deltas[0, 0, 0] = 1.0
    classes, distance = proposal_losses(logits, deltas, labels, targets)
    first = (-math.log(0.75) - math.log(0.5)) / 2
    assert math.isclose(classes.item(), (first - math.log(0.5)) / 2, rel_tol=1e-6)
    assert math.isclose(distance.item(), (1 - 0.5 / 9) / 2 / 2, rel_tol=1e-6)


def test_box_loss_reads_the_true_class_alone():
    logits = torch.zeros(2, 3)
    deltas = torch.zeros(2, 12)
    deltas[0, 8:] = torch.tensor([2.0, 0, 0, 0])  # class 2
    deltas[0, 4:8] = 100.0
    share = torch.tensor([0.5, 0.5])
    classes, distance = region_losses(logits, deltas, torch.tensor([2, 0]), torch.zeros(2, 4), share)
    assert math.isclose(classes.item(), math.log(3), rel_tol=1e-6)
    assert math.isclose(distance.item(), 1.5 / 2, rel_tol=1e-6)


def test_attribute_loss_is_the_mean_over_labels_and_its_gradient_the_reference_kernel():
    logits = torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], requires_grad=True)
    labels = torch.tensor([[1, 2], [0, -1], [-1, -1]])
    loss = attribute_loss(logits, labels, torch.tensor([0, 0, 0]), 1)
    p = torch.softmax(logits[0], 0).detach()
    expected = (-(p[1].log() + p[2].log()) / 2 + math.log(3)) / 2
    assert math.isclose(loss.item(), expected.item(), rel_tol=1e-6)
    loss.backward()
    np.testing.assert_allclose(
        logits.grad[0].numpy() * 2, (p - torch.tensor([0, 0.5, 0.5])).numpy(), atol=1e-6
    )
    assert logits.grad[2].abs().sum() == 0


def test_attribute_loss_without_any_label_is_zero():
    loss = attribute_loss(
        torch.zeros(0, 3), torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), 2
    )
    assert loss.item() == 0


def test_mirroring_twice_is_nothing():
    original = np.array([[0, 1, 9, 5], [3, 0, 3, 0]], np.float32)
    once = mirror_boxes(original, 10)
    np.testing.assert_array_equal(once, [[0, 1, 9, 5], [6, 0, 6, 0]])
    np.testing.assert_array_equal(mirror_boxes(once, 10), original)
