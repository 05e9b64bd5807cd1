"""What pretraining hides and swaps, drawn for a whole batch at once.

Every function takes NumPy arrays and a generator, and touches each number once: the reference
builds one example after the other in Python, which starves the device.

Source: Tan & Bansal 2019, section 3.1, and the reference code's defaults.
"""

from __future__ import annotations

import numpy as np

# Of the chosen pieces and regions: this share is hidden, then this share replaced, the rest kept.
_HIDDEN, _REPLACED = 0.8, 0.1
IGNORED = -1


def pad_ragged(values: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a ragged column as one matrix, as wide as the longest of them.

    Args:
        values: int [total], all rows one after the other.
        offsets: int64 [N + 1], where each row begins.
        rows: int64 [B].

    Returns:
        int64 [B, L] padded with 0, and int64 [B, L], 1 where a value is real.
    """
    starts = offsets[rows]
    lengths = offsets[rows + 1] - starts
    columns = np.arange(max(int(lengths.max(initial=0)), 1))
    real = columns < lengths[:, None]
    padded = np.zeros(real.shape, np.int64)
    padded[real] = values[(starts[:, None] + columns)[real]]
    return padded, real.astype(np.int64)


def mask_words(
    input_ids: np.ndarray,
    attention_mask: np.ndarray,
    rate: float,
    mask_id: int,
    special_ids: tuple[int, ...],
    vocabulary: int,
    draw: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Input with some word pieces hidden, and what stood there.

    Each piece is chosen independently with probability `rate`; of the chosen, 80 % become [MASK],
    10 % any entry of the vocabulary (specials included, as in the reference), 10 % stay.

    Args:
        input_ids: int64 [B, L].
        attention_mask: int64 [B, L].
        rate: share of pieces to choose.
        mask_id: id of [MASK].
        special_ids: ids that are never chosen ([CLS], [SEP]).
        vocabulary: number of entries.
        draw: the step's generator.

    Returns:
        int64 [B, L] input, and int64 [B, L] labels, -1 where nothing is asked.
    """
    # A seventh is chosen: everything after the draw looks at those alone.
    chance = draw.random(input_ids.shape, np.float32).reshape(-1)
    places = np.flatnonzero(chance < rate)
    ids = input_ids.reshape(-1)[places]
    allowed = attention_mask.reshape(-1)[places] == 1
    for special in special_ids:
        allowed &= ids != special
    places, ids = places[allowed], ids[allowed]
    chance = chance[places]
    masked, labels = input_ids.copy(), np.full(input_ids.shape, IGNORED, np.int64)
    labels.reshape(-1)[places] = ids
    # One number decides both: below `rate` it is again uniform.
    hidden, replaced = chance < _HIDDEN * rate, chance < (_HIDDEN + _REPLACED) * rate
    replaced &= ~hidden
    flat = masked.reshape(-1)
    flat[places[hidden]] = mask_id
    flat[places[replaced]] = draw.integers(0, vocabulary, int(replaced.sum()))
    return masked, labels


def mismatched_rows(
    rows: np.ndarray, images: np.ndarray, rate: float, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose sentence each example takes, and whether it is its own.

    With probability `rate` an example takes the sentence of a uniformly drawn row, drawn again
    while that row shows the same image; a sentence that is true by chance stays a mismatch, as in
    the reference.

    Args:
        rows: int64 [B].
        images: int [N], image of every row.
        rate: share of examples that take another's sentence.
        draw: the step's generator.

    Returns:
        int64 [B] rows, and int64 [B], 1 where matched.
    """
    swapped = draw.random(len(rows)) < rate
    sentence_rows = rows.copy()
    pending = np.flatnonzero(swapped)
    own = images[rows]
    # A corpus with a single image has no mismatch to offer; give up after a bounded search.
    for _ in range(100):
        if not len(pending):
            break
        sentence_rows[pending] = draw.integers(0, len(images), len(pending))
        pending = pending[images[sentence_rows[pending]] == own[pending]]
    sentence_rows[pending] = rows[pending]
    swapped[pending] = False
    return sentence_rows, (~swapped).astype(np.int64)


def choose_regions(
    shape: tuple[int, int], rate: float, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which regions are asked for, which of them are zeroed, and which are replaced: bool [B, R] each."""
    chance = draw.random(shape, np.float32)
    chosen, zeroed = chance < rate, chance < _HIDDEN * rate
    return chosen, zeroed, (chance < (_HIDDEN + _REPLACED) * rate) & ~zeroed


def masked_features(features: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """What stands where regions are asked for, and nothing else: a seventh of the features.

    Args:
        features: [B, R, F].
        chosen: bool [B, R].

    Returns:
        [B, M, F], the features of each example's chosen regions in order, zeros after the last; M is 1 or
        the most that are chosen in any.
    """
    counts = chosen.sum(axis=1)
    kept = np.zeros((len(features), max(int(counts.max(initial=0)), 1), features.shape[2]), features.dtype)
    rows, regions = np.nonzero(chosen)
    kept[rows, np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)] = features[rows, regions]
    return kept


def sample_answers(
    ids: np.ndarray, scores: np.ndarray, offsets: np.ndarray, rows: np.ndarray, draw: np.random.Generator
) -> np.ndarray:
    """One answer an example, drawn in proportion to its scores; -1 where there is none.

    Args:
        ids: int [total] answer ids of all rows.
        scores: float32 [total], their soft scores, all above 0.
        offsets: int64 [N + 1].
        rows: int64 [B].
        draw: the step's generator.

    Returns:
        int64 [B].
    """
    lots = draw.random(len(rows))
    starts = offsets[rows]
    lengths = offsets[rows + 1] - starts
    answers = np.full(len(rows), IGNORED, np.int64)
    answered = np.flatnonzero(lengths)
    answers[answered] = ids[starts[answered]]
    several = np.flatnonzero(lengths > 1)  # few; only they need the dice
    if len(several):
        columns = np.arange(int(lengths.max()))
        real = columns < lengths[several, None]
        positions = np.where(real, starts[several, None] + columns, 0)
        reached = np.cumsum(np.where(real, scores[positions], 0.0), axis=1)
        picked = (reached < (lots[several] * reached[:, -1])[:, None]).sum(axis=1)
        picked = np.minimum(picked, lengths[several] - 1)
        answers[several] = ids[starts[several] + picked]
    return answers
