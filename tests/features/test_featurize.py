from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.artifacts import table_schema
from pipelines.features.featurize import featurize
from pipelines.problem import Problem

ToyProblem = Callable[..., Problem]
START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def event(number: int, hour: int, shelf: str = "top", cutoff: int | None = None) -> dict[str, Any]:
    cutoff_time = START + HOUR * (hour if cutoff is None else cutoff)
    return {"kettle_id": f"k{number}", "partition": "2024-01-01", "event_time": START + HOUR * hour,
            "known_time": cutoff_time, "cutoff_time": cutoff_time, "shelf": shelf, "litres": 1.0, "age": 3}  # fmt: skip


def statement(number: int, hour: int, known: int, label: int) -> dict[str, Any]:
    return {"kettle_id": f"k{number}", "partition": "2024-01-01", "event_time": START + HOUR * hour,
            "known_time": START + HOUR * known, "label": label, "source": "natural", "confidence": 1.0}  # fmt: skip


def features(
    problem: Problem, targets: list[dict], events: list[dict], labels: list[dict]
) -> dict[str, dict[str, Any]]:
    def as_table(rows: list[dict], name: Any) -> pa.Table:
        return pa.Table.from_pylist(rows, schema=table_schema(problem, name))

    batches = featurize(problem, as_table(targets, "events"), as_table(events, "events"), as_table(labels, "labels"))
    return {row["kettle_id"]: row for batch in batches for row in batch.to_pylist()}


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


def test_a_correction_holds_from_the_moment_it_is_known(toy: ToyProblem) -> None:
    events = [event(1, 0), event(2, 10), event(3, 20)]
    labels = [statement(1, 0, 5, 1), statement(1, 0, 15, 0)]
    found = features(toy(), events, events, labels)
    assert [found[key]["shelf_rate_3d"] for key in ("k1", "k2", "k3")] == [None, 1.0, 0.0]
    assert [found[key]["shelf_count_2d"] for key in ("k1", "k2", "k3")] == [0, 1, 1]


def test_a_group_without_a_name_has_no_history(toy: ToyProblem) -> None:
    nobody = {**event(2, 10), "shelf": None}
    row = features(toy(), [nobody], [event(1, 0), nobody], [statement(1, 0, 1, 1)])["k2"]
    assert (row["shelf_rate_3d"], row["shelf_count_2d"]) == (None, 0)


def test_columns_come_in_the_models_order(toy: ToyProblem) -> None:
    row = features(toy(), [event(1, 0)], [event(1, 0)], [])["k1"]
    assert list(row)[3:] == toy().feature_names


EVENTS = st.lists(
    st.tuples(st.integers(0, 200), st.sampled_from(["top", "bottom"]), st.integers(0, 30)), min_size=1, max_size=25
)
STATEMENTS = st.lists(st.tuples(st.integers(0, 24), st.integers(0, 60), st.integers(0, 1)), max_size=50)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=EVENTS, said=STATEMENTS, target=st.integers(0, 24), data=st.data())
def test_no_row_of_the_future_changes_a_feature(toy: ToyProblem, made: Any, said: Any, target: int, data: Any) -> None:
    """Changing, removing or adding anything learnt at or after a row's cut-off leaves its features as they were."""
    events = [event(n, hour, shelf, hour - lead) for n, (hour, shelf, lead) in enumerate(made)]
    labels = [statement(n, made[n][0], made[n][0] + wait, label) for n, wait, label in said if n < len(made)]
    subject = events[target % len(events)]
    before = features(toy(), [subject], events, labels)

    def is_past(row: dict[str, Any]) -> bool:
        return bool(row["known_time"] < subject["cutoff_time"])

    others = [row for row in events if row is not subject]
    kept_events = [subject, *(row for row in others if is_past(row))]
    kept_labels = [row for row in labels if is_past(row)]
    if data.draw(st.booleans()):
        shelf = data.draw(st.sampled_from(["top", "bottom"]))
        kept_events += [{**row, "shelf": shelf, "litres": 4.0} for row in others if not is_past(row)]
    if data.draw(st.booleans()):
        kept_labels += [{**row, "label": 1 - row["label"]} for row in labels if not is_past(row)]
    assert features(toy(), [subject], kept_events, kept_labels) == before


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=EVENTS, said=STATEMENTS)
def test_history_equals_its_definition_written_out(toy: ToyProblem, made: Any, said: Any) -> None:
    """Against a plain loop: of each past event of the group, the last statement that was known before the cut-off."""
    events = [event(n, hour, shelf, hour - lead) for n, (hour, shelf, lead) in enumerate(made)]
    labels = {(n, wait): statement(n, made[n][0], made[n][0] + wait, label) for n, wait, label in said if n < len(made)}
    found = features(toy(), events, events, list(labels.values()))
    for subject in events:
        values = []
        for other in events:
            if other["shelf"] != subject["shelf"] or not (
                subject["cutoff_time"] - timedelta(days=3) <= other["event_time"] < subject["cutoff_time"]
            ):
                continue
            if not other["known_time"] < subject["cutoff_time"]:
                continue
            said_of = [one for one in labels.values() if one["kettle_id"] == other["kettle_id"]]
            known = [one for one in said_of if one["known_time"] < subject["cutoff_time"]]
            if known:
                values.append(max(known, key=lambda s: s["known_time"])["label"])
        expected = sum(values) / len(values) if values else None
        assert found[subject["kettle_id"]]["shelf_rate_3d"] == expected
