from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import sql
from pipelines.errors import ConfigError, SchemaError
from pipelines.ingest.extract import check_columns, extract, extracted_schema
from pipelines.problem import Problem

ToyProblem = Callable[..., Problem]
EVENTS = "SELECT kettle_id, moment AS event_time, shelf, litres, age FROM kettles -- no cut-off of its own"
LABELS = "SELECT kettle_id, moment AS event_time, moment + INTERVAL 1 HOUR AS known_time, boiled AS label FROM kettles;"
NOON = datetime(2024, 1, 2, 12, tzinfo=UTC)


def kettles(*rows: dict[str, Any]) -> pa.Table:
    usual = {"kettle_id": "k", "moment": NOON, "shelf": "top", "litres": 1.5, "age": 3, "boiled": 1}
    return pa.Table.from_pylist([{**usual, "kettle_id": f"k{n}", **row} for n, row in enumerate(rows)])


def rows(problem: Problem, query: Any, source: pa.Table, first: str, last: str) -> list[dict[str, Any]]:
    with sql.connection({"kettles": source}) as database:
        batches = extract(problem, query, database, first, last)
        return pa.Table.from_batches(batches, extracted_schema(problem, query)).to_pylist()


def events(problem: Problem, **columns: pa.Array) -> list[dict[str, Any]]:
    count = len(next(iter(columns.values())))
    usual = {
        "kettle_id": pa.array([f"k{n}" for n in range(count)]),
        "moment": pa.array([NOON] * count),
        "shelf": pa.array(["top"] * count),
        "litres": pa.array([1.5] * count),
        "age": pa.array([3] * count),
    }
    return rows(problem, "events", pa.table({**usual, **columns}), "2024-01-02", "2024-01-02")


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


@pytest.mark.parametrize(
    ("zone", "first", "last"),
    [
        ("UTC", "2024-01-02", "2024-01-20"),
        ("America/St_Johns", "2006-10-28", "2006-11-12"),
        ("America/St_Johns", "2006-10-12", "2006-10-28"),
        ("Pacific/Apia", "2011-12-29", "2012-01-10"),
        ("Pacific/Apia", "2011-12-15", "2011-12-31"),
    ],
)
def test_a_long_range_has_the_rows_of_its_partitions_to_the_hour(
    toy: ToyProblem, zone: str, first: str, last: str
) -> None:
    made = toy(**{"partitions.timezone": zone})
    (made.folder / "events.sql").write_text(EVENTS)
    start = datetime.fromisoformat(first).replace(tzinfo=UTC) - timedelta(days=4)
    hours = [start + timedelta(minutes=30 * n) for n in range(48 * 26)]
    found = rows(made, "events", kettles(*({"moment": hour} for hour in hours)), first, last)
    within = [hour for hour in hours if first <= made.partitions.key_of(hour) <= last]
    assert [row["event_time"] for row in found] == within
    assert 0 < len(within) < len(hours)


def test_an_hour_that_clocks_put_back_into_the_day_before_comes_with_that_day_and_no_other(toy: ToyProblem) -> None:
    made = toy(**{"partitions.timezone": "America/St_Johns"})  # on 29 October 2006 00:01 became 23:01 of the 28th
    (made.folder / "events.sql").write_text(EVENTS)
    start = datetime(2006, 10, 29, 2, 15, tzinfo=UTC)  # 23:45, 00:00, 23:14 again, ...
    source = kettles(*({"moment": start + n * timedelta(minutes=15)} for n in range(7)))
    days = {
        day: [row["kettle_id"] for row in rows(made, "events", source, day, day)]
        for day in ("2006-10-28", "2006-10-29")
    }
    assert days == {"2006-10-28": ["k0", "k2", "k3", "k4"], "2006-10-29": ["k1", "k5", "k6"]}


def test_labels_arrive_with_their_delay(problem: Problem) -> None:
    (found,) = rows(problem, "labels", kettles({}), "2024-01-04", "2024-01-04")
    assert found["known_time"] == datetime(2024, 1, 4, 13, tzinfo=UTC)
    assert found["partition"] == "2024-01-04"
    assert rows(problem, "labels", kettles({}), "2024-01-02", "2024-01-03") == []


def test_a_value_of_another_type_is_named_and_the_row_kept_as_it_came(problem: Problem) -> None:
    good, bad = events(problem, litres=pa.array(["1.5", "much"]), age=pa.array([3.0, 3.5]))
    assert (good["faults"], good["raw"], good["litres"], good["age"]) == ([], None, 1.5, 3)
    assert bad["faults"] == ["litres: not of type float: 'much'", "age: not of type integer: '3.5'"]
    assert json.loads(bad["raw"]) == {
        "kettle_id": "k1",
        "event_time": "2024-01-02 12:00:00+00",
        "shelf": "top",
        "litres": "much",
        "age": 3.5,
    }


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("age", ["7", " 8 ", "9.0", "-1"], [7, 8, 9, -1]),
        ("age", ["3.7", "1e3", "1_000", "0x1F", "", "9" * 20, "1.5.2"], None),
        ("age", [2.0, math.nan], [2, None]),
        ("age", [2.5, math.inf, 1e19], None),
        ("age", [True, False], [1, 0]),
        ("litres", [math.nan, 2.5], [None, 2.5]),
        ("litres", ["nan", "2.5", "3"], [None, 2.5, 3.0]),
        ("litres", [4, 5], [4.0, 5.0]),
        ("litres", ["1,5", "two", "--1"], None),
        ("shelf", [1, 2], ["1", "2"]),
        ("moment", ["yesterday", "01/02/2024", "infinity", "2024-13-01", "20000-01-01"], None),
        ("moment", ["2024-01-02T03:04:05+02:00"], [datetime(2024, 1, 2, 1, 4, 5, tzinfo=UTC)]),
    ],
)
def test_values_are_cast_without_loss_or_told(problem: Problem, column: str, values: list, expected: Any) -> None:
    found = events(problem, **{column: pa.array(values)})
    name = "event_time" if column == "moment" else column
    kind = {"age": "integer", "litres": "float", "moment": "timestamp"}.get(column, "string")
    if expected is None:
        assert [row[name] for row in found] == [None] * len(values)
        for row, value in zip(found, values, strict=True):
            assert row["faults"][0].startswith(f"{name}: not of type {kind}: '{value}"[:30])
    else:
        assert [row[name] for row in found] == expected
        assert [row["faults"] for row in found] == [[]] * len(values)


def test_only_nought_and_one_stand_for_a_boolean(toy: ToyProblem) -> None:
    problem = toy(**{"columns.lid": {"type": "boolean", "available": "cutoff"}})
    (problem.folder / "events.sql").write_text(EVENTS.replace("age", "age, lid"))
    found = events(problem, lid=pa.array([0, 1, 2, None]))
    assert [row["lid"] for row in found] == [False, True, None, None]
    assert [row["faults"] for row in found] == [[], [], ["lid: not of type boolean: '2'"], []]


def test_an_infinite_number_is_a_fault_and_its_row_is_still_json(problem: Problem) -> None:
    (found,) = events(problem, litres=pa.array([-math.inf]))
    assert found["litres"] is None
    assert found["faults"] == ["litres: not a finite number: '-inf'"]
    assert json.loads(found["raw"])["litres"] == "-inf"


def test_a_long_value_is_cut_where_it_is_told(problem: Problem) -> None:
    (found,) = events(problem, age=pa.array(["x" * 200]))
    assert found["faults"] == [f"age: not of type integer: '{'x' * 80}'"]
    assert "x" * 200 in found["raw"]


def test_values_of_an_enumeration_are_texts(problem: Problem) -> None:
    found = events(problem, shelf=pa.array(["top", "bottom"]).dictionary_encode())
    assert [row["shelf"] for row in found] == ["top", "bottom"]


def test_json_values_are_taken_out_of_their_quotes(problem: Problem) -> None:
    query = EVENTS.replace(
        "shelf, litres, age", "doc -> 'shelf' AS shelf, doc -> 'litres' AS litres, doc -> 'age' AS age"
    )
    (problem.folder / "events.sql").write_text(
        query.replace("FROM kettles", "FROM (SELECT *, d::JSON AS doc FROM kettles)")
    )
    docs = ['{"shelf": "top", "litres": 2.5, "age": 7}', '{"shelf": null, "age": "old"}']
    good, bad = events(problem, d=pa.array(docs))
    assert (good["shelf"], good["litres"], good["age"], good["faults"]) == ("top", 2.5, 7, [])
    assert (bad["shelf"], bad["faults"]) == (None, ["age: not of type integer: 'old'"])


def test_a_row_without_a_time_is_not_lost(problem: Problem) -> None:
    (found,) = rows(
        problem,
        "events",
        kettles({"moment": None}, {"moment": datetime(2023, 1, 1, tzinfo=UTC)}),
        "2024-01-05",
        "2024-01-06",
    )
    assert (found["kettle_id"], found["event_time"], found["partition"]) == ("k0", None, "2024-01-05")
    assert json.loads(found["raw"])["shelf"] == "top"


def test_columns_that_differ_are_shown_as_a_diff(problem: Problem) -> None:
    (problem.folder / "events.sql").write_text(EVENTS.replace("litres,", "litres AS liters,"))
    with sql.connection({"kettles": kettles({})}) as database, pytest.raises(SchemaError) as caught:
        check_columns(problem, "events", database)
    assert "- litres (float) is declared and missing" in str(caught.value)
    assert "+ liters (DOUBLE) is not declared" in str(caught.value)
    assert caught.value.where.endswith("events.sql")


def test_sql_that_does_not_run_is_told_with_its_file(problem: Problem) -> None:
    (problem.folder / "labels.sql").write_text(LABELS.replace("boiled", "boilt"))
    with sql.connection({"kettles": kettles({})}) as database:
        with pytest.raises(ConfigError, match="boilt") as caught:
            check_columns(problem, "labels", database)
        assert caught.value.where.endswith("labels.sql")
        assert "the types of kettles are guessed from the data: declare `columns`" in caught.value.cure
        (problem.folder / "labels.sql").write_text(LABELS.replace("boiled AS", "boiled AS AS"))
        with pytest.raises(ConfigError, match="Parser Error") as caught:
            check_columns(problem, "labels", database)
        assert caught.value.cure == "correct the query", "no type makes that one run"
        (problem.folder / "labels.sql").unlink()
        with pytest.raises(ConfigError, match="cannot be read"):
            check_columns(problem, "labels", database)


def test_sql_that_fails_on_a_late_row_is_told_too(problem: Problem) -> None:
    (problem.folder / "events.sql").write_text(EVENTS.replace("age", "CAST(age AS INTEGER) AS age"))
    ages = pa.array([*(str(n) for n in range(200_000)), "old"])
    with pytest.raises(ConfigError, match="Could not convert string 'old'") as caught:
        events(problem, age=ages)
    assert caught.value.where.endswith("events.sql")
    assert "declare `columns`" in caught.value.cure


@settings(max_examples=25)
@given(st.lists(st.one_of(st.none(), st.text(max_size=12), st.integers().map(str), st.floats().map(str)), min_size=1))
def test_no_text_is_lost_on_the_way(toy: ToyProblem, texts: list[str | None]) -> None:
    problem = toy()
    (problem.folder / "events.sql").write_text(EVENTS)
    values = pa.array(texts, pa.string())
    found = events(problem, litres=values, age=values)
    assert len(found) == len(texts)
    for row, text in zip(found, texts, strict=True):
        faulty = {fault.split(":")[0] for fault in row["faults"]}
        assert faulty <= {"litres", "age"}
        assert ("age" in faulty) == (text is not None and row["age"] is None)
        assert row["litres"] is None or math.isfinite(row["litres"])
        assert (row["raw"] is not None) == bool(faulty)
        if faulty:
            assert json.loads(row["raw"])["age"] == text
