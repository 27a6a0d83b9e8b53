from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from pipelines.errors import ConfigError, SchemaError
from pipelines.ingest.extract import check_columns, extract, extracted_schema
from pipelines.problem import Problem

ToyProblem = Callable[..., Problem]
EVENTS = "SELECT kettle_id, moment AS event_time, shelf, litres, age FROM kettles -- no cut-off of its own"
LABELS = "SELECT kettle_id, moment AS event_time, moment + INTERVAL 1 HOUR AS known_time, boiled AS label FROM kettles;"


def kettles(*rows: dict[str, Any]) -> dict[str, pa.Table]:
    usual = {
        "kettle_id": "k",
        "moment": datetime(2024, 1, 2, 12, tzinfo=UTC),
        "shelf": "top",
        "litres": 1.5,
        "age": 3,
        "boiled": 1,
    }
    return {"kettles": pa.Table.from_pylist([{**usual, "kettle_id": f"k{n}", **row} for n, row in enumerate(rows)])}


def rows(problem: Problem, query: Any, sources: dict[str, pa.Table], first: str, last: str) -> list[dict[str, Any]]:
    batches = extract(problem, query, sources, first, last)
    return pa.Table.from_batches(batches, extracted_schema(problem, query)).to_pylist()


@pytest.fixture
def problem(toy: ToyProblem) -> Problem:
    made = toy(**{"labels.delay_days": 2})
    (made.folder / "events.sql").write_text(EVENTS)
    (made.folder / "labels.sql").write_text(LABELS)
    return made


def test_a_range_gives_the_events_of_its_partitions_alone(problem: Problem) -> None:
    hours = [datetime(2024, 1, day, hour, tzinfo=UTC) for day, hour in ((1, 23), (2, 0), (3, 23), (4, 0))]
    found = rows(problem, "events", kettles(*({"moment": hour} for hour in hours)), "2024-01-02", "2024-01-03")
    assert [(row["kettle_id"], row["partition"]) for row in found] == [("k1", "2024-01-02"), ("k2", "2024-01-03")]
    assert found[0]["known_time"] == found[0]["cutoff_time"] == found[0]["event_time"]


def test_a_partition_is_a_day_in_the_problems_own_time_zone(toy: ToyProblem) -> None:
    problem = toy(**{"partitions.timezone": "America/New_York"})
    (problem.folder / "events.sql").write_text(EVENTS)
    source = kettles({"moment": datetime(2024, 1, 3, 4, 59, tzinfo=UTC)})
    assert [row["partition"] for row in rows(problem, "events", source, "2024-01-02", "2024-01-02")] == ["2024-01-02"]
    assert rows(problem, "events", source, "2024-01-03", "2024-01-03") == []


def test_labels_arrive_with_their_delay(problem: Problem) -> None:
    (found,) = rows(problem, "labels", kettles({}), "2024-01-04", "2024-01-04")
    assert found["known_time"] == datetime(2024, 1, 4, 13, tzinfo=UTC)
    assert found["partition"] == "2024-01-04"
    assert rows(problem, "labels", kettles({}), "2024-01-02", "2024-01-03") == []


def test_a_value_of_another_type_is_named_and_the_row_kept_as_it_came(problem: Problem) -> None:
    sources = {"kettles": pa.table({"kettle_id": ["a", "b"], "moment": [datetime(2024, 1, 2, tzinfo=UTC)] * 2,
                                    "shelf": ["top"] * 2, "litres": ["1.5", "much"], "age": [3.0, 3.5]})}  # fmt: skip
    good, bad = rows(problem, "events", sources, "2024-01-02", "2024-01-02")
    assert (good["faults"], good["raw"], good["litres"], good["age"]) == ([], None, 1.5, 3)
    assert bad["faults"] == ["litres: not of type float", "age: not of type integer"]
    assert '"litres":"much"' in bad["raw"]


def test_a_row_without_a_time_is_not_lost(problem: Problem) -> None:
    (found,) = rows(
        problem,
        "events",
        kettles({"moment": None}, {"moment": datetime(2023, 1, 1, tzinfo=UTC)}),
        "2024-01-05",
        "2024-01-06",
    )
    assert (found["kettle_id"], found["event_time"], found["partition"]) == ("k0", None, "2024-01-05")


def test_columns_that_differ_are_shown_as_a_diff(problem: Problem) -> None:
    (problem.folder / "events.sql").write_text(EVENTS.replace("litres,", "litres AS liters,"))
    with pytest.raises(SchemaError) as caught:
        check_columns(problem, "events", kettles({}))
    assert "- litres (float) is declared and missing" in str(caught.value)
    assert "+ liters (DOUBLE) is not declared" in str(caught.value)
    assert caught.value.where.endswith("events.sql")


def test_sql_that_does_not_run_is_told_with_its_file(problem: Problem) -> None:
    (problem.folder / "labels.sql").write_text(LABELS.replace("boiled", "boilt"))
    with pytest.raises(ConfigError, match="boilt") as caught:
        check_columns(problem, "labels", kettles({}))
    assert caught.value.where.endswith("labels.sql")
    (problem.folder / "labels.sql").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        check_columns(problem, "labels", kettles({}))
