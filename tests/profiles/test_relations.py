"""How numbers go together: a column that leaves the others' company is named, and nothing else is needed but means."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.profiles.column import ColumnProfile, number_bins, profile_column
from pipelines.profiles.relations import left_over, relations


def weather(rows: int, mean: float, seed: int) -> dict[str, np.ndarray]:
    """Temperature, dew point (near it) and wind (on its own)."""
    random = np.random.default_rng(seed)
    temp = random.normal(mean, 8, rows)
    return {"temp": temp, "dewp": temp - 10 + random.normal(0, 2, rows), "wind": random.normal(10, 4, rows)}


def look(columns: dict[str, np.ndarray]) -> dict[str, ColumnProfile]:
    bins = {name: number_bins(values, 10) for name, values in weather(2000, 40, 0).items()}
    return {name: profile_column(name, pa.array(values), bins[name]) for name, values in columns.items()}


TRAINED = relations(pa.table({**weather(2000, 40, 0), "carrier": ["UA"] * 2000}))
assert TRAINED is not None


def test_only_numbers_have_relations() -> None:
    assert TRAINED is not None and TRAINED.names == ("temp", "dewp", "wind")


def test_a_season_keeps_its_relations_and_a_changed_column_does_not() -> None:
    sound, harmed = weather(2000, 70, 1), weather(2000, 70, 1)
    harmed["temp"] = harmed["temp"] + 8
    assert TRAINED is not None
    quiet, loud = left_over(TRAINED, [look(sound), look(harmed)])
    assert np.abs(quiet[:2]).max() < 1 < 3 < np.abs(loud[0])
    assert np.argmax(np.abs(loud)) == 0, "the column that moved alone is furthest off"


@given(place=st.integers(0, 2), by=st.floats(0.5, 5), sign=st.sampled_from([-1, 1]))
@settings(max_examples=30, deadline=None)
def test_the_column_that_moved_alone_is_furthest_off(place: int, by: float, sign: int) -> None:
    assert TRAINED is not None
    name, rows = TRAINED.names[place], weather(2000, 40, 0)
    rows[name] = rows[name] + sign * by * TRAINED.stds[place]
    (off,) = left_over(TRAINED, [look(rows)])
    assert np.argmax(np.abs(off)) == place


def test_a_column_without_values_is_not_judged_and_harms_no_other() -> None:
    assert TRAINED is not None
    rows = weather(500, 40, 3)
    gone = look(rows) | {"wind": look({**rows, "wind": np.full(500, np.nan)})["wind"]}
    (off,) = left_over(TRAINED, [gone])
    assert np.isnan(off[2]) and np.abs(off[:2]).max() < 0.5


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"x": np.arange(500.0)}),
        pa.table({"x": np.arange(500.0), "y": np.full(500, 3.0)}),
        pa.table({"x": np.arange(50.0), "y": np.arange(50.0) ** 2}),
        pa.table({"x": pa.nulls(500, pa.float64()), "y": np.arange(500.0)}),
    ],
)
def test_too_little_to_relate(table: pa.Table) -> None:
    assert relations(table) is None


def test_columns_that_repeat_each_other_do_no_harm() -> None:
    values = np.random.default_rng(0).normal(0, 1, 500)
    found = relations(pa.table({"one": values, "same": values, "huge": values * 1e300}))
    assert found is not None and np.isfinite(found.precision).all()
