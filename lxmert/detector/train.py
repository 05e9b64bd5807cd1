"""Training: one step, the optimiser and its schedule, and the loop that can be killed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lxmert.detector.backbone import Norm
from lxmert.detector.batches import BatchMaker, ImageBatch, ahead
from lxmert.detector.documents import LOSSES, Recipe
from lxmert.detector.losses import (
    RegionTargets,
    anchor_targets,
    attribute_loss,
    proposal_losses,
    region_losses,
    region_targets,
)
from lxmert.detector.model import Detector, seeded
from lxmert.detector.rpn import foreground_scores, propose
from lxmert.errors import DataError, Interrupted
from lxmert.progress import Progress
from lxmert.state import JobState, StopSignal

_PREDICTOR = "roi_heads.box_predictor."
_NEW_LAYERS = ("proposal_generator.", _PREDICTOR)


def step_losses(
    model: Detector, batch: ImageBatch, recipe: Recipe, generator: torch.Generator
) -> dict[str, Tensor]:
    """The five losses of a batch, each a mean over its images."""
    device = next(model.parameters()).device
    feature_map = model.backbone(batch.pixels.to(device))
    logits, deltas = model.proposal_generator(feature_map)
    anchors = model.proposal_generator.anchors(feature_map)
    scores = foreground_scores(logits.detach())
    rule, on_host = model.size.proposals, anchors.cpu()
    labels, targets, regions = [], [], []
    for i, (height, width) in enumerate(batch.sides):
        label, target = anchor_targets(on_host, batch.boxes[i], height, width, recipe.rpn, generator)
        labels.append(label)
        targets.append(target)
        boxes, _ = propose(
            anchors,
            scores[i],
            deltas[i].detach(),
            height,
            width,
            rule.min_side_px * batch.scales[i],
            rule.train,
        )
        regions.append(
            region_targets(
                boxes.cpu(), batch.boxes[i], batch.classes[i], batch.attributes[i], recipe.roi, generator
            )
        )
    rpn_class, rpn_box = proposal_losses(
        logits, deltas, torch.stack(labels).to(device), torch.stack(targets).to(device)
    )
    return {"rpn_class": rpn_class, "rpn_box": rpn_box, **_head_losses(model, feature_map, regions)}


def _head_losses(model: Detector, feature_map: Tensor, regions: list[RegionTargets]) -> dict[str, Tensor]:
    device, count = feature_map.device, len(regions)
    boxes = torch.cat([part.boxes for part in regions])
    images = torch.cat([torch.full((len(part.boxes),), i) for i, part in enumerate(regions)])
    share = torch.cat([torch.full((len(p.boxes),), 1.0 / (max(len(p.boxes), 1) * count)) for p in regions])
    classes = torch.cat([part.classes for part in regions])
    rois = torch.cat([images[:, None].to(boxes), boxes], 1).to(device)  # [n, 5]
    features = model.roi_heads.features(feature_map, rois)
    predictor = model.roi_heads.box_predictor
    class_loss, box_loss = region_losses(
        predictor.cls_score(features),
        predictor.bbox_pred(features),
        classes.to(device),
        torch.cat([part.deltas for part in regions]).to(device),
        share.to(device),
    )
    # The class embedding is that of the true class; background regions have no attribute targets.
    held = torch.nonzero(classes > 0).squeeze(1)
    attributes = torch.cat([part.attributes for part in regions])[held].to(device)
    logits = predictor.attributes(features[held.to(device)], classes[held].to(device))
    attribute = attribute_loss(logits, attributes, images[held].to(device), count)
    return {"class": class_loss, "box": box_loss, "attribute": attribute}


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate of a step, counted from 0."""
    schedule, base = recipe.schedule, recipe.optimizer.lr
    if step < schedule.warmup_steps:
        return base * (step + 1) / schedule.warmup_steps
    if schedule.name == "steps":
        return base * schedule.drop ** sum(step >= at for at in schedule.drop_at)
    share = (step - schedule.warmup_steps) / max(recipe.steps - schedule.warmup_steps, 1)
    return base * 0.5 * (1 + math.cos(math.pi * share))


def make_optimizer(model: Detector, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or AdamW over what the recipe does not freeze; one group a tensor, named by it."""
    groups = []
    norms = {
        f"{name}.{part}"
        for name, m in model.named_modules()
        if isinstance(m, Norm)
        for part in ("weight", "bias")
    }
    for name, value in model.named_parameters():
        frozen = name.startswith(recipe.frozen) or (name in norms and recipe.norm.train == "frozen")
        value.requires_grad_(not frozen)
        if frozen:
            continue
        rate = recipe.optimizer.head_lr if name.startswith(_PREDICTOR) else 1.0
        if name.endswith(".bias") and name.startswith(_NEW_LAYERS):
            rate *= recipe.optimizer.head_bias_lr
        groups.append(
            {
                "params": [value],
                "name": name,
                "rate": rate,
                "weight_decay": 0.0 if name in norms else recipe.optimizer.weight_decay,
            }
        )
    if recipe.optimizer.name == "sgd":
        return torch.optim.SGD(groups, lr=recipe.optimizer.lr, momentum=recipe.optimizer.momentum)
    return torch.optim.AdamW(groups, lr=recipe.optimizer.lr)


def _pack(model: Detector, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    for group in optimizer.param_groups:
        for key, value in optimizer.state[group["params"][0]].items():
            if value is not None:
                tensors[f"optimizer/{group['name']}/{key}"] = value
    return tensors


def _unpack(tensors: dict[str, Tensor], model: Detector, optimizer: torch.optim.Optimizer) -> None:
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model/")})
    for group in optimizer.param_groups:
        value = group["params"][0]
        prefix = f"optimizer/{group['name']}/"
        for name, saved in tensors.items():
            if name.startswith(prefix):
                key = name[len(prefix) :]
                optimizer.state[value][key] = saved if key == "step" else saved.to(value.device)


@dataclass
class Trainer:
    """Runs a recipe to its last step, from wherever the state stands.

    Attributes:
        model: trained in place; its box outputs stay divided by `box_std` until `finish`.
        recipe: how.
        batches: the batch of each step.
        state: where unfinished work lives.
        seed: of all draws.
        workers: threads that load images.
    """

    model: Detector
    recipe: Recipe
    batches: BatchMaker
    state: JobState
    seed: int
    workers: int = 0

    def run(self) -> None:
        """Trains; at the end the model holds inference weights.

        Raises:
            Interrupted: a signal came; the state is saved.
            DataError: a loss is not finite.
        """
        optimizer = make_optimizer(self.model, self.recipe)
        saved, start = self.state.load(), 0
        if saved is not None:
            _unpack(saved[0], self.model, optimizer)
            start = saved[1]["step"]
        progress = Progress(self.recipe.steps, "steps", "train-detector", start)
        clock = time.monotonic()
        with StopSignal() as stop:
            for step, batch in enumerate(
                ahead(self.batches, range(start, self.recipe.steps), self.workers), start
            ):
                losses = self._step(step, batch, optimizer)
                done = step + 1
                if done % self.recipe.log_every_steps == 0 or done == self.recipe.steps:
                    self._log(done, losses, progress)
                progress.advance(note=f"loss {losses['loss']:.3f}")
                late = time.monotonic() - clock >= self.recipe.save_every_seconds
                if late or stop.requested or done == self.recipe.steps:
                    self.state.save(_pack(self.model, optimizer), {"step": done})
                    clock = time.monotonic()
                if stop.requested:
                    raise Interrupted(f"saved after step {done} of {self.recipe.steps}")
        progress.close()
        self._finish()

    def _step(self, step: int, batch: ImageBatch, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        norm = self.recipe.norm
        self.model.train()
        self.model.learn_norms(norm.train == "batch" and step < norm.freeze_after * self.recipe.steps)
        generator = seeded(self.seed, "step", step)
        losses = step_losses(self.model, batch, self.recipe, generator)
        total = sum(losses[name] * weight for name, weight in self.recipe.loss_weights.items())
        assert isinstance(total, Tensor)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        if self.recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        rate = learning_rate(self.recipe, step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        optimizer.step()
        values = {name: losses[name].item() for name in LOSSES} | {"loss": total.item(), "lr": rate}
        if not math.isfinite(values["loss"]):
            raise DataError(
                f"train-detector: the loss is {values['loss']} at step {step + 1}; lower the recipe's lr and"
                f" run again."
            )
        return values

    def _log(self, done: int, losses: dict[str, float], progress: Progress) -> None:
        examples = done * self.recipe.images_per_step
        self.state.log(
            {"step": done, "examples": examples, "epoch": done / self.batches.steps_per_epoch, **losses}
        )

    def _finish(self) -> None:
        export_boxes(self.model, self.recipe.roi.box_std)
        self.model.learn_norms(False)
        self.model.requires_grad_(False).eval()


@torch.no_grad()
def export_boxes(model: Detector, box_std: tuple[float, ...]) -> None:
    """Multiplies the training targets' division by `box_std` into the box layer."""
    layer = model.roi_heads.box_predictor.bbox_pred
    std = torch.tensor(box_std, device=layer.weight.device).repeat(layer.out_features // 4)
    layer.weight.mul_(std[:, None])
    layer.bias.mul_(std)


def summary(history: list[dict[str, Any]]) -> dict[str, float]:
    """Mean of each loss over the last tenth of the records, at least one."""
    last = history[-max(len(history) // 10, 1) :]
    return (
        {name: sum(record[name] for record in last) / len(last) for name in (*LOSSES, "loss")} if last else {}
    )
