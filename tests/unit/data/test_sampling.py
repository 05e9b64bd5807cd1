"""Orders and random numbers that depend on (seed, step) alone."""

from __future__ import annotations

import numpy as np
import pytest

from lxmert.data.sampling import Permutation, derive_seed, generator, step_rows


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 65, 1000])
def test_every_item_comes_once(count: int) -> None:
    order = Permutation(count, 9595, "epoch", 0)(np.arange(count))
    assert sorted(order.tolist()) == list(range(count))


def test_parts_of_an_order_equal_the_whole() -> None:
    order = Permutation(1000, 1)
    whole = order(np.arange(1000))
    assert np.array_equal(order(np.arange(300, 310)), whole[300:310])


def test_orders_differ_between_epochs_and_look_shuffled() -> None:
    first, second = (Permutation(10_000, 1, "epoch", epoch)(np.arange(10_000)) for epoch in (0, 1))
    assert (first == second).mean() < 0.01
    # Spearman's correlation with the identity has a standard error of 0.01 here.
    assert abs(np.corrcoef(first, np.arange(10_000))[0, 1]) < 0.05
    # Neighbours are not kept together: the mean step of a random order is a third of the count.
    assert np.abs(np.diff(first)).mean() == pytest.approx(10_000 / 3, rel=0.05)


def test_millions_of_rows_cost_nothing_up_front() -> None:
    rows = step_rows(9_000_000, 256, 123_456, 9595)
    assert len(set(rows.tolist())) == 256 and rows.max() < 9_000_000


def test_a_step_has_the_rows_of_its_order_whatever_was_asked_before() -> None:
    for count, batch in ((1000, 7), (9000, 5000), (70_000, 256)):
        for step in (0, 1, count // batch - 1, count // batch + 2, 3):
            epoch, position = divmod(step, count // batch)
            order = Permutation(count, 9, "x", "epoch", epoch)
            expected = order(np.arange(position * batch, (position + 1) * batch))
            assert np.array_equal(step_rows(count, batch, step, 9, "x"), expected)
    step_rows(1000, 7, 3, 9, "x")[:] = 0  # what a caller changes is the caller's
    assert step_rows(1000, 7, 3, 9, "x").any()


def test_steps_of_an_epoch_do_not_repeat_a_row() -> None:
    rows = np.concatenate([step_rows(103, 10, step, 5) for step in range(10)])
    assert len(set(rows.tolist())) == 100
    assert not np.array_equal(step_rows(103, 10, 0, 5), step_rows(103, 10, 10, 5))


def test_seeds_depend_on_every_part() -> None:
    assert (
        len({derive_seed(1, "a", 2), derive_seed(1, "a", 3), derive_seed(1, "b", 2), derive_seed(12, "a")})
        == 4
    )
    assert np.array_equal(generator(1, "x").random(3), generator(1, "x").random(3))
