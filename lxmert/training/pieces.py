"""A global batch cut by examples: among ranks, and in micro-batches."""

from __future__ import annotations

from dataclasses import fields, replace

from torch import Tensor

from lxmert.models.dropout import Before
from lxmert.types import Batch

Span = tuple[int, int]  # first example and end


def count_examples(batch: Batch) -> int:
    """Examples of a batch: the rows of its targets, half of its own where an example has two images."""
    counts = {len(value) for value in batch.targets.values()}
    assert len(counts) == 1, f"targets disagree on the number of examples: {sorted(counts)}"
    return counts.pop()


def share_of(examples: int, rank: int, ranks: int) -> Span:
    """The examples that one of several ranks computes: neighbours, their number equal but for one."""
    return examples * rank // ranks, examples * (rank + 1) // ranks


def cut(span: Span, size: int | None) -> list[Span]:
    """A span in pieces of `size` examples, the last one smaller; None: in one piece."""
    first, stop = span
    size = size or max(stop - first, 1)
    return [(begin, min(begin + size, stop)) for begin in range(first, stop, size)]


def piece_of(batch: Batch, span: Span) -> Batch:
    """Some examples of a batch, padded as the whole: views, no copies."""
    examples = count_examples(batch)
    if span == (0, examples):
        return batch

    def rows(value: Tensor) -> Tensor:
        each = len(value) // examples
        return value[span[0] * each : span[1] * each]

    own = {
        item.name: rows(value)
        for item in fields(batch)
        if isinstance(value := getattr(batch, item.name), Tensor)
    }
    return replace(batch, targets={name: rows(value) for name, value in batch.targets.items()}, **own)


def rows_of(batch: Batch, span: Span) -> Span:
    """The rows of the encoder's batch that some examples take."""
    each = len(batch) // max(count_examples(batch), 1)
    return span[0] * each, span[1] * each


def before(batch: Batch, span: Span) -> Before:
    """What of a batch stands before some of its examples."""
    first, _ = rows_of(batch, span)
    if batch.region_mask is None:
        regions = first * batch.features.shape[1]
    else:
        regions = int(batch.region_mask[:first].sum())
    return Before(first, int(batch.attention_mask[:first].sum()), regions)
