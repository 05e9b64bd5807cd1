"""What pretraining draws follows the published distributions: chi-square tests with fixed seeds.

Limits are those of four standard deviations, to both sides: a draw that is too regular is no draw.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from lxmert.data.masking import choose_regions, mask_words, mismatched_rows, sample_answers
from lxmert.data.sampling import generator

RATE = 0.15
CLS, SEP, MASK = 2, 3, 4


def fits(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether counts fit their expectation: Pearson's statistic within the limits of its distribution."""
    assert found.shape == expected.shape and expected.min() >= 5, "too few expected in a cell"
    assert found.sum() == pytest.approx(expected.sum())
    freedom = len(found) - 1
    statistic = float(((found - expected) ** 2 / expected).sum())
    low, high = (_quantile(freedom, deviation) for deviation in (-4, 4))
    return low <= statistic <= high


def _quantile(freedom: int, deviation: float) -> float:
    """Chi-square by Wilson and Hilferty: the cube root is nearly normal."""
    share = 2 / (9 * freedom)
    return freedom * max(1 - share + deviation * math.sqrt(share), 0.0) ** 3


def binomial(trials: int, rate: float) -> np.ndarray:
    return np.array([math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(trials + 1)])


def joined(counts: np.ndarray, last: int) -> np.ndarray:
    """The cells from `last` on as one."""
    return np.append(counts[:last], counts[last:].sum())


def test_the_test_tells_right_from_wrong() -> None:
    draw = np.random.default_rng(1)
    even = np.full(50, 400.0)
    assert fits(np.bincount(draw.integers(0, 50, 20_000), minlength=50), even)
    skewed = draw.choice(50, 20_000, p=np.linspace(0.9, 1.1, 50) / 50)
    assert not fits(np.bincount(skewed, minlength=50), even)
    assert not fits(even, even)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_words(seed: int) -> None:
    """Each piece by itself with 15 %: 80 % hidden, 10 % any entry, 10 % kept; targets at all three."""
    sentences, pieces, entries, word = 20_000, 18, 120, 77
    ids = np.full((sentences, pieces + 2), word)
    ids[:, 0], ids[:, -1] = CLS, SEP
    masked, labels = mask_words(ids, np.ones_like(ids), RATE, MASK, (CLS, SEP), entries, generator(seed))
    asked = labels != -1
    assert not asked[:, [0, -1]].any() and (labels[asked] == word).all()
    counts = np.bincount(asked.sum(axis=1), minlength=pieces + 1)
    assert fits(joined(counts, 9), joined(sentences * binomial(pieces, RATE), 9))
    places = asked[:, 1:-1].sum(axis=0)
    assert fits(places, np.full(pieces, asked.sum() / pieces))
    words, total = masked[asked], asked.sum()
    random = ~np.isin(words, [MASK, word])
    # A random entry is [MASK] or the word itself once in 120 each.
    chance = 0.1 / entries
    kinds = np.array([(words == MASK).sum(), (words == word).sum(), random.sum()])
    assert fits(kinds, total * np.array([0.8 + chance, 0.1 + chance, 0.1 - 2 * chance]))
    others = np.delete(np.bincount(words, minlength=entries), [MASK, word])
    assert fits(others, np.full(entries - 2, random.sum() / (entries - 2)))  # specials included


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_regions(seed: int) -> None:
    chosen, zeroed, replaced = choose_regions((10_000, 36), RATE, generator(seed))
    counts = np.bincount(chosen.sum(axis=1), minlength=37)
    assert fits(joined(counts, 13), joined(10_000 * binomial(36, RATE), 13))
    assert fits(chosen.sum(axis=0), np.full(36, chosen.sum() / 36))
    kinds = np.array([zeroed.sum(), replaced.sum(), (chosen & ~zeroed & ~replaced).sum()])
    assert fits(kinds, chosen.sum() * np.array([0.8, 0.1, 0.1]))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_negatives(seed: int) -> None:
    """Half of the examples take the sentence of any other image's row, each row as likely as the other."""
    images = np.repeat(np.arange(40), np.arange(1, 41))  # image i has i + 1 sentences
    rows = np.arange(len(images)).repeat(40)
    sentences, matched = mismatched_rows(rows, images, 0.5, generator(seed))
    assert fits(np.bincount(matched, minlength=2), np.full(2, len(rows) / 2))
    swapped = matched == 0
    assert (images[sentences[swapped]] != images[rows[swapped]]).all()
    # Of a row of image i, the n - n_i others are equally likely.
    sizes = np.bincount(images)
    takers = np.bincount(images[rows[swapped]], minlength=40)
    expected = sum(takers[i] / (len(images) - sizes[i]) * (images != i) for i in range(40))
    assert fits(np.bincount(sentences[swapped], minlength=len(images)), np.asarray(expected))


def test_answers() -> None:
    ids, scores = np.arange(5, dtype=np.int32), np.array([1.0, 0.9, 0.6, 0.3, 0.3], np.float32)
    rows = np.zeros(20_000, np.int64)
    drawn = sample_answers(ids, scores, np.array([0, 5]), rows, generator(4))
    assert fits(
        np.bincount(drawn, minlength=5), 20_000 * scores.astype(np.float64) / scores.sum(dtype=np.float64)
    )
