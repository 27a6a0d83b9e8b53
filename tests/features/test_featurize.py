from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from pipelines.artifacts import table_schema
from pipelines.errors import DataError
from pipelines.features.featurize import featurize, featurize_row
from pipelines.problem import Problem

ToyProblem = Callable[..., Problem]
START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def event(number: int, hour: int, shelf: str | None = "top", cutoff: int | None = None, **more: Any) -> dict[str, Any]:
    cutoff_time = START + HOUR * (hour if cutoff is None else cutoff)
    return {
        "kettle_id": f"k{number}",
        "partition": "2024-01-01",
        "event_time": START + HOUR * hour,
        "known_time": cutoff_time,
        "cutoff_time": cutoff_time,
        "statement": 0,
        "superseded_time": None,
        "withdrawn_time": None,
        "shelf": shelf,
        "litres": 1.0,
        "age": 3,
        **more,
    }


def statement(number: int, hour: int, known: int, label: int, **more: Any) -> dict[str, Any]:
    return {
        "kettle_id": f"k{number}",
        "partition": "2024-01-01",
        "event_time": START + HOUR * hour,
        "known_time": START + HOUR * known,
        "label": label,
        "source": "natural",
        "confidence": 1.0,
        "labeler": "",
        "superseded_time": None,
        "withdrawn_time": None,
        **more,
    }


def features(
    problem: Problem, targets: list[dict], events: list[dict], labels: list[dict]
) -> dict[str, dict[str, Any]]:
    def as_table(rows: list[dict], name: Any) -> pa.Table:
        return pa.Table.from_pylist(rows, schema=table_schema(problem, name))

    batches = featurize(problem, as_table(targets, "events"), as_table(events, "events"), as_table(labels, "labels"))
    schema = table_schema(problem, "features")
    found = pa.Table.from_batches([batch.cast(schema) for batch in batches], schema=schema)
    return {row["kettle_id"]: row for row in found.to_pylist()}


def test_history_counts_what_was_known_at_the_cutoff_inside_its_window(toy: ToyProblem) -> None:
    events = [event(1, 0), event(2, 10), event(3, 20, "bottom"), event(4, 60), event(5, 61)]
    labels = [
        statement(1, 0, 5, 1),
        statement(2, 10, 15, 0),
        statement(3, 20, 21, 1),  # another shelf
        statement(4, 60, 90, 1),  # known too late
    ]
    row = features(toy(), [events[4]], events, labels)["k5"]
    assert row["shelf_rate_3d"] == 0.5
    assert row["shelf_count_2d"] == 0, "both lie more than two days back"
    assert (row["shelf"], row["litres"]) == ("top", 1.0)


def test_a_label_known_exactly_at_the_cutoff_does_not_count(toy: ToyProblem) -> None:
    events = [event(1, 0), event(2, 10)]
    assert features(toy(), [events[1]], events, [statement(1, 0, 10, 1)])["k2"]["shelf_count_2d"] == 0
    assert features(toy(), [events[1]], events, [statement(1, 0, 9, 1)])["k2"]["shelf_count_2d"] == 1


def test_an_event_at_the_windows_start_counts_and_one_before_it_does_not(toy: ToyProblem) -> None:
    events = [event(1, 2), event(2, 50), event(3, 51)]
    found = features(toy(), events, events, [statement(1, 2, 3, 1)])
    assert (found["k2"]["shelf_count_2d"], found["k3"]["shelf_count_2d"]) == (1, 0)


def test_a_corrected_label_holds_from_the_moment_it_is_known(toy: ToyProblem) -> None:
    events = [event(1, 0), event(2, 10), event(3, 20)]
    labels = [statement(1, 0, 5, 1), statement(1, 0, 15, 0)]
    found = features(toy(), events, events, labels)
    assert [found[key]["shelf_rate_3d"] for key in ("k1", "k2", "k3")] == [None, 1.0, 0.0]
    assert [found[key]["shelf_count_2d"] for key in ("k1", "k2", "k3")] == [0, 1, 1]


def test_a_corrected_event_counts_in_the_group_that_was_known_at_the_cutoff(toy: ToyProblem) -> None:
    moved = START + 15 * HOUR
    events = [
        event(1, 0, "top", superseded_time=moved),
        event(1, 0, "bottom", known_time=moved, statement=1),
        event(2, 10, "top"),
        event(3, 10, "bottom"),
        event(4, 20, "top"),
        event(5, 20, "bottom"),
    ]
    found = features(toy(), events[2:], events, [statement(1, 0, 5, 1)])
    assert [found[f"k{n}"]["shelf_count_2d"] for n in (2, 3, 4, 5)] == [1, 0, 0, 1]


def test_what_was_withdrawn_counts_no_more(toy: ToyProblem) -> None:
    gone = START + 15 * HOUR
    events = [event(1, 0, withdrawn_time=gone), event(2, 15), event(3, 16)]
    found = features(toy(), events, events, [statement(1, 0, 5, 1)])
    assert (found["k2"]["shelf_count_2d"], found["k3"]["shelf_count_2d"]) == (1, 0)
    taken_back = [statement(1, 0, 5, 1, withdrawn_time=gone)]
    found = features(toy(), events, [event(1, 0), *events[1:]], taken_back)
    assert (found["k2"]["shelf_count_2d"], found["k3"]["shelf_count_2d"]) == (1, 0)


def test_only_truth_counts_and_people_are_believed_first(toy: ToyProblem) -> None:
    events = [event(1, 0), event(2, 10)]
    labels = [
        statement(1, 0, 3, 1, source="hand"),
        statement(1, 0, 5, 0),
        statement(1, 0, 6, 0, source="weak"),
    ]
    assert features(toy(), [events[1]], events, labels)["k2"]["shelf_rate_3d"] == 1
    assert features(toy(), [events[1]], events, labels[2:])["k2"]["shelf_count_2d"] == 0


def test_a_group_without_a_name_has_no_history(toy: ToyProblem) -> None:
    nobody = event(2, 10, None)
    row = features(toy(), [nobody], [event(1, 0), event(3, 0, None), nobody], [statement(3, 0, 1, 1)])["k2"]
    assert (row["shelf_rate_3d"], row["shelf_count_2d"]) == (None, 0)


def test_columns_come_in_the_models_order(toy: ToyProblem) -> None:
    problem = toy(
        **{
            "features.crosses": {"kind": {"of": ["shelf", "age"]}},
            "features.datetime": {"time_of_day": {"part": "hour", "cyclical": True}, "year": {"part": "year"}},
        }
    )
    row = features(problem, [event(1, 0)], [event(1, 0)], [])["k1"]
    assert list(row)[3:] == problem.feature_names
    assert row["kind"] == "top|3"


def test_columns_may_have_any_name(toy: ToyProblem) -> None:
    """Even those that the generated SQL might use for itself."""
    names = ["n", "x", "level", "block", "since", "until", "oldest", "low", "h", "r", "t", "k", "whole", "c"]
    functions = ("mean", "std", "last", "distinct", "time_since")
    problem = toy(
        **{
            "columns": {name: {"type": "integer"} for name in names},
            "key": "s",
            "features.columns": names,
            "features.history": {
                f"{of}_{name}": {"by": names, "of": of, "function": name, "window_days": 1}
                for of in ("label", "x")
                for name in functions
            },
        }
    )
    shared = {key: value for key, value in event(1, 0).items() if key not in ("kettle_id", "shelf", "litres", "age")}
    rows = [{**shared, **dict.fromkeys(names, 7), "s": "k1"}]
    label = {**{key: value for key, value in statement(1, 0, 1, 1).items() if key != "kettle_id"}, "s": "k1"}
    tables = [
        pa.Table.from_pylist(rows, schema=table_schema(problem, "events")),
        pa.Table.from_pylist([label, label], schema=table_schema(problem, "labels")),
    ]
    later = START + 12 * HOUR
    target = {**dict.fromkeys(names, 7), "s": "k2", "event_time": later}
    row = featurize_row(problem, target, *tables)
    assert [row[f"x_{name}"] for name in functions] == [7, None, 7, 1, 0.5]
    assert [row[f"label_{name}"] for name in functions] == [1, None, 1, 1, 0.5]


def test_no_targets_give_no_rows(toy: ToyProblem) -> None:
    assert features(toy(), [], [event(1, 0)], [statement(1, 0, 5, 1)]) == {}


def test_a_window_longer_than_time_itself_holds_everything(toy: ToyProblem) -> None:
    problem = toy(**{"features.history": {"all": {"by": [], "function": "count", "window_days": 10**9}}})
    events = [event(1, 0, "bottom"), event(2, 24 * 3650)]
    assert features(problem, events[1:], events, [statement(1, 0, 5, 1)])["k2"]["all"] == 1


def test_float_sums_neither_lose_what_is_small_nor_depend_on_an_order(toy: ToyProblem) -> None:
    kinds = {name: {"by": [], "of": "litres", "function": name, "window_days": 9} for name in ("sum", "mean", "std")}
    problem = toy(**{"features.history": kinds})
    for litres, total, std in (
        ([1e18, 0.1, -1e18], 0.1, 1e18),
        ([0.1] * 10, 1.0, 0.0),
        ([1e9 + 1, 1e9 + 2, 1e9 + 3], 3e9 + 6, 1.0),
        ([1e-9, 3e-9], 4e-9, 2**0.5 * 1e-9),
    ):
        if max(litres) > 1e13:
            problem = toy(**{"features.history": {name: kinds[name] for name in ("sum", "mean")}})
        events = [event(n, n, litres=value) for n, value in enumerate(litres)]
        row = features(problem, [event(99, 50)], events, [])["k99"]
        assert row["sum"] == pytest.approx(total, rel=1e-12)
        assert row["mean"] == pytest.approx(total / len(litres), rel=1e-12)
        assert row.get("std", std) == pytest.approx(std, rel=1e-9, abs=1e-12)
        problem = toy(**{"features.history": kinds})


@pytest.mark.parametrize(("function", "litres"), [("sum", 1e300), ("sum", 1e38), ("mean", 1e38), ("std", 1e25)])
def test_values_too_large_to_be_added_are_named(toy: ToyProblem, function: str, litres: float) -> None:
    problem = toy(**{"features.history": {"total": {"by": [], "of": "litres", "function": function, "window_days": 9}}})
    with pytest.raises(DataError, match="total: values of 'litres' are too large") as error:
        features(problem, [event(3, 9)], [event(1, 0, litres=litres), event(2, 1, litres=litres)], [])
    assert "features.history.total" in error.value.where


def one(problem: Problem, row: dict[str, Any]) -> dict[str, Any]:
    empty = [table_schema(problem, "events").empty_table(), table_schema(problem, "labels").empty_table()]
    return featurize_row(problem, row, *empty)


def test_one_row_needs_only_what_its_features_are_made_of(toy: ToyProblem) -> None:
    row = one(toy(), {"kettle_id": "k1", "event_time": START, "shelf": "top", "litres": None})
    assert row == {
        "kettle_id": "k1",
        "partition": "2024-01-01",
        "event_time": START,
        "shelf": "top",
        "litres": None,
        "shelf_rate_3d": None,
        "shelf_count_2d": 0.0,
    }


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"litres": "much"}, "litres: not of type double: 'much'"),
        ({"liters": 1.0}, "did you mean 'litres'"),
        ({"event_time": START.replace(tzinfo=None)}, "event_time has no time zone"),
        ({"age": 2**70}, "age: not of type int64"),
        ({"event_time": "noon"}, "event_time: not of type"),
        ({"event_time": None}, "event_time: missing"),
    ],
)
def test_one_row_that_is_wrong_is_refused_by_name(toy: ToyProblem, change: dict[str, Any], what: str) -> None:
    with pytest.raises(DataError, match=what):
        one(toy(), {"kettle_id": "k1", "event_time": START, "shelf": "top", "litres": 1.0, **change})


def test_one_row_that_lacks_a_column_is_refused(toy: ToyProblem) -> None:
    with pytest.raises(DataError, match="lacks litres, shelf"):
        one(toy(), {"kettle_id": "k1", "event_time": START})
