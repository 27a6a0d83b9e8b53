from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import sql
from pipelines.artifacts import table_schema
from pipelines.errors import ConfigError, DataError
from pipelines.ingest.extract import extract, extracted_schema, good_columns
from pipelines.ingest.quarantine import Repair, edited, from_sources, listing, repair
from pipelines.problem import Problem
from tests.examples import dear
from tests.ingest.set_aside import apply_repairs, bad_rows

ToyProblem = Callable[..., Problem]
NOON = datetime(2024, 1, 2, 12, tzinfo=UTC)
RELEASED = datetime(2024, 3, 1, 9, 30, tzinfo=UTC)
GOOD = {"kettle_id": "k1", "event_time": "2024-01-02 12:00:00+00", "shelf": "top", "litres": 1.5, "age": 3}


@pytest.fixture
def problem(toy: ToyProblem) -> Problem:
    made = toy(**{"labels.delay_days": 2, "validation.rules": {"small": "litres < age + 4"}})
    (made.folder / "events.sql").write_text("SELECT kettle_id, moment AS event_time, shelf, litres, age FROM kettles")
    (made.folder / "labels.sql").write_text(
        "SELECT kettle_id, moment AS event_time, moment AS known_time, boiled AS label FROM kettles"
    )
    return made


def staged(problem: Problem, query: Any, day: str, rows: list[dict[str, Any]]) -> pa.Table:
    usual = {"kettle_id": "k", "moment": str(NOON), "shelf": "top", "litres": "1.5", "age": "3", "boiled": "1"}
    schema = pa.schema([(name, pa.string()) for name in usual])
    source = pa.Table.from_pylist([{**usual, "kettle_id": f"k{n}", **row} for n, row in enumerate(rows)], schema)
    with sql.connection({"kettles": source}) as database:
        return pa.Table.from_batches(extract(problem, query, database, day, day), extracted_schema(problem, query))


def test_a_mended_row_is_cast_and_belongs_to_its_own_partition_but_is_known_only_now(problem: Problem) -> None:
    (row,) = repair(problem, "events", {**GOOD, "age": "7"}, RELEASED).to_pylist()
    assert row == {
        "kettle_id": "k1",
        "event_time": NOON,
        "known_time": RELEASED,
        "cutoff_time": NOON,
        "shelf": "top",
        "litres": 1.5,
        "age": 7,
        "partition": "2024-01-02",
    }
    label = {"kettle_id": "k1", "event_time": str(NOON), "known_time": str(NOON), "label": 1}
    (row,) = repair(problem, "labels", label, RELEASED).to_pylist()
    assert (row["partition"], row["known_time"], row["label"]) == ("2024-01-04", RELEASED, 1)


def test_a_row_that_is_still_bad_is_told_with_every_rule(problem: Problem) -> None:
    with pytest.raises(DataError) as caught:
        repair(problem, "events", {**GOOD, "age": "old", "shelf": "floor", "litres": -1, "event_time": None}, RELEASED)
    for rule in (
        "age: not of type integer: 'old'",
        "shelf: not an allowed value",
        "litres: outside 0..5",
        "event_time: missing",
        "cutoff_time: missing",
    ):
        assert rule in caught.value.what
    assert "after cutoff_time" not in caught.value.what
    with pytest.raises(DataError, match="kettle_id: missing, shelf: missing"):
        repair(problem, "events", {"event_time": "2024-01-02", "gone": 1}, RELEASED)
    with pytest.raises(DataError, match="small: not fulfilled"):
        repair(problem, "events", {**GOOD, "litres": 4.5, "age": 0}, RELEASED)


def test_a_row_that_a_source_could_not_give_is_mended_there(problem: Problem) -> None:
    for call in (lambda: repair(problem, "kettles", {}, RELEASED), lambda: edited(problem, "kettles", "{}", {})):
        with pytest.raises(DataError, match="the source kettles") as caught:
            call()
        assert "mend it in the source" in caught.value.cure


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ({"age": "4"}, 4),
        ({"age": ""}, None),
        ({"litres": "2.5"}, 2.5),
        ({"shelf": "bottom"}, "bottom"),
        ({"event_time": "2024-01-05"}, "2024-01-05 00:00:00"),
        ({"cutoff_time": "2024-01-05T01:00:00+02:00"}, "2024-01-05 01:00:00+02:00"),
    ],
)
def test_a_change_has_its_columns_type(problem: Problem, change: dict[str, str], value: Any) -> None:
    after = edited(problem, "events", json.dumps(GOOD), change)
    assert after == {**GOOD, **dict.fromkeys(change, value)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"liters": "2"}, "did you mean 'litres'"),
        ({"age": "2.5"}, "age: not of type integer: '2.5'"),
        ({"litres": "inf"}, "litres: not of type float: 'inf'"),
        ({"event_time": "soon"}, "event_time: not of type timestamp: 'soon'"),
        ({"label": "1"}, "events have no column 'label'"),
    ],
)
def test_a_change_that_cannot_be_is_told(problem: Problem, change: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        edited(problem, "events", json.dumps(GOOD), change)


def test_a_list_shows_each_row_once_and_those_released_no_more(problem: Problem) -> None:
    timeless = [{"moment": None, "kettle_id": "lost"}, {"litres": "much", "kettle_id": "k" * 200}]
    days = ["2024-01-02", "2024-01-03"]
    quarantine = pa.concat_tables(bad_rows(problem, "events", staged(problem, "events", day, timeless)) for day in days)
    assert quarantine.num_rows == 3
    found = listing(quarantine, set())
    assert [row["partition"] for row in found] == ["2024-01-02", "2024-01-02"]
    long = next(row for row in found if row["rules"] == ["litres: not of type float: 'much'"])
    assert len(long["row"]) == 123
    assert [row["id"] for row in listing(quarantine, {long["id"]})] == [row["id"] for row in found if row != long]
    assert listing(quarantine.slice(0, 0), set()) == []


def test_rows_that_a_source_could_not_give_have_the_same_ids_in_every_run(problem: Problem) -> None:
    rejected = pa.table({"source": ["a", "b", "a"], "row": ['{"x": 1}'] * 3, "rules": [["x: odd"]] * 3})
    schema = table_schema(problem, "quarantine")

    def placed(rows: pa.Table, partition: str, others: pa.Table | None = None) -> pa.Table:
        return pa.Table.from_batches(from_sources(problem, iter(rows.to_batches()), partition, others), schema)

    found = placed(rejected, "2024-01-02")
    assert found.schema.equals(table_schema(problem, "quarantine"))
    assert len(set(found["id"].to_pylist())) == 3
    again = placed(rejected.take([2, 1]), "2024-01-09")
    assert set(again["id"].to_pylist()) < set(found["id"].to_pylist())
    assert placed(rejected.slice(0, 0), "2024-01-02").num_rows == 0
    others = placed(rejected, "2024-01-09", again)
    assert set(others["id"].to_pylist()) == set(found["id"].to_pylist()) - set(again["id"].to_pylist())


def test_a_release_survives_a_new_ingest(problem: Problem) -> None:
    rows = [{}, {"litres": "9"}, {"litres": "much"}, {"moment": None}, {"age": "x"}]
    batch = staged(problem, "events", "2024-01-02", rows)
    bad = bad_rows(problem, "events", batch)
    changes = {"k1": {"litres": "0.9"}, "k2": {"litres": "2"}, "k3": {"event_time": "2024-01-02 15:00:00+00"}}
    repairs = {
        row["id"]: Repair(edited(problem, "events", row["row"], changes[key]), RELEASED)
        for row in bad.to_pylist()
        if (key := json.loads(row["row"])["kettle_id"]) in changes
    }
    repairs["of another batch"] = Repair(GOOD, RELEASED)
    still, repaired = apply_repairs(problem, "events", bad, repairs)
    assert [json.loads(row)["kettle_id"] for row in still["row"].to_pylist()] == ["k4"]
    assert {row["kettle_id"]: row["litres"] for row in repaired.to_pylist()} == {"k1": 0.9, "k2": 2.0, "k3": 1.5}
    assert set(repaired["known_time"].to_pylist()) == {RELEASED}
    assert repaired.schema.equals(batch.select(good_columns(problem, "events")).schema)
    assert apply_repairs(problem, "events", bad, {}) == (bad, repaired.schema.empty_table())


def test_a_repair_that_breaks_a_newer_rule_stays_set_aside(toy: ToyProblem, problem: Problem) -> None:
    bad = bad_rows(problem, "events", staged(problem, "events", "2024-01-02", [{"litres": "9"}]))
    repairs = {bad["id"][0].as_py(): Repair({**GOOD, "litres": 3}, RELEASED)}
    assert apply_repairs(problem, "events", bad, repairs)[0].num_rows == 0
    stricter = toy(**{"columns.litres.max": 2})
    still, repaired = apply_repairs(stricter, "events", bad, repairs)
    assert (still.equals(bad), repaired.num_rows) == (True, 0)


def test_a_label_comes_back_without_its_delay_counted_twice(problem: Problem) -> None:
    bad = bad_rows(problem, "labels", staged(problem, "labels", "2024-01-04", [{"boiled": "2"}, {"boiled": "yes"}]))
    repairs = {
        row["id"]: Repair(edited(problem, "labels", row["row"], {"label": "1"}), RELEASED) for row in bad.to_pylist()
    }
    still, repaired = apply_repairs(problem, "labels", bad, repairs)
    assert still.num_rows == 0
    assert (
        repaired.select(["partition", "label", "known_time"]).to_pylist()
        == [{"partition": "2024-01-04", "label": 1, "known_time": RELEASED}] * 2
    )


@settings(max_examples=dear(20))
@given(
    st.fixed_dictionaries(
        {
            "litres": st.one_of(st.none(), st.text(max_size=5), st.floats(-1, 6).map(repr)),
            "age": st.one_of(st.none(), st.text(max_size=5), st.integers(-(2**70), 2**70).map(str)),
            "shelf": st.one_of(st.none(), st.text(max_size=5), st.just("top")),
        }
    )
)
def test_a_row_in_quarantine_breaks_the_same_rules_when_nobody_has_mended_it(
    toy: ToyProblem, row: dict[str, Any]
) -> None:
    problem = toy()
    (problem.folder / "events.sql").write_text(
        "SELECT kettle_id, moment AS event_time, shelf, litres, age FROM kettles"
    )
    bad = bad_rows(problem, "events", staged(problem, "events", "2024-01-02", [row]))
    for one in bad.to_pylist():
        with pytest.raises(DataError) as caught:
            repair(problem, "events", edited(problem, "events", one["row"], {}), RELEASED)
        assert caught.value.what == f"the row still breaks {', '.join(one['rules'])}"
    assert bad.num_rows in (0, 1)
