from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pipelines.documents.dataset import Feature
from pipelines.errors import DataError
from pipelines.features.schema import calendar_features, feature_schema, feature_units
from pipelines.problem import Problem, load_problem
from tests.declared_keys import assert_declared

ToyProblem = Callable[..., Problem]
SQL = "SELECT k.id AS kettle_id, k.boiled AS event_time, k.shelf, k.ml / 1000 AS litres, year AS age FROM kettles AS k"


@pytest.fixture
def kettles(toy: ToyProblem) -> Iterator[Problem]:
    problem = toy(
        **{
            "columns.shelf": {"type": "string", "available": "cutoff", "owner": "carpenter"},
            "columns.litres": {"type": "float", "available": "cutoff", "source_columns": ["scales.weight"]},
            "columns.age": {"type": "integer", "unit": "year"},
            "features.history": {
                "shelf_rate": {"by": ["shelf"], "function": "mean", "window_days": 3, "description": "how often"},
                "age_max": {"by": [], "of": "age", "function": "max", "window_days": 2},
                "since": {"by": ["shelf"], "function": "time_since", "window_days": 2},
            },
            "features.crosses": {"kind": {"of": ["shelf", "litres"]}},
            "features.datetime": {
                "at": {"part": "hour", "cyclical": True},
                "day": {"of": "cutoff_time", "part": "day"},
            },
        }
    )
    query = problem.folder / "events.sql"
    query.write_text(SQL)
    yield problem
    query.unlink()


def rows(problem: Problem) -> pa.Table:
    made = {name: [0.0, 2.5, None, 1.0] for name in problem.feature_names}
    return pa.table(made | {"shelf": ["top", "top", None, "low"], "kind": [None, "a|1", None, None]})


def test_rows_on_disk_are_measured_alike(kettles: Problem) -> None:
    assert feature_schema(kettles, ds.dataset(rows(kettles))) == feature_schema(kettles, rows(kettles))


def test_each_feature_says_what_it_is_and_where_it_comes_from(kettles: Problem) -> None:
    schema = {record["name"]: record for record in feature_schema(kettles, rows(kettles))}
    assert list(schema) == kettles.feature_names
    assert_declared(list[Feature], list(schema.values()))
    assert schema["shelf"] == {
        "name": "shelf",
        "type": "string",
        "unit": "",
        "description": "",
        "owner": "carpenter",
        "definition": "shelf of events.sql",
        "available": "cutoff",
        "source_columns": ["kettles.shelf"],
        "coverage": 0.75,
        "min": None,
        "max": None,
        "distinct": 2,
    }
    assert schema["litres"]["source_columns"] == ["scales.weight"], "what is declared goes first"
    assert (schema["litres"]["min"], schema["litres"]["max"], schema["litres"]["owner"]) == (0.0, 2.5, "kitchen")
    rate = schema["shelf_rate"]
    assert (rate["definition"], rate["description"]) == ("mean of label over 3 days by shelf", "how often")
    assert (rate["source_columns"], rate["available"]) == (["kettles.shelf", "label"], "cutoff")
    oldest = schema["age_max"]
    assert (oldest["definition"], oldest["unit"]) == ("max of age over 2 days over all events", "year")
    assert (oldest["source_columns"], oldest["available"]) == (["kettles.year"], None), "nobody said when age is known"
    assert schema["since"]["unit"] == "day"
    assert schema["kind"]["source_columns"] == ["kettles.shelf", "scales.weight"]
    assert (schema["kind"]["distinct"], schema["kind"]["coverage"]) == (1, 0.25)
    assert schema["at_sin"]["definition"] == "sine of hour of event_time in UTC, once around in 24"
    assert schema["day"]["source_columns"] == ["kettles.boiled"], "the cut-off is the event's time unless it is given"


def test_a_feature_has_the_unit_of_what_it_is_made_of(kettles: Problem) -> None:
    units = feature_units(kettles)
    assert list(units) == kettles.feature_names
    assert {name: unit for name, unit in units.items() if unit} == {"age_max": "year", "since": "day"}


def test_what_the_partition_tells_already_is_of_the_calendar(toy: ToyProblem) -> None:
    parts = {
        "clock": {"part": "hour"},
        "weekday": {"part": "weekday"},
        "day": {"of": "cutoff_time", "part": "day"},
        "month": {"part": "month", "cyclical": True},
        "waited": {"of": "event_time", "part": "age"},
    }
    found = {
        every: calendar_features(toy(**{"features.datetime": parts, "partitions.every": every}))
        for every in ("hour", "day", "week", "month", "quarter")
    }
    months = {"month_sin", "month_cos"}
    assert found["hour"] == {"clock", "weekday", "day"} | months
    assert found["day"] == {"weekday", "day"} | months
    assert found["week"] == {"day"} | months
    assert found["month"] == found["quarter"] == months


def test_without_rows_there_is_nothing_to_say_about_values(kettles: Problem) -> None:
    assert {record["coverage"] for record in feature_schema(kettles, None)} == {None}
    assert {record["coverage"] for record in feature_schema(kettles, rows(kettles).slice(0, 0))} == {None}


def test_the_result_is_plain_data_and_always_the_same(kettles: Problem) -> None:
    assert json.dumps(feature_schema(kettles, rows(kettles))) == json.dumps(feature_schema(kettles, rows(kettles)))


def test_rows_without_a_feature_are_refused(kettles: Problem) -> None:
    with pytest.raises(DataError, match="lack the features litres"):
        feature_schema(kettles, rows(kettles).drop_columns(["litres"]))


def test_the_default_problem_traces_every_feature_to_its_sources() -> None:
    schema = {record["name"]: record["source_columns"] for record in feature_schema(load_problem("flight_delay"), None)}
    assert all(schema.values())
    assert schema["plane_age"] == ["flights.year", "planes.year"]
    assert schema["dest_late_rate_28d"] == ["flights.dest", "label"]
