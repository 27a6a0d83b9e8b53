from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import DataError
from pipelines.ingest.batch import (
    BatchRule,
    Refusal,
    batch_refusals,
    batch_rules,
    check_refusals,
    check_sources,
    reasons,
)
from pipelines.ingest.shape import shape_refusals
from pipelines.ingest.validate import Summary
from pipelines.problem import Problem

ToyProblem = Callable[..., Problem]


def counted(
    *partitions: dict[str, Any], query: Any = "events", broken: dict[str, dict[str, int]] | None = None
) -> Summary:
    usual = {
        "rows": 100,
        "bad": 0,
        "newest": None,
        "null_share_litres": 0.0,
        "null_share_age": 0.0,
        "null_share_shelf": 0.0,
    }
    rows = [{**usual, "partition": f"2024-01-{n:02d}", **one} for n, one in enumerate(partitions, start=1)]
    schema = pa.schema(
        [
            ("partition", pa.string()),
            ("rows", pa.int64()),
            ("bad", pa.int64()),
            ("newest", pa.timestamp("us", "UTC")),
            *((f"null_share_{name}", pa.float64()) for name in ("litres", "age", "shelf")),
        ]
    )
    return Summary(query, pa.Table.from_pylist(rows, schema), broken or {})


def told(problem: Problem, summary: Summary, trailing: list[int] | None = None) -> dict[str, list[str]]:
    """All that is held against each partition."""
    return reasons(batch_refusals(problem, summary, batch_rules(problem, summary, trailing or []), "set/aside"))


def failed(problem: Problem, summary: Summary, trailing: list[int] | None = None) -> dict[str, list[str]]:
    return {one.name: one.failed for one in batch_rules(problem, summary, trailing or []) if one.failed}


def test_the_share_is_checked_partition_by_partition(toy: ToyProblem) -> None:
    problem = toy(**{"validation.max_quarantined_share": 0.2})
    broken = {"litres: outside 0..5": {"2024-01-01": 20, "2024-01-02": 1}, "shelf: missing": {"2024-01-01": 3}}
    summary = counted({"bad": 20}, {"rows": 2, "bad": 1}, broken=broken)
    (refusal,) = batch_refusals(problem, summary, batch_rules(problem, summary, []), "set/aside")
    assert (refusal.partition, refusal.where) == ("2024-01-02", "set/aside")
    assert refusal.reason == (
        "too many bad events (50.0% of 2 rows): at most 20.0% may be set aside. "
        "Rules broken: litres: outside 0..5 (1 rows)"
    ), "those of this partition"
    fine = counted({"bad": 20})
    assert batch_refusals(problem, fine, checked := batch_rules(problem, fine, []), "set/aside") == []
    assert [one.name for one in checked] == ["rows", "rows set aside"]


def test_a_partition_without_events_does_not_pass_and_one_without_labels_does(toy: ToyProblem) -> None:
    strict = toy(**{"validation.volume": {}, "validation.max_age_days": 1})
    summary = counted({"newest": datetime(2024, 1, 1, 23, tzinfo=UTC)}, {"rows": 0})
    assert told(strict, summary, [100]) == {"2024-01-02": ["no rows"]}
    refusals = batch_refusals(strict, summary, batch_rules(strict, summary, [100]), "set/aside")
    with pytest.raises(DataError, match=r"^2024-01-02: no rows\n") as caught:
        check_refusals(strict, ["2024-01-02"], refusals)
    assert caught.value.where.endswith("events.sql")
    labels = counted({"rows": 0}, query="labels")
    assert failed(strict, labels) == {}


def test_a_refusal_leads_to_what_makes_the_query(toy: ToyProblem) -> None:
    columns = {"kettle_id": "string", "boiled_at": "timestamp", "shelf": "string", "litres": "float", "age": "integer"}
    source = {"path": "kettles.csv", "columns": columns}
    written_out = toy(sources={"kettles": source}, time="boiled_at")
    summary = counted({"rows": 0})
    (refusal,) = batch_refusals(written_out, summary, batch_rules(written_out, summary, [100]), "set/aside")
    assert refusal.where == f"{written_out.folder / 'problem.yaml'}, time", "there is no events.sql"
    odd = BatchRule("litres: other values", {"2024-01-01": 2.0}, max=1.0, details={"2024-01-01": "far"})
    (shape,) = shape_refusals(written_out, "events", [odd])
    assert shape.where == refusal.where


def test_missing_values_are_bounded_by_partition(toy: ToyProblem) -> None:
    problem = toy(**{"columns.litres.max_null_share": 0.1})
    summary = counted({"null_share_litres": 0.1}, {"null_share_litres": 0.11, "null_share_age": 1.0})
    assert failed(problem, summary) == {"litres: share of missing values": ["2024-01-02"]}
    assert told(problem, summary) == {"2024-01-02": ["litres: share of missing values: at most 0.1, but it has 0.11"]}


def test_the_newest_event_lies_near_the_end_of_its_partition_in_the_problems_time_zone(toy: ToyProblem) -> None:
    problem = toy(**{"validation.max_age_days": 0.5, "partitions.timezone": "America/New_York"})
    newest = [datetime(2024, 1, 1, 17, tzinfo=UTC), datetime(2024, 1, 2, 16, 59, tzinfo=UTC), None]
    summary = counted(*({"newest": one} for one in newest))
    assert failed(problem, summary) == {"age of the newest event in days": ["2024-01-02", "2024-01-03"]}


def test_the_volume_is_held_against_the_partitions_before(toy: ToyProblem) -> None:
    problem = toy(**{"validation.volume": {"trailing_partitions": 2, "min_ratio": 0.5, "max_ratio": 2}})
    name = "rows over the mean of the partitions before"
    assert failed(problem, counted({"rows": 49}), [1000, 100, 100]) == {name: ["2024-01-01"]}
    assert failed(problem, counted({"rows": 50}), [1000, 100, 100]) == {}
    assert failed(problem, counted({"rows": 201}), [100]) == {name: ["2024-01-01"]}
    assert failed(problem, counted({"rows": 5})) == {}, "nothing came before"
    assert failed(problem, counted({"rows": 100}, {"rows": 300}, {"rows": 100})) == {name: ["2024-01-02"]}
    assert failed(problem, counted({"rows": 9000}, {"rows": 100}), [100]) == {name: ["2024-01-01"]}, "it is no measure"
    assert failed(problem, counted({"rows": 100, "bad": 60}), [100])[name] == ["2024-01-01"], "good rows count"


def test_every_broken_rule_is_told(toy: ToyProblem) -> None:
    problem = toy(**{"columns.litres.max_null_share": 0.1, "validation.volume": {}})
    summary = counted({"bad": 90, "null_share_litres": 0.5})
    (found,) = told(problem, summary, [100]).values()
    assert [reason.split(":")[0] for reason in found] == [
        "too many bad events (90.0% of 100 rows)",
        "litres",
        "rows over the mean of the partitions before",
    ]


def test_a_run_goes_on_without_its_refused_partitions_unless_they_are_too_many(toy: ToyProblem) -> None:
    keys = [f"2024-01-{day:02d}" for day in range(1, 5)]
    refused = [
        Refusal("2024-01-03", "labels", "x", "half of them", "labels.sql", "mend the labels"),
        Refusal("2024-01-01", "events", "y", "no rows", "events.sql", "look"),
        Refusal("2024-01-01", "events", "z", "late", "events.sql", "look"),
    ]
    assert reasons(refused) == {"2024-01-01": ["no rows", "late"], "2024-01-03": ["labels: half of them"]}
    assert check_refusals(toy(), keys, []) is None
    assert check_refusals(toy(), keys, refused) is None
    for problem, few in ((toy(), keys[:3]), (toy(**{"validation.max_refused_share": 0.4}), keys)):
        with pytest.raises(DataError) as caught:
            check_refusals(problem, few, refused)
        _, *lines = caught.value.what.splitlines()
        assert lines == ["2024-01-01: no rows; late", "2024-01-03: labels: half of them"]
        assert "nothing was published: mend the labels; look; then" in caught.value.cure
    every = toy(**{"validation.max_refused_share": 1.0})
    with pytest.raises(DataError, match=r"^2024-01-01: no rows; late\n"):
        check_refusals(every, ["2024-01-01"], refused[1:])


def test_a_source_of_which_too_much_cannot_be_read_stops_the_run(toy: ToyProblem) -> None:
    problem = toy(**{"validation.max_quarantined_share": 0.1})
    counts = {"a": {"rows": 100, "rejected": 10}, "b": {"rows": 0, "rejected": 0}}
    assert check_sources(problem, counts, "set/aside") is None
    with pytest.raises(DataError, match=r"11 of 100 rows of c; at most 10.0% may be set aside") as caught:
        check_sources(problem, {**counts, "c": {"rows": 100, "rejected": 11}}, "set/aside")
    assert caught.value.where == "set/aside"


@given(st.lists(st.one_of(st.none(), st.floats(-10, 10)), max_size=5), st.floats(-10, 10), st.booleans())
def test_a_rule_fails_exactly_where_its_bounds_are_left(values: list, bound: float, is_required: bool) -> None:
    observed = {str(n): value for n, value in enumerate(values)}
    rule = BatchRule("x", observed, min=bound, is_required=is_required)
    assert rule.failed == [key for key, value in observed.items() if (is_required if value is None else value < bound)]


def test_partitions_that_may_be_empty_break_no_rule_between_first_and_last(toy: ToyProblem) -> None:
    summary = counted({"rows": 100}, {"rows": 0})
    for last, broken in (("2024-01-02", []), ("2024-01-01", ["2024-01-02"])):
        problem = toy(**{"partitions.last": last, "validation.volume": {}})
        rules = batch_rules(problem, summary, [], may_be_empty=True)
        assert [one.partition for one in batch_refusals(problem, summary, rules, "set/aside")] == broken


def test_thousands_of_partitions_without_rows_are_told_as_a_range(toy: ToyProblem) -> None:
    problem = toy()
    days = problem.partitions.between("2024-01-01", "2028-06-05")
    summary = counted(*({"rows": 0, "partition": day} for day in days[:-1]), {"rows": 5, "partition": days[-1]})
    refusals = batch_refusals(problem, summary, batch_rules(problem, summary, []), "set/aside")
    with pytest.raises(DataError) as caught:
        check_refusals(problem, days, refusals)
    assert caught.value.what.endswith("\n1,617 from 2024-01-01 to 2028-06-04: no rows")
    assert "validation.allow_empty: true" in caught.value.cure
    assert "mend the rule" not in caught.value.cure, "there is none to mend"
