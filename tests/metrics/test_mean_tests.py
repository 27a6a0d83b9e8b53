from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipelines.metrics.mean_tests import blocked_p_value, discoveries, group_sums, row_sums, standardised, welch


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-6, 1.0, 1e9]), shift=st.sampled_from([0.0, 1e3]))
def test_welch_is_scipys(seed: int, scale: float, shift: float) -> None:
    random = np.random.default_rng(seed)
    losses, part = scale * (shift + random.exponential(size=80)), random.random(80) < 0.4
    sums = group_sums(row_sums(losses, np.ones(80)), part.astype(np.int64), 2)
    expected = stats.ttest_ind(losses[part], losses[~part], equal_var=False, alternative="greater")
    found = welch(sums[1], sums[0])
    assert float(found.t) == pytest.approx(expected.statistic, rel=1e-6)
    assert float(found.p_value) == pytest.approx(expected.pvalue, rel=1e-6)


def test_a_row_that_weighs_nothing_is_as_if_it_were_not_there() -> None:
    random = np.random.default_rng(1)
    losses, part, weights = random.random(60), random.random(60) < 0.5, (random.random(60) < 0.7) * 2.0
    sums = group_sums(row_sums(losses, weights), part.astype(np.int64), 2)
    used = weights > 0
    fewer = group_sums(row_sums(losses[used], np.ones(used.sum())), part[used].astype(np.int64), 2)
    assert float(welch(sums[1], sums[0]).t) == pytest.approx(float(welch(fewer[1], fewer[0]).t))


@pytest.mark.parametrize("losses", [np.full(6, 0.3), np.zeros(6), np.full(6, 1e12)])
def test_equal_losses_are_no_difference(losses: np.ndarray) -> None:
    sums = group_sums(row_sums(losses, np.ones(6)), np.array([0, 0, 0, 1, 1, 1]), 2)
    assert float(welch(sums[1], sums[0]).p_value) > 0.1
    assert blocked_p_value(standardised(losses, np.ones(6)), np.ones(6), np.arange(6) > 2, np.arange(6) % 3) == 1


def test_too_few_rows_prove_nothing() -> None:
    sums = group_sums(row_sums(np.array([9.0, 1, 2, 3]), np.ones(4)), np.array([1, 0, 0, 0]), 2)
    assert float(welch(sums[1], sums[0]).p_value) == 1


def test_one_bad_day_is_no_bad_slice() -> None:
    random = np.random.default_rng(0)
    days, part = np.repeat(np.arange(10), 100), np.tile(np.arange(100) < 50, 10)
    shock = np.zeros((10, 100))
    shock[3, :50] = 3  # half of one day
    losses = standardised(random.normal(size=1000) + shock.reshape(-1), np.ones(1000))
    sums = group_sums(row_sums(losses, np.ones(1000)), part.astype(np.int64), 2)
    assert float(welch(sums[1], sums[0]).p_value) < 0.001
    assert blocked_p_value(losses, np.ones(1000), part, days) > 0.05
    assert blocked_p_value(losses, np.ones(1000), days == 3, days) == 1  # cannot be told from its day


def test_blocks_of_one_row_give_welchs_test() -> None:
    random = np.random.default_rng(3)
    losses, part = standardised(random.normal(size=400), np.ones(400)), random.random(400) < 0.5
    sums = group_sums(row_sums(losses, np.ones(400)), part.astype(np.int64), 2)
    found = blocked_p_value(losses, np.ones(400), part, np.arange(400))
    assert found == pytest.approx(float(welch(sums[1], sums[0]).p_value), abs=0.01)


def test_the_block_test_keeps_its_level_where_days_differ() -> None:
    """A slice that has nothing to do with losses, but more of its rows on some days than on others."""
    rejected = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        days = np.repeat(np.arange(8), 40)
        losses = standardised(random.normal(size=320) + random.normal(size=8)[days], np.ones(320))
        part = random.random(320) < random.random(8)[days]
        rejected += blocked_p_value(losses, np.ones(320), part, days) < 0.05
    assert rejected / 400 < 0.08  # 0.05 and three standard errors


@settings(max_examples=40)
@given(p_values=st.lists(st.floats(0, 1), max_size=30), rate=st.floats(0.01, 0.3))
def test_discoveries_are_benjamini_and_hochbergs(p_values: list[float], rate: float) -> None:
    values = np.array(p_values)
    adjusted = stats.false_discovery_control(values) if p_values else values
    found = discoveries(values, len(values), rate)
    assert (found == (adjusted <= rate))[np.abs(adjusted - rate) > 1e-12].all()
    assert discoveries(values, 10 * len(values), rate).sum() <= found.sum()
