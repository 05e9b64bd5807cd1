"""Masking over a batch and example by example give the same distributions: chi-square of the counts."""

from __future__ import annotations

import math
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lxmert.data.masking import choose_regions, mask_words, mismatched_rows, pad_ragged, sample_answers
from lxmert.data.sampling import generator

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))
from plain_input import CLS, MASK, SEP, PlainExamples  # noqa: E402

RATES = {"mismatch_rate": 0.5, "word_mask_rate": 0.15, "region_mask_rate": 0.15, "max_tokens": 20}
WORDS, IMAGES, REGIONS = 1200, 40, 36
ROUNDS = 12  # each example this many times
# Sentences of 3 to 18 pieces whose own pieces never are those that replace them often.
SENTENCES = [[CLS, *range(500 + row, 500 + row + 1 + row % 16), SEP] for row in range(400)]
OWNERS = [row % IMAGES for row in range(400)]
ANSWERS = [
    ([], []) if row % 3 == 0 else ([row], [1.0]) if row % 3 == 1 else ([1, 2, 3], [1.0, 0.6, 0.3])
    for row in range(400)
]
Counts = dict[str, Counter]


def chi_square(left: Counter, right: Counter) -> tuple[float, int]:
    """The statistic of two samples, and its degrees of freedom; rare categories are put together."""
    names = sorted(set(left) | set(right), key=str)
    rare = [name for name in names if left[name] + right[name] < 40]
    pairs = [(left[name], right[name]) for name in names if name not in rare]
    if rare:
        pairs.append((sum(left[name] for name in rare), sum(right[name] for name in rare)))
    a, b = math.sqrt(right.total() / left.total()), math.sqrt(left.total() / right.total())
    statistic = sum((a * x - b * y) ** 2 / (x + y) for x, y in pairs if x + y)
    return statistic, len(pairs) - 1


def limit(freedom: int) -> float:
    """What equal distributions exceed once in 100,000 times, by Wilson and Hilferty's approximation."""
    return freedom * (1 - 2 / (9 * freedom) + 4.265 * math.sqrt(2 / (9 * freedom))) ** 3


def count_sentence(counts: Counts, ids: list[int], labels: list[int], own: bool) -> None:
    """What can be seen of one masked sentence."""
    asked = [(piece, label) for piece, label in zip(ids, labels, strict=True) if label != -1]
    counts["asked in a sentence"][(len(ids), len(asked))] += 1
    for place, label in enumerate(labels):
        counts["asked by place"][(place, label != -1)] += 1
    for piece, label in asked:
        counts["fate of a piece"]["kept" if piece == label else "hidden" if piece == MASK else "other"] += 1
        if piece not in (label, MASK):
            counts["replacement"][piece * 12 // WORDS] += 1
    counts["matched"][own] += 1


def example_by_example(rates: dict, seed: int) -> Counts:
    plain = PlainExamples(rates, WORDS, SENTENCES, ANSWERS, OWNERS, None, random.Random(seed))
    counts = new_counts()
    for row in list(range(400)) * ROUNDS:
        sentence, matched = plain.sentence(row)
        if not matched:
            counts["whose sentence"][OWNERS[SENTENCES.index(sentence)] - OWNERS[row]] += 1
        ids, labels = plain.words(sentence)
        count_sentence(counts, ids, labels, bool(matched))
        counts["answer"][(row % 3, answer_kind(plain.answer(row, matched), row))] += 1
        fates = plain.boxes(REGIONS)
        counts["fate of a region"].update(fates)
        counts["asked of an image"][sum(fate > 0 for fate in fates)] += 1
    return counts


def batch_by_batch(rates: dict, seed: int) -> Counts:
    values, offsets = np.concatenate(SENTENCES), np.cumsum([0, *map(len, SENTENCES)])
    ids, scores = ([row for pair in ANSWERS for row in pair[part]] for part in (0, 1))
    answer_offsets = np.cumsum([0, *(len(pair[0]) for pair in ANSWERS)])
    owners, rows, counts = np.array(OWNERS), np.arange(400), new_counts()
    for number in range(ROUNDS):
        draw = generator(seed, number)
        taken, matched = mismatched_rows(rows, owners, rates["mismatch_rate"], draw)
        counts["whose sentence"].update((owners[taken] - owners)[matched == 0].tolist())
        padded, mask = pad_ragged(values, offsets, taken)
        shown, labels = mask_words(padded, mask, rates["word_mask_rate"], MASK, (CLS, SEP), WORDS, draw)
        for row, length in enumerate(mask.sum(1).tolist()):
            own = bool(matched[row])
            count_sentence(counts, shown[row, :length].tolist(), labels[row, :length].tolist(), own)
        answers = sample_answers(np.array(ids), np.array(scores), answer_offsets, rows, draw)
        for row, answer in enumerate(np.where(matched == 1, answers, -1).tolist()):
            counts["answer"][(row % 3, answer_kind(answer, row))] += 1
        chosen, zeroed, replaced = choose_regions((400, REGIONS), rates["region_mask_rate"], draw)
        fates = np.where(zeroed, 1, np.where(replaced, 2, np.where(chosen, 3, 0)))
        counts["fate of a region"].update(fates.flatten().tolist())
        counts["asked of an image"].update(chosen.sum(1).tolist())
    return counts


def answer_kind(answer: int, row: int) -> str | int:
    """An answer as the tests count it: none, the only one, or which of several."""
    return "none" if answer == -1 else "only" if row % 3 == 1 else answer


def new_counts() -> Counts:
    names = ("asked in a sentence", "asked by place", "fate of a piece", "replacement", "matched")
    return {name: Counter() for name in (*names, "whose sentence", "answer", *REGION_COUNTS)}


REGION_COUNTS = ("fate of a region", "asked of an image")


@pytest.fixture(scope="module")
def plain() -> Counts:
    return example_by_example(RATES, 1)


def test_distributions_are_equal(plain: Counts) -> None:
    found = batch_by_batch(RATES, 2)
    for name, expected in plain.items():
        statistic, freedom = chi_square(expected, found[name])
        assert freedom >= 1 and statistic <= limit(freedom), f"{name}: {statistic:.1f}, {freedom} degrees"
    assert plain["fate of a region"].total() == found["fate of a region"].total() == 400 * REGIONS * ROUNDS


@pytest.mark.parametrize(
    ("rate", "seen"),
    [
        ("mismatch_rate", "matched"),
        ("word_mask_rate", "asked by place"),
        ("region_mask_rate", "fate of a region"),
    ],
)
def test_other_rates_would_be_noticed(plain: Counts, rate: str, seen: str) -> None:
    found = batch_by_batch({**RATES, rate: RATES[rate] * 1.15}, 3)
    statistic, freedom = chi_square(plain[seen], found[seen])
    assert statistic > limit(freedom), f"{statistic:.1f}, {freedom} degrees"
