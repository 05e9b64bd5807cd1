"""Rates, groups and norms of detector training."""

from __future__ import annotations

import math

import pytest
import torch
from detector_scenes import micro_documents

from lxmert.detector.backbone import Norm
from lxmert.detector.batches import BatchMaker, ahead
from lxmert.detector.documents import parse_recipe, parse_size
from lxmert.detector.model import build_detector, seeded, with_classes
from lxmert.detector.train import export_boxes, learning_rate, make_optimizer
from lxmert.detector.vg_data import BoxRows
from lxmert.specs.documents import read_document


def micro(**changes):
    size, recipe = micro_documents()
    for name, value in changes.items():
        recipe[name] = {**recipe[name], **value} if isinstance(value, dict) else value
    return with_classes(parse_size(size), 3, 3, "test"), parse_recipe(recipe)


def test_published_schedule_drops_once():
    recipe = parse_recipe(read_document("detector_recipe", "vg"))
    rates = [learning_rate(recipe, step) for step in (0, 349_999, 350_000, 379_999)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])


def test_cosine_rises_then_falls_to_nothing():
    _, recipe = micro(steps=102, schedule={"warmup_steps": 2}, optimizer={"lr": 0.5})
    assert [learning_rate(recipe, step) for step in (0, 1, 2)] == [0.25, 0.5, 0.5]
    assert math.isclose(learning_rate(recipe, 52), 0.25)
    assert 0 < learning_rate(recipe, 101) < 1e-3


def test_each_part_has_its_rate():
    size, recipe = micro(optimizer={"head_lr": 4.0, "head_bias_lr": 2.0}, frozen=["backbone.stem"])
    groups = {group["name"]: group for group in make_optimizer(build_detector(size), recipe).param_groups}
    assert not any(name.startswith("backbone.stem") for name in groups)
    assert groups["backbone.res3.0.conv1.weight"]["rate"] == 1
    assert groups["proposal_generator.rpn_head.conv.weight"]["rate"] == 1
    assert groups["proposal_generator.rpn_head.conv.bias"]["rate"] == 2
    assert groups["roi_heads.box_predictor.cls_score.weight"]["rate"] == 4
    assert groups["roi_heads.box_predictor.cls_score.bias"]["rate"] == 8
    assert groups["backbone.res3.0.conv1.norm.weight"]["weight_decay"] == 0


def test_frozen_norms_have_no_group():
    size, recipe = micro(norm={"train": "frozen", "freeze_after": 0.0})
    assert not [g for g in make_optimizer(build_detector(size), recipe).param_groups if ".norm." in g["name"]]


def test_first_gain_of_blocks():
    size, _ = micro()
    model = build_detector(size, residual_gain=0.25)
    gains = {
        name: module.weight.unique().tolist()
        for name, module in model.named_modules()
        if isinstance(module, Norm)
    }
    assert gains["roi_heads.res5.0.conv3.norm"] == [0.25] and gains["roi_heads.res5.0.shortcut.norm"] == [1.0]


def test_exported_boxes_are_in_plain_deltas():
    size, _ = micro()
    model = build_detector(size)
    layer = model.roi_heads.box_predictor.bbox_pred
    before = layer.weight.clone()
    with torch.no_grad():
        layer.bias.fill_(1.0)
    export_boxes(model, (0.1, 0.1, 0.2, 0.2))
    torch.testing.assert_close(layer.weight[4:8], before[4:8] * torch.tensor([[0.1], [0.1], [0.2], [0.2]]))
    torch.testing.assert_close(layer.bias[:4], torch.tensor([0.1, 0.1, 0.2, 0.2]))


def test_generators_differ_by_every_part():
    first = [
        seeded(*parts).initial_seed()
        for parts in ((1, "step", 1), (2, "step", 1), (1, "step", 2), (1, "weights", 1))
    ]
    assert len(set(first)) == 4


def rows(wide: list[bool]) -> BoxRows:
    import numpy as np

    count = len(wide)
    return BoxRows(
        tuple(map(str, range(count))), ("",) * count, np.arange(count + 1), np.zeros((count, 4)),
        np.ones(count, np.int32), np.zeros((count, 16), np.int16), np.array(wide),
    )  # fmt: skip


@pytest.mark.parametrize("wide", [[True], [True, False, True], [True] * 7 + [False] * 6])
@pytest.mark.parametrize("flip", [True, False])
def test_an_epoch_takes_every_image_once(wide, flip):
    size, _ = micro()
    maker = BatchMaker(rows(wide), size, 4, flip, seed=3, cache_mb=0)
    count = len(wide) * (2 if flip else 1)
    for epoch in (0, 1):
        steps = range(epoch * maker.steps_per_epoch, (epoch + 1) * maker.steps_per_epoch)
        taken = [int(item) for step in steps for item in maker.items(step)]
        assert sorted(taken) == list(range(count))
    assert (
        maker.items(1 % maker.steps_per_epoch).tolist()
        == BatchMaker(rows(wide), size, 4, flip, 3, 0).items(1 % maker.steps_per_epoch).tolist()
    )


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_loading_ahead_keeps_the_order(workers):
    assert list(ahead(lambda n: n * n, range(3, 12), workers)) == [n * n for n in range(3, 12)]
    assert list(ahead(lambda n: n, range(0), workers)) == []
