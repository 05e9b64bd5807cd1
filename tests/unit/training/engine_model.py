"""A narrow pretraining model and a batch of it, for tests of steps."""

from __future__ import annotations

import torch

from lxmert.data.masking import masked_features
from lxmert.models.layers import initialise
from lxmert.models.lxmert import LxmertEncoder
from lxmert.models.pretraining import PretrainingModel, build_pretraining
from lxmert.training.optimizers import BertAdam
from lxmert.training.precision import Precision, double
from lxmert.training.ranks import Ranks
from lxmert.training.step import Task, TrainingStep
from lxmert.types import Batch

SIZE = {
    "hidden": 16,
    "heads": 2,
    "intermediate": 20,
    "language_layers": 1,
    "relation_layers": 1,
    "cross_layers": 2,
    "max_positions": 12,
}
OBJECTIVES = {"masked_lm": 1.0, "matching": 1.0, "masked_region": {"object": 0.5}, "qa": 1.0}
B, L, R, F = 7, 6, 3, 5


def model(dropout: float = 0.1, seed: int = 1) -> PretrainingModel:
    encoder = LxmertEncoder({**SIZE, "hidden_dropout": dropout, "attention_dropout": dropout}, 30, F)
    made = build_pretraining(encoder, OBJECTIVES, 7, 4, 9)
    initialise(made, seed, 0.1)
    return made


def batch(seed: int = 2) -> Batch:
    """Seven examples; words, regions and answers asked for in some of them only, padding in others."""
    draw = torch.Generator().manual_seed(seed)

    def below(limit: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, limit, shape, generator=draw)

    def share(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=draw)

    labels = torch.full((B, L), -1)
    labels[0, 2], labels[0, 3], labels[5, 1] = 4, 5, 6
    answers = torch.full((B,), -1)
    answers[1], answers[6] = 3, 8
    masked = share(B, R) < 0.3
    targets = {
        "masked_lm_labels": labels,
        "matched": below(2, B),
        "object_ids": below(7, B, R),
        "object_scores": share(B, R),
        "attribute_ids": below(4, B, R),
        "attribute_scores": share(B, R),
        "original_features": torch.from_numpy(masked_features((share(B, R, F) * 3).numpy(), masked.numpy())),
        "region_masked": masked,
        "answer": answers,
    }
    ids = below(29, B, L) + 1
    mask = torch.ones_like(ids)
    mask[2, 4:] = 0
    regions = torch.ones(B, R, dtype=torch.int64)
    regions[4, 2] = 0
    return Batch(ids, mask, share(B, R, F), share(B, R, 4), regions, targets)


def step_of(
    made: PretrainingModel,
    precision: str = "fp32",
    micro_batch: int | None = None,
    lr: float = 1e-2,
    device: str = "cpu",
) -> TrainingStep:
    if precision == "fp64":
        double(made)
    place = torch.device(device)
    made.to(place)
    return TrainingStep(
        Task(made, made.encoder.noise, made, made.denominators, made.weights),
        BertAdam(made.named_parameters(), lr=lr),
        clip_norm=1.0,
        precision=Precision(precision, place),
        ranks=Ranks(),
        device=place,
        micro_batch=micro_batch,
    )


def gradients_of(training: TrainingStep, seed: int = 3, step: int = 5) -> dict[str, torch.Tensor]:
    """Gradients before the optimiser forgets them."""
    kept: dict[str, torch.Tensor] = {}
    plain = training.optimizer.zero_grad

    def keep() -> None:
        for name, parameter in training.optimizer.parameters.items():
            if parameter.grad is not None:
                kept[name] = parameter.grad.clone()
        plain()

    training.optimizer.zero_grad = keep  # type: ignore[method-assign]
    training.run(batch(), seed, step, 0.0)
    return kept
