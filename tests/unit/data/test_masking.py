"""Statistics and edge cases of what pretraining hides and swaps."""

from __future__ import annotations

import numpy as np
import pytest

from lxmert.data.masking import (
    choose_regions,
    mask_words,
    masked_features,
    mismatched_rows,
    pad_ragged,
    sample_answers,
)
from lxmert.data.sampling import generator


def test_pad_ragged_handles_empty_rows_and_empty_columns() -> None:
    values, offsets = np.array([5, 6, 7], np.int32), np.array([0, 2, 2, 3])
    ids, real = pad_ragged(values, offsets, np.array([1, 0, 2]))
    assert ids.tolist() == [[0, 0], [5, 6], [7, 0]] and real.tolist() == [[0, 0], [1, 1], [1, 0]]
    ids, real = pad_ragged(np.array([], np.int32), np.array([0, 0]), np.array([0]))
    assert ids.tolist() == [[0]] and real.tolist() == [[0]]


def test_masked_words_have_the_published_shares() -> None:
    ids = np.full((2000, 20), 50)
    ids[:, 0], ids[:, 10], ids[:, 11:] = 2, 3, 0
    mask = (ids != 0).astype(np.int64)
    masked, labels = mask_words(ids, mask, 0.15, 4, (2, 3), 1000, generator(1))
    asked = labels != -1
    assert (labels[asked] == 50).all() and not asked[:, [0, 10]].any() and not asked[:, 11:].any()
    assert (masked[~asked] == ids[~asked]).all()
    # 18,000 pieces: 4 standard errors of the share are 0.011.
    assert asked[:, 1:10].mean() == pytest.approx(0.15, abs=0.011)
    words = masked[asked]
    assert (words == 4).mean() == pytest.approx(0.8, abs=0.032)
    assert (words == 50).mean() == pytest.approx(0.1, abs=0.025)
    others = words[(words != 4) & (words != 50)]
    assert others.min() < 100 and others.max() > 900


def test_mismatches_never_show_the_own_image() -> None:
    images = np.repeat(np.arange(500), 4)
    rows = np.arange(2000)
    sentences, matched = mismatched_rows(rows, images, 0.5, generator(2))
    assert matched.mean() == pytest.approx(0.5, abs=0.05)
    assert (sentences[matched == 1] == rows[matched == 1]).all()
    assert (images[sentences[matched == 0]] != images[rows[matched == 0]]).all()


def test_one_image_offers_no_mismatch() -> None:
    sentences, matched = mismatched_rows(np.arange(5), np.zeros(5, np.int32), 1.0, generator(3))
    assert matched.tolist() == [1] * 5 and sentences.tolist() == list(range(5))


def test_regions_are_zeroed_replaced_or_kept() -> None:
    chosen, zeroed, replaced = choose_regions((500, 36), 0.15, generator(4))
    assert chosen.mean() == pytest.approx(0.15, abs=0.011)
    assert not (zeroed & replaced).any() and not ((zeroed | replaced) & ~chosen).any()
    assert zeroed.sum() / chosen.sum() == pytest.approx(0.8, abs=0.032)
    assert replaced.sum() / chosen.sum() == pytest.approx(0.1, abs=0.025)


def test_answers_follow_their_scores() -> None:
    ids = np.array([7, 8, 9], np.int32)
    scores = np.array([1.0, 0.9, 0.3], np.float32)
    offsets = np.array([0, 1, 1, 3])
    rows = np.concatenate([np.zeros(10), np.ones(10), np.full(20_000, 2)]).astype(np.int64)
    drawn = sample_answers(ids, scores, offsets, rows, generator(5))
    assert (drawn[:10] == 7).all() and (drawn[10:20] == -1).all()
    assert set(drawn[20:]) == {8, 9}
    assert (drawn[20:] == 8).mean() == pytest.approx(0.75, abs=0.012)


def test_no_labels_at_all() -> None:
    empty = np.array([], np.int32)
    drawn = sample_answers(
        empty, empty.astype(np.float32), np.zeros(3, np.int64), np.array([0, 1]), generator(6)
    )
    assert drawn.tolist() == [-1, -1]


def test_features_of_chosen_regions_alone() -> None:
    features = np.arange(24, dtype=np.float16).reshape(3, 4, 2)
    chosen = np.array([[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    kept = masked_features(features, chosen)
    assert kept.dtype == np.float16 and kept.shape == (3, 2, 2)
    assert (kept[0] == features[0, [1, 3]]).all() and (kept[2, 0] == features[2, 0]).all()
    assert not kept[1].any() and not kept[2, 1].any()
    assert masked_features(features, np.zeros((3, 4), bool)).shape == (3, 1, 2)
