"""Steps, slopes and noise of which the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.monitoring.explain.change_point import change_point


def keys(count: int) -> list[str]:
    return [f"{place:03}" for place in range(count)]


def wandering(count: int, alike: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=count)
    for place in range(1, count):
        noise[place] = alike * noise[place - 1] + np.sqrt(1 - alike**2) * noise[place]
    return noise


def test_a_step_is_found_where_it_is() -> None:
    values = wandering(40, 0, seed=1)
    values[25:] += 5
    found = change_point(keys(40), values.tolist())
    assert found is not None and found.shape == "step" and found.p_value <= 0.01
    assert found.first <= "025" <= found.last and abs(int(found.since) - 25) <= 1
    assert found.after - found.before == pytest.approx(5, abs=0.7) and found.partitions == 40


def test_the_newest_of_several_changes_is_told() -> None:
    values = wandering(60, 0.3, seed=2)
    values[20:40] += 8
    values[40:] -= 8
    found = change_point(keys(60), values.tolist())
    assert found is not None and found.since == "040" and found.before > 6 and found.after < -6


def test_a_slow_trend_is_gradual() -> None:
    values = wandering(50, 0.2, seed=3)
    values[20:] += np.arange(30) * 0.4
    found = change_point(keys(50), values.tolist())
    assert found is not None and found.shape == "gradual"
    assert found.first <= "020" <= found.last and found.after == pytest.approx(12, abs=1.5)


def test_a_season_has_turned() -> None:
    """A year that rose and falls again: the fall is the newest change."""
    season = 20 * np.sin(np.arange(40) / 40 * 1.5 * np.pi) + wandering(40, 0, seed=4)
    found = change_point(keys(40), season.tolist())
    assert found is not None and found.after < found.before and int(found.since) > 15


def test_the_newest_partition_alone_may_be_the_change_and_a_spike_is_none() -> None:
    values = wandering(16, 0, seed=5)
    values[-1] += 12
    found = change_point(keys(16), values.tolist())
    assert found is not None and found.since == "015" and found.before == pytest.approx(0, abs=1)
    spike = wandering(16, 0, seed=5)
    spike[8] += 12
    assert change_point(keys(16), spike.tolist()) is None


def test_gaps_are_passed_over() -> None:
    values: list[float | None] = [*wandering(30, 0, seed=6)]
    values = [value + 6 * (place >= 18) if value is not None else None for place, value in enumerate(values)]
    values[3] = values[17] = values[25] = None
    values[4] = float("nan")
    values[5] = float("inf")
    found = change_point(keys(30), values)
    assert found is not None and found.since == "018" and found.partitions == 25


@pytest.mark.parametrize("alike", [0.0, 0.5])
def test_noise_gives_hardly_any(alike: float) -> None:
    found = [change_point(keys(24), wandering(24, alike, seed).tolist()) for seed in range(60)]
    assert sum(one is not None for one in found) <= 0.2 * len(found)


def test_a_step_in_what_wanders_takes_more_than_in_plain_noise() -> None:
    """That neighbours are alike counts: the same step is surer where they are not."""
    chances = []
    for alike in (0.0, 0.8):
        p_values = []
        for seed in range(12):
            values = wandering(40, alike, seed)
            values[30:] += 2.5
            found = change_point(keys(40), values.tolist())
            p_values.append(1.0 if found is None else found.p_value)
        chances.append(np.mean(p_values))
    assert chances[0] < chances[1]


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [3.0] * 9, [None] * 5, [0.1 + 0.2, 0.3, 0.3, 0.3]])
def test_too_little_or_constant(values: list[float | None]) -> None:
    assert change_point(keys(len(values)), values) is None


@settings(max_examples=60)
@given(st.lists(st.one_of(st.none(), st.floats(-1e150, 1e150)), max_size=40))
def test_whatever_comes_is_told_in_its_terms(values: list[float | None]) -> None:
    names = keys(len(values))
    found = change_point(names, values)
    if found is not None:
        assert found.first <= found.since <= found.last and found.since in names
        assert 0 < found.p_value <= 0.05 and np.isfinite([found.before, found.after]).all()
        assert values[names.index(found.since)] is not None


def test_many_partitions() -> None:
    values = wandering(500, 0.3, seed=7)
    values[350:] -= 3
    found = change_point(keys(500), values.tolist())
    assert found is not None and abs(int(found.since) - 350) <= 3
