from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipelines.artifacts import table_schema
from pipelines.errors import ConfigError
from pipelines.features.derive import PERIODS
from pipelines.features.featurize import featurize_row
from pipelines.features.schema import feature_schema
from pipelines.problem import Problem

ToyProblem = Callable[..., Problem]
NIGHT = datetime(2024, 1, 1, 3, 30, tzinfo=UTC)  # still the last evening of the old year in New York, a Sunday


def derived(problem: Problem, **changes: Any) -> dict[str, Any]:
    event = {"kettle_id": "k1", "event_time": NIGHT, "shelf": "top", "litres": 1.5, "age": 3, **changes}
    empty = [table_schema(problem, "events").empty_table(), table_schema(problem, "labels").empty_table()]
    return featurize_row(problem, event, *empty)


def test_a_cross_joins_the_texts_of_its_values(toy: ToyProblem) -> None:
    problem = toy(**{"features.crosses": {"kind": {"of": ["shelf", "litres", "age"]}}})
    assert derived(problem)["kind"] == "top|1.5|3"
    assert derived(problem, age=None)["kind"] is None


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("minute", 30),
        ("hour", 22.5),
        ("weekday", 7),
        ("day", 31),
        ("week", 52),
        ("month", 12),
        ("quarter", 4),
        ("year", 2023),
    ],
)
def test_parts_of_a_time_are_those_of_the_problems_time_zone(toy: ToyProblem, part: str, value: float) -> None:
    settings = {
        "partitions": {"every": "day", "first": "2023-01-01", "timezone": "America/New_York"},
        "features.datetime": {"then": {"part": part}},
    }
    assert derived(toy(**settings))["then"] == value


def test_an_age_is_the_days_until_the_cut_off(toy: ToyProblem) -> None:
    changes = {"columns.filled": {"type": "timestamp", "available": "cutoff"}}
    problem = toy(**changes, **{"features.datetime": {"since": {"of": "filled", "part": "age"}}})
    cutoff = NIGHT - timedelta(hours=3)
    assert derived(problem, filled=NIGHT - timedelta(days=2), cutoff_time=cutoff)["since"] == 1.875
    assert derived(problem, filled=NIGHT, cutoff_time=cutoff)["since"] == -0.125
    assert derived(problem, filled=None)["since"] is None
    (since,) = (feature for feature in feature_schema(problem, None) if feature["name"] == "since")
    assert (since["definition"], since["unit"]) == ("days from filled to the cut-off", "day")


@pytest.mark.parametrize(
    ("part", "message"),
    [({"cyclical": True}, "age does not come again"), ({"of": "cutoff_time"}, "0 days before the cut-off")],
)
def test_an_age_that_says_nothing_is_refused(toy: ToyProblem, part: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        toy(**{"features.datetime": {"since": {"part": "age", **part}}})


@pytest.mark.parametrize("part", PERIODS)
def test_a_cyclical_part_is_a_point_on_a_circle(toy: ToyProblem, part: str) -> None:
    plain = derived(toy(**{"features.datetime": {"then": {"part": part}}}))["then"]
    row = derived(toy(**{"features.datetime": {"then": {"part": part, "cyclical": True}}}))
    angle = 2 * math.pi * plain / PERIODS[part]
    assert (row["then_sin"], row["then_cos"]) == pytest.approx((math.sin(angle), math.cos(angle)), abs=1e-12)


def test_a_missing_time_has_no_parts(toy: ToyProblem) -> None:
    problem = toy(
        **{
            "columns.filled": {"type": "timestamp"},
            "features.datetime": {"h": {"of": "filled", "part": "hour", "cyclical": True}},
        }
    )
    row = derived(problem, filled=None)
    assert (row["h_sin"], row["h_cos"]) == (None, None)
    assert derived(problem, filled=NIGHT.replace(hour=6, minute=0))["h_sin"] == pytest.approx(1)
