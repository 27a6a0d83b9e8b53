from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.dataset.draw import chances, systematic

WEIGHTS = st.lists(st.floats(0, 1.7e308, allow_subnormal=False), min_size=1, max_size=40).map(np.array).filter(np.any)


@settings(max_examples=300, deadline=None)
@given(weights=WEIGHTS, size=st.integers(1, 45))
def test_chances_sum_to_the_size_and_are_proportional_below_certainty(weights: np.ndarray, size: int) -> None:
    chance = chances(weights, size)
    assert ((chance >= 0) & (chance <= 1)).all() and (chance[weights == 0] == 0).all()
    assert chance.sum() == pytest.approx(min(size, np.count_nonzero(weights)))
    order = np.argsort(weights, kind="stable")
    assert (np.diff(chance[order]) >= 0).all(), "more weight, no less chance"
    below = (chance < 1) & (chance > 1e-290)  # smaller ones lose their digits
    if below.any():
        heaviest = weights[below].max()
        assert chance[below] / chance[below].max() == pytest.approx(weights[below] / heaviest, rel=1e-9)


@settings(max_examples=300, deadline=None)
@given(weights=WEIGHTS, size=st.integers(1, 45), seed=st.integers(0, 10**6))
def test_a_draw_has_its_size_and_takes_what_is_certain(weights: np.ndarray, size: int, seed: int) -> None:
    chance = chances(weights, size)
    random = np.random.default_rng(seed)
    drawn = systematic(chance, random.permutation(len(weights)), random)
    assert len(drawn) == min(size, np.count_nonzero(weights)) and (np.diff(drawn) > 0).all()
    assert (chance[drawn] > 0).all() and set(np.flatnonzero(chance == 1)) <= set(drawn)


def test_the_least_weights_there_are() -> None:
    assert chances(np.full(4, 5e-324), 2) == pytest.approx(0.5)
    assert chances(np.array([1e308, 1e308, 1e-300, 1e-300]), 3) == pytest.approx([1, 1, 0.5, 0.5])


def test_a_sum_that_is_no_whole_number_is_rounded_up_or_down_by_chance() -> None:
    chance = np.full(10, 0.26)
    sizes = [len(systematic(chance, np.arange(10), np.random.default_rng(seed))) for seed in range(2000)]
    assert set(sizes) == {2, 3}
    assert np.mean(sizes) == pytest.approx(2.6, abs=0.05)


def test_millions_of_rows_keep_the_size_exactly() -> None:
    random = np.random.default_rng(0)
    chance = chances(random.lognormal(sigma=2, size=1_000_000), 300_000)
    drawn = systematic(chance, random.permutation(1_000_000), random)
    assert len(np.unique(drawn)) == 300_000 and np.isin(np.flatnonzero(chance == 1), drawn).all()
