from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import sql
from pipelines.artifacts import table_schema
from pipelines.asof.as_known import holds, label_statements, labels_as_known, labels_of, targets
from pipelines.config import LabelSource
from pipelines.ingest.publish import event_statements, natural_label_statements
from pipelines.problem import Problem
from tests.examples import dear

ToyProblem = Callable[..., Problem]
START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = "2024-01-01"


def at(hour: float) -> datetime:
    return START + timedelta(hours=hour)


def hours(moment: datetime | None) -> float:
    return float("inf") if moment is None else (moment - START) / timedelta(hours=1)


def said(
    key: str,
    known: int,
    label: int,
    source: str = "natural",
    superseded: int | None = None,
    withdrawn: int | None = None,
    confidence: float = 1.0,
) -> dict[str, Any]:
    return {
        "kettle_id": key,
        "partition": DAY,
        "event_time": START,
        "known_time": at(known),
        "label": label,
        "source": source,
        "confidence": confidence,
        "labeler": "somebody",
        "superseded_time": None if superseded is None else at(superseded),
        "withdrawn_time": None if withdrawn is None else at(withdrawn),
    }


def taken(problem: Problem, labels: list[dict[str, Any]], *sources: LabelSource) -> list[tuple[Any, ...]]:
    """(label, source, known, superseded) of `label_statements`, in order, times in hours."""
    query = f"SELECT * FROM ({label_statements(problem, sources or ('hand', 'natural'))}) ORDER BY ALL"
    table = pa.Table.from_pylist(labels, schema=table_schema(problem, "labels"))
    rows = sql.query(query, {"labels": table}).sort_by("known_time").to_pylist()
    return [(one["label"], one["source"], hours(one["known_time"]), hours(one["superseded_time"])) for one in rows]


NEVER = float("inf")


def test_one_statement_is_taken_as_it_is(toy: ToyProblem) -> None:
    assert taken(toy(), [said("a", 1, 1)]) == [(1, "natural", 1, NEVER)]
    assert taken(toy(), [said("a", 1, 1, "weak")]) == [], "not a source that was asked for"


@pytest.mark.parametrize("key", ["h", "until", "rank", "run", "order"])
def test_the_key_may_have_any_name(toy: ToyProblem, key: str) -> None:
    problem = toy(key=key)
    labels = pa.Table.from_pylist(
        [{key: "a", **said("a", 1, 1)}, {key: "a", **said("a", 2, 0)}], schema=table_schema(problem, "labels")
    )
    found = sql.query(labels_as_known(problem), {"labels": labels}, {"as_of": at(9)}).to_pylist()
    assert [(one[key], one["label"]) for one in found] == [("a", 0)]


def test_a_newer_statement_replaces_an_older_one_of_its_source(toy: ToyProblem) -> None:
    assert taken(toy(), [said("a", 1, 1), said("a", 5, 0)]) == [(1, "natural", 1, 5), (0, "natural", 5, NEVER)]


def test_who_is_trusted_more_stays_in_front(toy: ToyProblem) -> None:
    labels = [said("a", 1, 1), said("a", 5, 0, "hand"), said("a", 9, 1)]
    assert taken(toy(), labels) == [(1, "natural", 1, 5), (0, "hand", 5, NEVER)]
    assert taken(toy(), labels, "natural", "hand")[-1] == (1, "natural", 9, NEVER)


def test_what_stood_behind_comes_again_when_the_trusted_statement_is_taken_back(toy: ToyProblem) -> None:
    labels = [said("a", 1, 1), said("a", 5, 0, "hand", withdrawn=9)]
    assert taken(toy(), labels) == [(1, "natural", 1, 5), (0, "hand", 5, NEVER), (1, "natural", 9, NEVER)]
    labels[1] = said("a", 0, 0, "hand", withdrawn=1)
    assert taken(toy(), labels)[-1] == (1, "natural", 1, NEVER)


def test_what_holds_holds_from_after_it_is_known_to_the_moment_that_ends_it(toy: ToyProblem) -> None:
    labels = pa.Table.from_pylist([said("a", 1, 1, superseded=3)], schema=table_schema(toy(), "labels"))
    held = [
        sql.query(labels_as_known(toy()), {"labels": labels}, {"as_of": at(hour)}).num_rows for hour in (0, 1, 2, 3, 4)
    ]
    assert held == [0, 0, 1, 1, 0]


SAID = st.lists(
    st.tuples(
        st.sampled_from("abcdef"),
        st.integers(0, 10),
        st.integers(0, 1),
        st.sampled_from(["natural", "hand", "weak"]),
        st.none() | st.integers(1, 6),
        st.none() | st.integers(1, 6),
        st.sampled_from([0.5, 1.0]),
    ),
    max_size=30,
    unique_by=lambda made: (made[0], made[1], made[3]),
)
SOURCES = st.permutations(["natural", "hand", "weak"]).flatmap(
    lambda order: st.integers(1, 3).map(lambda count: order[:count])
)


@settings(max_examples=dear(40))
@given(made=SAID, sources=SOURCES)
def test_the_label_at_any_moment_is_the_best_of_what_holds_then(toy: ToyProblem, made: Any, sources: Any) -> None:
    """Against a loop: of what holds, the most trusted source; of that the newest. And no row of it is cut in two."""
    labels = [
        said(key, known, label, source, *(None if wait is None else known + wait for wait in ends), confidence)
        for key, known, label, source, *ends, confidence in made
    ]
    moments = pa.table({"t": pa.array([at(hour) for hour in range(20)], pa.timestamp("us", "UTC"))})
    found = sql.query(
        f"SELECT t, s.* FROM moments, ({label_statements(toy(), sources)}) AS s WHERE {holds('t', 's.')}",
        {"labels": pa.Table.from_pylist(labels, schema=table_schema(toy(), "labels")), "moments": moments},
    ).to_pylist()
    wanted = {
        (hour, key): best for hour in range(20) for key in "abcdef" if (best := best_of(labels, key, hour, sources))
    }
    assert len(found) == len(wanted), "at most one holds"
    for row in found:
        best = wanted[hours(row["t"]), row["kettle_id"]]
        assert (row["label"], row["source"], row["confidence"]) == (best["label"], best["source"], best["confidence"])
        assert row["withdrawn_time"] == best["withdrawn_time"]
        assert wanted.get((hours(row["known_time"]), row["kettle_id"])) is not best, "known since it was taken"


def best_of(labels: list[dict[str, Any]], key: str, hour: int, sources: list[str]) -> dict[str, Any] | None:
    holding = [
        row
        for row in labels
        if row["kettle_id"] == key
        and row["source"] in sources
        and hours(row["known_time"]) < hour <= min(hours(row["superseded_time"]), hours(row["withdrawn_time"]))
    ]
    return max(
        holding,
        key=lambda row: (-sources.index(row["source"]), row["known_time"], row["confidence"], row["label"]),
        default=None,
    )


# What was known stays known ---------------------------------------------------------------------------------

ROWS = st.tuples(
    st.sampled_from("abcdef"),
    st.integers(-4, 5),
    st.sampled_from([1.0, 2.0, None]),
    st.sampled_from([5, 10, 20]),
)
DELIVERIES = st.lists(
    st.tuples(st.integers(0, 6), st.lists(ROWS, max_size=14, unique_by=lambda made: (made[0], max(made[1], -1)))),
    min_size=2,
    max_size=4,
)


@settings(max_examples=dear(20))
@given(made=DELIVERIES)
def test_what_is_learnt_later_changes_nothing_that_was_known(toy: ToyProblem, made: Any) -> None:
    """Publish deliveries as time goes on; after each, what was known at every earlier moment is what it was.

    Sources rewrite silently (the known_time stays) or date what they say after the delivery before.
    """
    problem = toy()
    events, labels = (table_schema(problem, name).empty_table() for name in ("events", "labels"))
    now, remembered = 4, {}
    for wait, rows in made:
        before, now = now, now + wait
        delivered = [
            {
                "kettle_id": key,
                "partition": DAY,
                "event_time": at(22),
                "cutoff_time": at(cutoff),
                "shelf": "top",
                "litres": litres,
                "age": 1,
                "known_time": at(0 if when < 0 else before + when),
                "label": int(litres == 1),
            }
            for key, when, litres, cutoff in [("z", -1, 1.0, 10), *rows]  # no partition is ingested empty
        ]
        both = [pa.Table.from_pylist(delivered, schema=schema_of(problem, name)) for name in ("events", "labels")]
        events = event_statements(problem, events, both[0], at(now)).read_all()
        labels = natural_label_statements(problem, labels, both[1], at(now), ingested=[DAY]).read_all()
        known = as_known(problem, events, labels, now)
        assert {moment: known[moment] for moment in remembered} == remembered
        for (what, hour), found in known.items():
            assert len({row["kettle_id"] for row in found}) == len(found), f"{what}: one an event"
            if what == "targets":
                assert found == predicted_from(events.to_pylist(), hour)
        remembered = known


def schema_of(problem: Problem, name: Any) -> pa.Schema:
    later = ("statement", "superseded_time", "withdrawn_time", "source", "confidence", "labeler")
    return pa.schema([field for field in table_schema(problem, name) if field.name not in later])


def as_known(problem: Problem, events: pa.Table, labels: pa.Table, now: int) -> dict[tuple[str, int], list[Any]]:
    """(what, hour) -> rows, for every hour up to `now`: what a run at that hour read."""
    tables = {
        "events": events,
        "labels": labels,
        "hours": pa.table({"hour": range(now + 1), "t": [at(hour) for hour in range(now + 1)]}),
    }
    rest = "EXCLUDE (t, superseded_time, withdrawn_time)"
    queries = {
        "events": f"SELECT * {rest} FROM hours, events WHERE {holds('t')}",
        "labels": f"SELECT * {rest} FROM hours, ({label_statements(problem)}) WHERE {holds('t')}",
    }
    found: dict[tuple[str, int], list[Any]] = {(what, hour): [] for what in queries for hour in range(now + 1)}
    for what, query in queries.items():
        for row in sql.query(f"{query} ORDER BY ALL", tables).to_pylist():
            found[what, row.pop("hour")].append(row)
    for hour in range(now + 1):
        rows = targets(events, at(hour)).drop_columns(["superseded_time", "withdrawn_time"])
        found["targets", hour] = rows.sort_by("kettle_id").to_pylist()
    return found


def predicted_from(statements: list[dict[str, Any]], hour: int) -> list[dict[str, Any]]:
    """Of each event, as known then: its first statement, or the last of those that came before its cut-off."""
    known = [row for row in statements if hours(row["known_time"]) < hour <= hours(row["withdrawn_time"])]
    found = {}
    for row in sorted(known, key=lambda row: row["known_time"]):
        chosen = found.get(row["kettle_id"])
        if chosen is None or row["known_time"] <= chosen["cutoff_time"]:
            found[row["kettle_id"]] = row
    closing = ("superseded_time", "withdrawn_time")
    rows = [{name: value for name, value in row.items() if name not in closing} for row in found.values()]
    return sorted(rows, key=lambda row: row["kettle_id"])


def test_a_label_is_of_the_event_of_its_key_and_time_and_a_stray_of_the_only_one(toy: ToyProblem) -> None:
    def about(key: str, happens: int, label: int) -> dict[str, Any]:
        return said(key, happens + 1, label) | {"event_time": at(happens)}

    labels = [
        about("again", 1, 0),
        about("again", 30, 1),
        about("moved", 5, 1),
        about("twice", 7, 1),
        about("two", 2, 1),
    ]
    rows = [("again", 1), ("again", 30), ("moved", 2), ("twice", 6), ("twice", 8), ("two", 2), ("none", 3)]
    events = pa.table({"kettle_id": [key for key, _ in rows], "event_time": [at(happens) for _, happens in rows]})
    known = f"WITH known AS ({labels_as_known(toy())}) "
    tables = {"labels": pa.Table.from_pylist(labels, schema=table_schema(toy(), "labels")), "events": events}

    def found(strays: str) -> list[tuple[Any, ...]]:
        made = sql.query(known + labels_of(toy(), "events", strays), tables, {"as_of": at(99)}).to_pylist()
        return sorted((one["kettle_id"], hours(one["event_time"]), one["label"]) for one in made)

    own = [("again", 1, 0), ("again", 30, 1), ("two", 2, 1)]
    assert found("true") == sorted([*own, ("moved", 2, 1)]), "of two events of a key neither has another's label"
    assert found("false") == own
