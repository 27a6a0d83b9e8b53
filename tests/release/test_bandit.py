"""A bandit's share: the chance that the challenger is better, within its floor."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config.release import Bandit
from pipelines.metrics.effects import Effect
from pipelines.release.bandit import share

EFFECTS = st.builds(
    Effect, st.floats(-1e3, 1e3), st.floats(1e-9, 1e3), rows=st.integers(2, 1000), units=st.integers(2, 1000)
)


@given(effect=EFFECTS, floor=st.floats(0.01, 0.49))
def test_both_versions_keep_their_floor_and_what_one_gets_the_other_gives(effect: Effect, floor: float) -> None:
    settings = Bandit(floor=floor)
    given = share(effect, settings)
    assert floor <= given <= 1 - floor
    assert share(effect._replace(value=-effect.value), settings) == pytest.approx(1 - given)
    assert given == share(effect, settings)


@given(effect=EFFECTS, worse=st.floats(0, 10))
def test_a_worse_challenger_never_serves_more(effect: Effect, worse: float) -> None:
    settings = Bandit()
    assert share(effect._replace(value=effect.value + worse), settings) <= share(effect, settings)


def test_it_is_what_draws_from_the_posterior_would_give() -> None:
    effect = Effect(-0.002, 0.003**2, 5_000, 5_000)
    draws = np.random.default_rng(1).normal(effect.value, math.sqrt(effect.variance), 200_000)
    assert share(effect, Bandit()) == pytest.approx((draws < 0).mean(), abs=0.005)


@pytest.mark.parametrize("effect", [None, Effect(float("nan"), float("inf"), 0, 0), Effect(0.5, float("inf"), 1, 1)])
def test_nothing_known_is_even(effect: Effect | None) -> None:
    assert share(effect, Bandit()) == 0.5
