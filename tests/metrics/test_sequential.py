from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.metrics.sequential import above, half_width, spent, tuned, upper_bounds

PATHS = 20_000  # 3 standard errors of an error of 2.5 % are 0.33 %


def paths(steps: list[float], count: int = PATHS) -> np.ndarray:
    """Brownian motion at the ends of steps, shape (count, steps)."""
    random = np.random.default_rng(11)
    return np.cumsum(random.normal(size=(count, len(steps))) * np.sqrt(steps), axis=1)


def test_the_bounds_of_equal_looks_are_those_of_the_tables() -> None:
    """Jennison and Turnbull (2000), Lan and DeMets' bounds of O'Brien and Fleming's kind, one-sided 0.025."""
    assert upper_bounds([1, 2, 3, 4, 5], 0.025, 5) == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=0.002)


@given(st.lists(st.floats(0.05, 20), min_size=1, max_size=8))
def test_without_an_effect_the_error_is_what_was_allowed_however_unequal_the_looks_are(steps: list[float]) -> None:
    information = np.cumsum(steps)
    bounds = upper_bounds(list(information), 0.05, len(steps))
    crossed = (paths(steps) / np.sqrt(information) > bounds).any(axis=1).mean()
    assert crossed < 0.05 + 0.006
    assert bounds == sorted(bounds, reverse=True) or len(set(np.round(steps, 9))) > 1


def test_bounds_that_were_told_stay_when_another_look_comes() -> None:
    assert upper_bounds([1, 2.5, 3], 0.025, 6)[:2] == upper_bounds([1, 2.5], 0.025, 6)


def test_information_that_falls_or_stays_does_no_harm() -> None:
    bounds = upper_bounds([2.0, 1.9, 2.0, 3.0], 0.025, 4)
    assert np.isfinite(bounds).all() and min(bounds) > 1.9


@given(st.floats(0.001, 0.2), st.floats(0.01, 1))
def test_no_more_is_spent_than_there_is(alpha: float, share: float) -> None:
    assert 0 <= spent(alpha, share) <= spent(alpha, 1.0) <= alpha * (1 + 1e-9)
    assert spent(alpha, 0.0) == 0


@pytest.mark.parametrize("sides", [1, 2])
def test_a_confidence_sequence_holds_at_every_look_for_ever(sides: int) -> None:
    variance = np.arange(1.0, 301.0)
    walk = paths([1.0] * 300, 4_000)
    mixing = tuned(0.05, 20.0)
    width = [half_width(v, 0.05, mixing) if sides == 2 else above(v, 0.05, mixing) for v in variance]
    crossed = ((np.abs(walk) if sides == 2 else walk) > width).any(axis=1).mean()
    assert crossed < 0.05
    assert ((walk > 1.645 * np.sqrt(variance)).any(axis=1)).mean() > 0.3, "what looking again and again does"


def test_tuning_makes_it_narrowest_where_it_was_asked_to() -> None:
    at = tuned(0.05, 50.0)
    assert half_width(50.0, 0.05, at) <= min(half_width(50.0, 0.05, at * factor) for factor in (0.5, 0.9, 1.1, 2))
