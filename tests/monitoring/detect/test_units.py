"""Another unit is told from mean and spread; what is a season, a wet week or a frozen sensor is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ingest.shape.units import changes_of
from pipelines.monitoring.detect.units import other_unit
from pipelines.profiles.column import ColumnProfile, Numbers, number_bins, profile_column

CHANGES, _ = changes_of("", with_slight=True)


def temperatures(mean: float, std: float, seed: int, rows: int = 500) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, std, rows)


WINTER = temperatures(35, 9, seed=0, rows=2000)
BINS = number_bins(WINTER, 10)


def look(values: np.ndarray, bins: Numbers = BINS) -> ColumnProfile:
    return profile_column("x", pa.array(values), bins)


WEEKS = [look(temperatures(35 + week, 9, seed=1 + week)) for week in range(4)]


@pytest.mark.parametrize(
    ("change", "name", "unit"),
    [
        (lambda f: (f - 32) * 5 / 9, "degrees Fahrenheit and Celsius", "degF"),
        (lambda f: f * 1.609344, "miles and kilometres", "mph"),
        (lambda f: f * 25.4, "inches and millimetres", "inch"),
        (lambda f: f / 100, "percent and shares", "percent"),
        (lambda f: -f, "the sign", "dollar"),
    ],
)
def test_a_change_of_units_is_named(change: Callable[[np.ndarray], np.ndarray], name: str, unit: str) -> None:
    found = look(change(temperatures(38, 9, seed=5)))
    assert other_unit(found, WEEKS, unit) == name
    assert other_unit(found, WEEKS) == name, "so far off and brought back so near that no unit has to be declared"
    assert other_unit(found, WEEKS, is_far=False) is None, "a step alone is no overwhelming evidence"


@pytest.mark.parametrize(
    ("unit", "name"), [("degF", "degrees Fahrenheit and Celsius"), ("inch", None), ("euro", None), ("", None)]
)
def test_a_likely_change_takes_a_declared_unit_of_its_kind(unit: str, name: str | None) -> None:
    before = WEEKS[0].model_copy(update={"mean": 35.0, "std": 9.0})
    moved = WEEKS[0].model_copy(update={"mean": 0.2, "std": 5.9})  # in Fahrenheit 9 times nearer: not 10 times
    assert other_unit(moved, [before], unit) == name


@given(
    unit=st.sampled_from(["", "euro", "minute", "degF", "mph", "inch", "lb", "percent", "hPa"]),
    by=st.floats(-0.9, 0.9),
    wider=st.floats(0.7, 1.4),
)
@settings(max_examples=40, deadline=None)
def test_a_mild_move_is_no_change_of_units_whatever_is_declared(unit: str, by: float, wider: float) -> None:
    mild = WEEKS[0].model_copy(update={"mean": 35 + 9 * by, "std": 9 * wider})
    assert other_unit(mild, WEEKS, unit, is_far=False) is None


def test_the_mirror_of_a_frosty_week_is_a_warm_one() -> None:
    frosty, warm = temperatures(-6, 3, seed=5), temperatures(6, 3, seed=6)
    bins = number_bins(frosty, 10)
    assert other_unit(look(warm, bins), [look(frosty, bins)], "degC") is None


@pytest.mark.parametrize(
    "values", [temperatures(38, 9, seed=5), temperatures(60, 9, seed=6), np.full(500, 35.0), np.array([])]
)
def test_what_is_no_change_of_units(values: np.ndarray) -> None:
    assert other_unit(look(values), WEEKS) is None


def test_a_wet_week_after_dry_ones() -> None:
    random = np.random.default_rng(5)
    rain = [np.where(random.random(500) < share, 0.1, 0.0) for share in (0.01, 0.02, 0.3)]
    bins = number_bins(np.concatenate(rain), 10)
    assert other_unit(look(rain[2], bins), [look(one, bins) for one in rain[:2]]) is None


def test_without_a_past_there_is_nothing_to_compare_with() -> None:
    assert other_unit(look(WINTER), []) is None


@given(name=st.sampled_from(sorted(CHANGES)), mean=st.floats(-50, 50), std=st.floats(0.5, 20))
@settings(max_examples=30, deadline=None)
def test_what_is_undone_is_what_was_done_or_as_near(name: str, mean: float, std: float) -> None:
    factor, offset = CHANGES[name]
    values = np.random.default_rng(1).normal(mean, std, 400)
    bins = number_bins(values, 10)
    changed = other_unit(look(values * factor + offset, bins), [look(values, bins)])
    assert changed is None or changed in CHANGES
    assert other_unit(look(values, bins), [look(values, bins)]) is None
