from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipelines.errors import ConfigError, DataError
from pipelines.labeling.choose import Strategy, choose, informativeness

STRATEGIES = get_args(Strategy)
SCORES = hnp.arrays(np.float64, st.tuples(st.integers(0, 20), st.integers(2, 4)), elements=st.floats(0, 1))


def test_the_least_sure_come_first() -> None:
    scores = np.array([0.02, 0.4, 0.97, 0.55, 0.5])
    assert choose(scores, "uncertainty", 3, seed=1).tolist() == [4, 3, 1]
    assert choose(scores, "margin", 3, seed=1).tolist() == [4, 3, 1]


def test_a_committee_that_is_sure_of_different_things_comes_before_one_that_is_unsure() -> None:
    scores = np.array([[0.5, 0.5], [0.9, 0.1], [0.9, 0.9], [0.6, 0.4]])
    assert choose(scores, "disagreement", 2, seed=0).tolist() == [1, 3]
    by_hand = np.mean([p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5) for p in (0.9, 0.1)])
    assert informativeness(scores, "disagreement")[1] == pytest.approx(by_hand)


@given(SCORES, st.sampled_from(STRATEGIES), st.integers(0, 25), st.integers(0, 3))
def test_any_strategy_gives_a_batch_of_different_rows(
    scores: np.ndarray, strategy: Strategy, batch: int, seed: int
) -> None:
    chosen = choose(scores, strategy, batch, seed)
    assert len(chosen) == len(set(chosen.tolist())) == min(batch, len(scores))
    assert np.array_equal(chosen, choose(scores, strategy, batch, seed)), "the seed says which"
    wanted = informativeness(scores, strategy)
    left = np.setdiff1d(np.arange(len(scores)), chosen)
    assert not len(chosen) or not len(left) or wanted[chosen].min() >= wanted[left].max()


@given(SCORES)
def test_with_two_classes_margin_ranks_as_uncertainty(scores: np.ndarray) -> None:
    least, margin = (informativeness(scores, one) for one in ("uncertainty", "margin"))
    assert 2 * least - 1 == pytest.approx(margin)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ties_are_broken_by_the_seed_and_not_by_the_order(strategy: Strategy) -> None:
    scores = np.full((1000, 2), 0.3)
    first, second = choose(scores, strategy, 10, seed=1), choose(scores, strategy, 10, seed=2)
    assert set(first) != set(second)
    counts = np.bincount(np.concatenate([choose(scores, strategy, 100, seed) for seed in range(100)]), minlength=1000)
    assert counts.max() <= 26  # Binomial(100, 0.1): 26 and more in one of 1000 rows has a chance of some 0.4 percent
    assert counts.min() >= 0


def test_what_is_no_score_or_no_committee_is_told() -> None:
    for bad in (np.nan, 1.5):
        with pytest.raises(DataError, match="no probabilities"):
            choose(np.array([0.1, bad]), "uncertainty", 1, seed=0)
    with pytest.raises(ConfigError, match="one model cannot disagree"):
        choose(np.array([0.1, 0.2]), "disagreement", 1, seed=0)
