from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from pipelines.errors import DataError
from pipelines.ingest.extract import extracted_schema
from pipelines.ingest.publish import check_accounts, statements
from pipelines.ingest.validate import check_share, validate
from pipelines.problem import Problem

ToyProblem = Callable[..., Problem]
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def events(problem: Problem, *changes: dict[str, Any]) -> pa.Table:
    usual = {"event_time": NOON, "known_time": NOON, "cutoff_time": NOON, "shelf": "top", "litres": 1.0, "age": 3,
             "partition": "2024-01-01", "faults": [], "raw": None}  # fmt: skip
    rows = [{**usual, "kettle_id": f"k{number}", **change} for number, change in enumerate(changes)]
    return pa.Table.from_pylist(rows, schema=extracted_schema(problem, "events"))


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"litres": 5.1}, ["litres: outside 0..5"]),
        ({"litres": -1.0, "shelf": "floor"}, ["shelf: not an allowed value", "litres: outside 0..5"]),
        ({"shelf": None}, ["shelf: missing"]),
        ({"event_time": None}, ["event_time: missing"]),
        ({"known_time": datetime(2024, 1, 2, tzinfo=UTC)}, ["known_time: after cutoff_time"]),
        ({"kettle_id": "k0"}, ["kettle_id: twice"]),
        ({"kettle_id": None}, ["kettle_id: missing"]),
        ({"faults": ["age: not of type integer"], "age": None}, ["age: not of type integer"]),
        ({"faults": ["shelf: not of type string"], "shelf": None}, ["shelf: not of type string"]),
    ],
)
def test_a_bad_row_is_set_aside_with_every_rule_it_broke(toy: ToyProblem, change: dict, rules: list[str]) -> None:
    table = events(toy(), {}, change, {})
    validated = validate(toy(), "events", table)
    assert validated.good.num_rows + validated.bad.num_rows == table.num_rows
    assert validated.bad["rules"].to_pylist()[-1] == rules
    assert validated.bad["source"].to_pylist() == ["events"] * validated.bad.num_rows


def test_a_missing_value_that_is_allowed_breaks_nothing(toy: ToyProblem) -> None:
    validated = validate(toy(), "events", events(toy(), {"litres": None, "age": None}))
    assert (validated.good.num_rows, validated.bad.num_rows) == (1, 0)


def test_a_row_set_aside_is_kept_whole(toy: ToyProblem) -> None:
    bad = validate(toy(), "events", events(toy(), {"litres": 9.0}, {"faults": ["age: x"], "raw": '{"age":"old"}'})).bad
    first, second = (json.loads(row) for row in bad["row"].to_pylist())
    assert (first["kettle_id"], first["litres"], first["shelf"]) == ("k0", 9.0, "top")
    assert second == {"age": "old"}


def test_labels_are_nought_or_one(toy: ToyProblem) -> None:
    usual = {"event_time": NOON, "known_time": NOON, "partition": "2024-01-01", "faults": [], "raw": None}
    rows = [{**usual, "kettle_id": f"k{value}", "label": value} for value in (0, 1, 2)]
    validated = validate(toy(), "labels", pa.Table.from_pylist(rows, schema=extracted_schema(toy(), "labels")))
    assert validated.good["label"].to_pylist() == [0, 1]
    assert validated.broken == {"label: not 0 or 1": 1}
    assert statements(validated.good)["confidence"].to_pylist() == [1.0, 1.0]


def test_the_share_is_checked_partition_by_partition(toy: ToyProblem) -> None:
    problem = toy(**{"validation.max_quarantined_share": 0.2})
    good_day = [{}] * 40
    bad_day = [{"partition": "2024-01-02", "litres": 9.0}, {"partition": "2024-01-02"}]
    validated = validate(problem, "events", events(problem, *good_day, *bad_day))
    check_share(problem, "events", validated, ["2024-01-01"], "set/aside")
    with pytest.raises(DataError, match=r"2024-01-02 \(50.0% of 2 rows\).*litres: outside 0..5 \(1 rows\)"):
        check_share(problem, "events", validated, ["2024-01-01", "2024-01-02"], "set/aside")


def test_a_partition_without_events_does_not_pass(toy: ToyProblem) -> None:
    validated = validate(toy(), "events", events(toy(), {}))
    with pytest.raises(DataError, match="no rows in 2024-01-02"):
        check_share(toy(), "events", validated, ["2024-01-01", "2024-01-02"], "set/aside")


def test_rows_that_do_not_add_up_are_refused() -> None:
    check_accounts(10, 7, 3)
    with pytest.raises(DataError, match="10 rows were read, but 7 are good and 2 bad"):
        check_accounts(10, 7, 2)
