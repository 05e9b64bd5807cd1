"""Answers of a whole split: images once each, text unpadded, nothing computed that is not read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from lxmert.data.batching import Examples, attention_mask
from lxmert.models.heads import TaskModel
from lxmert.objectives import Loss
from lxmert.training.loop import Evaluation


@torch.inference_mode()
def chunk_logits(
    model: TaskModel, examples: Examples, rows: np.ndarray, device: torch.device
) -> torch.Tensor:
    """Logits [B, K] of some examples.

    Each distinct image and each distinct sentence of the chunk is encoded once; only the layers that
    cross the two see every pair.
    """
    encoder = model.encoder
    tokens, sentence = np.unique(examples.tokens(rows), axis=0, return_inverse=True)
    keys, image = np.unique(examples.image_keys(rows).astype(str), return_inverse=True)
    if examples.regions is None:  # a blind model sees the same nothing everywhere
        keys, image = keys[:1], np.zeros_like(image)
    pairs = examples.images_per_example
    questions = encoder.encode_questions(
        torch.from_numpy(tokens).to(device), torch.from_numpy(attention_mask(tokens)).to(device)
    )
    regions = examples.read_regions([str(key) for key in keys])
    real = torch.from_numpy(regions.region_mask).to(device)
    images = encoder.encode_images(
        torch.from_numpy(regions.features).to(device),
        torch.from_numpy(regions.boxes_norm).to(device),
        None if bool(real.all()) else real,
        project=len(keys) < len(rows) * pairs,
    )
    encoded = encoder.fuse(
        questions.select(torch.from_numpy(np.repeat(sentence.reshape(-1), pairs)).to(device)),
        images.select(torch.from_numpy(image.reshape(-1)).to(device)),
        read="pooled",
    )
    logits: torch.Tensor = model.head(encoded)
    return logits


def chunks(examples: Examples, size: int, start: int = 0) -> Iterator[np.ndarray]:
    """Rows of a split in chunks of `size`, questions about one image together."""
    order = examples.by_image()
    for begin in range(start, len(order), size):
        yield order[begin : begin + size]


def label_score(
    model: TaskModel,
    examples: Examples,
    answers: int,
    chunk: int,
    device: torch.device,
    loss: Callable[[torch.Tensor, torch.Tensor], Loss],
) -> Evaluation:
    """Mean soft score of the answers given, what LXMERT selects its weights by; and the mean loss.

    Args:
        model: in evaluation mode.
        examples: labelled examples.
        answers: number of answers K.
        chunk: examples at a time.
        device: where the model is.
        loss: of logits and soft targets, both float32 [B, K].
    """
    total, lost, counted = 0.0, 0.0, 0.0
    for rows in chunks(examples, chunk):
        logits = chunk_logits(model, examples, rows, device).float().cpu()
        targets = torch.from_numpy(examples.soft_targets(rows, answers))
        chosen = logits.argmax(dim=1, keepdim=True)
        total += float(targets.gather(1, chosen).double().sum())
        part = loss(logits, targets)
        lost, counted = lost + float(part.sum), counted + float(part.denominator)
    score = total / len(examples)
    return Evaluation({"score": score, "held_out_loss": lost / max(counted, 1e-12)}, select_by=score)
