"""What LXMERT's training computes, against numbers worked out by hand, and its recipes against the published.

Every figure follows from the formulas of the reference code; the arithmetic stands beside it.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from lxmert.objectives.masked_lm import MaskedLanguageModelling
from lxmert.objectives.masked_region import MaskedRegionModelling
from lxmert.objectives.matching import Matching
from lxmert.objectives.qa import QuestionAnswering
from lxmert.specs import load_plan
from lxmert.specs.jobs import job_spec_text
from lxmert.training.loop import planned_steps
from lxmert.training.optimizers import AdamW, BertAdam, build_optimizer, clip_scale
from lxmert.training.schedules import build_schedule
from lxmert.training.task_loss import task_loss
from lxmert.types import Batch, Encoded

LN2, LN7 = 0.6931471805599453, 1.9459101490553132


def zeros(module: nn.Module) -> nn.Module:
    """All parameters 0: every score is 0, every class as likely as the other."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module.double()


def region_batch(**changes: Any) -> Batch:
    """One example of two regions, none of them masked unless said."""
    targets = {
        "object_ids": torch.tensor([[3, 6]]),
        "object_scores": torch.tensor([[0.5, 0.25]], dtype=torch.float64),
        "attribute_ids": torch.tensor([[0, 1]]),
        "attribute_scores": torch.tensor([[1.0, 0.0]], dtype=torch.float64),
        "region_masked": torch.tensor([[False, False]]),
        "original_features": torch.zeros(1, 1, 4, dtype=torch.float64),
        **changes,
    }
    ids = torch.ones(1, 3, dtype=torch.int64)
    return Batch(ids, ids, torch.zeros(1, 2, 4), torch.zeros(1, 2, 4), None, targets)


def region_losses(batch: Batch, **settings: Any) -> dict[str, float]:
    head = zeros(MaskedRegionModelling(4, 7, 2, 4, **settings))
    vision = torch.ones(1, 2, 4, dtype=torch.float64)
    losses = head(Encoded(None, vision, vision[:, 0]), batch)
    return {name: loss.mean().item() for name, loss in losses.items()}


def test_bert_adam_three_updates_of_one_weight() -> None:
    """Weight 1, peak rate 0.1; gradients 0.5, 0.5, -1; warm-up factors 0, 1/2, 1.

    m: .05, .095, -.0145; v: .00025, .00049975, .00149925...; no bias correction; decay .01 on the weight.
    Update 1 has rate 0. Update 2: .095 / (sqrt(.00049975) + 1e-6) + .01 = 4.2594, times .05. Update 3:
    -.36661 times .1.
    """
    weight = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = BertAdam([("bias", weight)], lr=0.1)
    schedule = build_schedule({"name": "linear", "warmup_fraction": 0.2}, 10)
    assert [schedule(step) for step in range(3)] == [0.0, 0.5, 1.0]
    found = []
    for step, gradient in enumerate((0.5, 0.5, -1.0)):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step(schedule(step))
        found.append(weight.item())
    assert found == pytest.approx([1.0, 0.787029919926995845, 0.823690121994167339], rel=1e-12)


def test_decay_reaches_biases_and_norms_but_not_weights_without_gradient() -> None:
    """A gradient of 0 leaves decay alone: p (1 - rate x .01); no gradient leaves the weight as it is."""
    norm, unused = nn.LayerNorm(2).double(), nn.Parameter(torch.ones(2, dtype=torch.float64))
    nn.init.ones_(norm.bias)
    optimizer = BertAdam([*norm.named_parameters(), ("unused", unused)], lr=0.1)
    for parameter in norm.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(1.0)
    assert norm.weight.tolist() == norm.bias.tolist() == pytest.approx([0.999, 0.999], rel=1e-14)
    assert unused.tolist() == [1.0, 1.0]


def test_clips() -> None:
    """A gradient (3, 4) is 5 long: pretraining's clip of 1 makes it (.6, .8), fine-tuning's leaves it."""
    norm = torch.tensor(5.0, dtype=torch.float64)
    one, five = clip_scale(norm, 1.0), clip_scale(norm, 5.0)
    assert one is not None and five is not None
    assert (3 * one.item(), 4 * one.item()) == pytest.approx((0.6, 0.8), rel=1e-6)
    assert five.item() == pytest.approx(1.0, rel=1e-6)


def test_objects_and_attributes_weigh_all_regions_by_confidence() -> None:
    """(1 / .15) (1 / 2 regions) (.5 + .25) ln 7 = 4.8648; attributes: (1 + 0) ln 2 / .3. None is masked."""
    losses = region_losses(region_batch())
    assert losses["object"] == pytest.approx(4.864775372638283, rel=1e-12)
    assert losses["attribute"] == pytest.approx(LN2 / 0.3, rel=1e-12) == pytest.approx(2.310490601866484)
    assert losses["feature"] == 0.0


def test_masked_only_counts_what_the_paper_counts() -> None:
    """Only the second region is masked: .25 ln 7 / .3."""
    masked = torch.tensor([[False, True]])
    losses = region_losses(region_batch(region_masked=masked), masked_only=True)
    assert losses["object"] == pytest.approx(0.25 * LN7 / 0.3, rel=1e-12)


def test_features_are_restored_by_smooth_l1() -> None:
    """Of (0, .5, 1, 3) the distances count 0, .125, .5, 2.5: mean .78125, one of two regions, / .15."""
    original = torch.tensor([[[0.0, 0.5, -1.0, 3.0]]], dtype=torch.float64)
    batch = region_batch(region_masked=torch.tensor([[True, False]]), original_features=original)
    assert region_losses(batch)["feature"] == pytest.approx(0.78125 / 2 / 0.15, rel=1e-12)


def test_the_other_objectives_are_means_over_what_is_asked() -> None:
    """Equal scores: ln V, ln 2, ln K, whatever the number of words and answers that are asked for."""
    targets = {
        "masked_lm_labels": torch.tensor([[-1, 4, -1], [2, 3, -1]]),
        "matched": torch.tensor([1, 0]),
        "answer": torch.tensor([5, -1]),
    }
    ids = torch.ones(2, 3, dtype=torch.int64)
    batch = Batch(ids, ids, torch.zeros(2, 2, 4), torch.zeros(2, 2, 4), None, targets)
    language = torch.ones(2, 3, 4, dtype=torch.float64)
    encoded = Encoded(language, None, language[:, 0])
    words = nn.Parameter(torch.zeros(11, 4, dtype=torch.float64))
    for objective, name, count, classes in (
        (MaskedLanguageModelling(words), "masked_lm", 3, 11),
        (Matching(4), "matching", 2, 2),
        (QuestionAnswering(4, 9), "qa", 1, 9),
    ):
        loss = zeros(objective)(encoded, batch)[name]
        assert loss.denominator.item() == count
        assert loss.mean().item() == pytest.approx(math.log(classes), rel=1e-12), name


def test_binary_cross_entropy_times_the_number_of_answers() -> None:
    """Scores (0, 2) for targets (.3, 1): ln 2 + ln(1 + e^-2); scores (-1, 0), targets 0: .3133 + ln 2.

    The mean over 2 x 2 numbers, times 2 answers, is the sum over the answers, averaged over the batch.
    """
    logits = torch.tensor([[0.0, 2.0], [-1.0, 0.0]], dtype=torch.float64)
    targets = torch.tensor([[0.3, 1.0], [0.0, 0.0]])
    first, second = LN2 + 0.1269280110429725, 0.31326168751822286 + LN2
    loss = task_loss("bce_times_answers")(logits, targets)
    assert loss.mean().item() == pytest.approx((first + second) / 2, rel=1e-7)
    mean = nn.functional.binary_cross_entropy_with_logits(logits, targets.double())
    assert loss.mean().item() == pytest.approx(2 * mean.item(), rel=1e-7)


def test_nlvr2_is_two_way_cross_entropy() -> None:
    """Scores (0, ln 3): True has 3/4, False 1/4."""
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]], dtype=torch.float64)
    loss = task_loss("cross_entropy")(logits, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert loss.mean().item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, rel=1e-12)


# global batch, peak rate, epochs, warm-up, clip, loss, training splits, selection, steps an epoch and in all
PUBLISHED = {
    "vqa": (32, 5e-5, 4, 0.1, 5.0, "bce_times_answers", ["train", "nominival"], "minival", 19_753, 79_012),
    "gqa": (32, 1e-5, 4, 0.1, 5.0, "bce_times_answers", ["train", "valid"], "testdev", 33_595, 134_380),
    "nlvr2": (32, 5e-5, 4, 0.1, 5.0, "cross_entropy", ["train"], "valid", 2_699, 10_796),
}


@pytest.mark.parametrize("task", PUBLISHED)
def test_fine_tuning_recipes_are_the_published(task: str) -> None:
    plan = load_plan({"corpus": "full"})
    recipe, document = plan.runs[task].recipe, plan.tasks[task]
    counts = plan.datasets[document["dataset"]]["splits"]
    examples = sum(counts[split]["examples"] for split in document["train_on"])
    steps = examples // recipe["global_batch"]
    assert PUBLISHED[task] == (
        recipe["global_batch"],
        recipe["optimizer"]["lr"],
        recipe["max_epochs"],
        recipe["schedule"]["warmup_fraction"],
        recipe["clip_norm"],
        recipe["loss"]["name"],
        document["train_on"],
        document["select_on"],
        steps,
        planned_steps(recipe, steps),
    )
    _check_common(recipe)


def test_the_pretraining_recipe_is_the_published() -> None:
    recipe = load_plan({"corpus": "full", "weights": "pretrain"}).pretrainings["pretrain"].recipe
    assert (recipe["global_batch"], recipe["optimizer"]["lr"], recipe["max_epochs"]) == (256, 1e-4, 20)
    assert (recipe["schedule"]["warmup_fraction"], recipe["clip_norm"], recipe["init"]) == (
        0.05,
        1.0,
        "scratch",
    )
    assert (recipe["word_mask_rate"], recipe["region_mask_rate"], recipe["mismatch_rate"]) == (
        0.15,
        0.15,
        0.5,
    )
    assert recipe["objectives"] == {
        "masked_lm": 1.0,
        "matching": 1.0,
        "masked_region": {"object": 1.0, "attribute": 1.0, "feature": 1.0, "masked_only": False},
        "qa": 1.0,
    }
    # Between 8,966,912 and 8,967,167 pairs make 35,027 steps an epoch.
    assert {pairs // 256 for pairs in (8_966_912, 8_967_167)} == {35_027}
    _check_common(recipe)


def _check_common(recipe: dict[str, Any]) -> None:
    optimizer = recipe["optimizer"]
    assert (optimizer["name"], optimizer["weight_decay"], optimizer["eps"]) == ("bert_adam", 0.01, 1e-6)
    assert optimizer["betas"] == [0.9, 0.999] and recipe["schedule"]["name"] == "linear"
    assert recipe["max_tokens"] == 20 and recipe["precision"] == "fp32"


def test_modern_alternatives_are_one_word_away() -> None:
    words = {"optimizer": {"name": "adamw"}, "schedule": {"name": "cosine"}, "precision": "bf16"}
    plan = load_plan({"corpus": "full", "overrides": {"lxmert": {"vqa": words}}})
    recipe = plan.runs["vqa"].recipe
    assert recipe["optimizer"]["lr"] == 5e-5 and recipe["schedule"]["warmup_fraction"] == 0.1
    weight = nn.Parameter(torch.ones(1))
    assert isinstance(build_optimizer(recipe["optimizer"], [("w", weight)]), AdamW)
    schedule = build_schedule(recipe["schedule"], 100)
    assert schedule(10) == pytest.approx(1.0) and schedule(55) == pytest.approx(0.5)
    assert recipe["precision"] == "bf16"
    assert job_spec_text({"a": recipe}) != job_spec_text(
        {"a": load_plan({"corpus": "full"}).runs["vqa"].recipe}
    )
