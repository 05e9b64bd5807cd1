"""Losses of pretraining on the held-out part, which choose the best weights."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import torch

from lxmert.data.batching import PretrainBatches
from lxmert.errors import LxmertError
from lxmert.memory import is_out_of_memory
from lxmert.models.pretraining import PretrainingModel
from lxmert.training.job import Evaluation
from lxmert.training.pieces import count_examples, cut, piece_of
from lxmert.types import Batch

log = logging.getLogger(__name__)


def held_out_losses(model: PretrainingModel, batches: PretrainBatches, device: torch.device) -> Evaluation:
    """Mean of each loss over the held-out part, with fixed masks; the smallest total is the best.

    Raises:
        LxmertError: not even one example fits into memory.
    """
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    most: int | None = None  # examples at once; what was learnt of the device holds for the next batch
    for step in range(batches.steps_per_epoch):
        batch = batches.batch(step)
        while True:
            try:
                found = list(_losses(model, batch, most, device))
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the handler, whose traceback would keep the tensors of the failed pass.
            most = _fewer(min(most or count_examples(batch), count_examples(batch)), device)
        for name, total, count in found:
            sums[name] = sums.get(name, 0.0) + total
            counts[name] = counts.get(name, 0.0) + count
    means = {name: sums[name] / max(counts[name], 1e-12) for name in sums}
    total = sum(model.weights[name] * mean for name, mean in means.items())
    return Evaluation({"loss": total, **means}, select_by=-total)


@torch.inference_mode()
def _losses(
    model: PretrainingModel, batch: Batch, most: int | None, device: torch.device
) -> Iterator[tuple[str, float, float]]:
    """Name, sum and count of each loss of each part of a batch."""
    for span in cut((0, count_examples(batch)), most):
        for name, loss in model(piece_of(batch, span).to(device)).items():
            yield name, float(loss.sum), float(loss.denominator)


def _fewer(examples: int, device: torch.device) -> int:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if examples <= 1:
        raise LxmertError(
            f"out of memory on {device} with one held-out example at a time; use a device with more memory."
        )
    log.warning("out of memory with %d held-out examples at once; going on with %d", examples, examples // 2)
    return examples // 2
