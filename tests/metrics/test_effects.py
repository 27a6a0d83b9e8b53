from __future__ import annotations

import numpy as np
import pytest

from pipelines.metrics.effects import FEWEST_UNITS, beyond_expected, paired, weighted

SALTS = 400


def test_a_difference_of_pairs_is_their_mean_with_the_error_of_independent_units() -> None:
    random = np.random.default_rng(3)
    champion = random.normal(1.0, 1.0, 5_000)
    challenger = champion + random.normal(0.02, 0.1, 5_000)
    effect = paired(challenger, champion, np.arange(5_000))
    assert effect.value == pytest.approx(np.mean(challenger - champion))
    assert effect.variance == pytest.approx(np.var(challenger - champion, ddof=1) / 5_000)
    assert (effect.rows, effect.units) == (5_000, 5_000)


def test_rows_of_one_unit_count_as_one() -> None:
    """Each value ten times: as sure as of one, where rows taken alone would be ten times as sure."""
    random = np.random.default_rng(4)
    difference = random.normal(size=300)
    one = paired(difference, np.zeros(300), np.arange(300))
    ten = paired(np.repeat(difference, 10), np.zeros(3_000), np.repeat(np.arange(300), 10))
    assert ten.value == pytest.approx(one.value)
    assert ten.variance == pytest.approx(one.variance)
    assert paired(np.repeat(difference, 10), np.zeros(3_000), np.arange(3_000)).variance < one.variance / 9


@pytest.mark.parametrize("units", [1, 2, FEWEST_UNITS - 1])
def test_too_few_units_tell_nothing_however_many_rows_they_have(units: int) -> None:
    difference = np.random.default_rng(7).normal(size=900)
    assert paired(difference, np.zeros(900), np.arange(900) % units).information == 0
    assert paired(difference, np.zeros(900), np.arange(900) % FEWEST_UNITS).information > 0


def test_a_version_that_has_served_next_to_no_unit_has_shown_nothing() -> None:
    """Else a margin of more than the other version's error would let a challenger pass that nobody has seen serve."""
    losses, units = np.random.default_rng(8).normal(size=2_000), np.arange(2_000) % 40
    chance = np.full(2_000, 0.05)
    for served in (0, 3, FEWEST_UNITS - 1):
        for by_challenger in (units < served, units >= served):
            assert weighted(losses, by_challenger, chance, units).information == 0
    assert weighted(losses, units < FEWEST_UNITS, chance, units).information > 0


def test_no_rows_tell_nothing() -> None:
    assert paired(np.empty(0), np.empty(0), np.empty(0, np.int64)).information == 0


def test_odds_that_go_with_the_outcome_do_not_bias_the_effect_as_they_do_the_means_of_the_sides() -> None:
    """The challenger gets the easy rows: its mean loss is lower though it is worse by 0.05 on every row."""
    estimates, of_means, covered = [], [], 0
    random = np.random.default_rng(5)
    hardness = random.gamma(2.0, 0.25, 2_000)
    chance = np.where(hardness < np.median(hardness), 0.8, 0.2)
    for _ in range(SALTS):
        is_challenger = random.random(2_000) < chance
        losses = hardness + 0.05 * is_challenger
        effect = weighted(beyond_expected(losses), is_challenger, chance, np.arange(2_000))
        estimates.append(effect.value)
        of_means.append(losses[is_challenger].mean() - losses[~is_challenger].mean())
        covered += abs(effect.value - 0.05) < 1.96 * effect.variance**0.5
    error = np.std(estimates) / SALTS**0.5
    assert abs(np.mean(estimates) - 0.05) < 3 * error
    assert np.mean(of_means) < 0
    assert covered / SALTS > 0.93


def test_what_is_known_of_a_row_before_it_is_assigned_makes_the_effect_surer() -> None:
    random = np.random.default_rng(6)
    known = random.normal(size=4_000)
    losses = 2 * known + random.normal(0, 0.5, 4_000)
    is_challenger, half = random.random(4_000) < 0.5, np.full(4_000, 0.5)
    plain = weighted(beyond_expected(losses), is_challenger, half, np.arange(4_000))
    adjusted = weighted(beyond_expected(losses, known), is_challenger, half, np.arange(4_000))
    assert adjusted.variance < plain.variance / 10
    assert beyond_expected(losses, np.ones(4_000)) == pytest.approx(losses - losses.mean())
