"""Every function, over random statements, against its definition written out as plain loops."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.artifacts import table_schema
from pipelines.config import History
from pipelines.features.featurize import featurize, featurize_row
from pipelines.problem import Problem
from tests.examples import dear

ToyProblem = Callable[..., Problem]
START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
FUNCTIONS = ("mean", "sum", "count", "min", "max", "std", "last", "distinct", "time_since")
COLUMNS = ("shelf", "litres", "age", "hot")


TRUST = ("hand", "natural")


def holds(row: dict[str, Any], moment: datetime) -> bool:
    ends = [row[name] for name in ("superseded_time", "withdrawn_time") if row[name] is not None]
    return bool(row["known_time"] < moment and all(end >= moment for end in ends))


def label_of(key: str, labels: Iterable[dict[str, Any]], moment: datetime) -> dict[str, Any] | None:
    found = [row for row in labels if row["kettle_id"] == key and row["source"] in TRUST and holds(row, moment)]
    return max(
        found,
        key=lambda row: (
            -TRUST.index(row["source"]),
            row["known_time"],
            row["confidence"],
            row["label"],
            row["event_time"],
        ),
        default=None,
    )


def naive_history(
    problem: Problem, feature: History, target: dict[str, Any], events: list[dict[str, Any]], labels: list[dict]
) -> float | None:
    moment = target["cutoff_time"]
    counted: list[tuple[datetime, str, Any]] = []
    for event in events:
        if not holds(event, moment) or any(event[n] is None or event[n] != target[n] for n in feature.by):
            continue
        times, value = [event["event_time"]], event.get(feature.of)
        if feature.of == "label":
            said = label_of(event["kettle_id"], labels, moment)
            if said is None:
                continue
            times, value = [event["event_time"], said["event_time"]], said["label"]
        if value is None or not all(moment - timedelta(days=feature.window_days) <= t < moment for t in times):
            continue
        counted.append((event["event_time"], event["kettle_id"], value))
    values = [value for _, _, value in counted]
    match feature.function:
        case "count":
            return len(values)
        case "distinct":
            return len(set(values))
        case "sum":
            return sum(values)
        case "std":
            return statistics.stdev([float(value) for value in values]) if len(values) > 1 else None
    if not values:
        return None
    newest = max(counted)
    return float(
        {
            "mean": lambda: sum(values) / len(values),
            "min": lambda: min(values),
            "max": lambda: max(values),
            "last": lambda: newest[2],
            "time_since": lambda: (moment - newest[0]) / timedelta(days=1),
        }[feature.function]()
    )


def moment(hour: int) -> datetime:
    return START + HOUR * hour


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Statements about a few events and their labels: corrected, withdrawn, late, early, and with holes."""
    hours = st.integers(0, 100)
    events, labels = [], []
    for number in range(draw(st.integers(1, 10))):
        chain = sorted(draw(st.sets(hours, min_size=1, max_size=3)))
        gone = draw(st.none() | hours)
        happens = draw(hours)
        cutoff = START + HOUR * draw(hours)
        for place, known in enumerate(chain):
            events.append(
                {
                    "kettle_id": f"k{number}",
                    "partition": "2024-01-01",
                    "event_time": START + HOUR * draw(st.just(happens) | hours),
                    "known_time": START + HOUR * known,
                    "cutoff_time": cutoff,
                    "statement": place,
                    "superseded_time": START + HOUR * chain[place + 1] if place + 1 < len(chain) else None,
                    "withdrawn_time": None if gone is None or gone <= chain[-1] else START + HOUR * gone,
                    "shelf": draw(st.sampled_from(["top", "bottom", None])),
                    "litres": draw(st.none() | st.integers(-8, 8).map(lambda n: n / 4)),
                    "age": draw(st.none() | st.integers(0, 3)),
                    "hot": draw(st.none() | st.booleans()),
                }
            )
        for source in draw(st.lists(st.sampled_from(["natural", "natural", "hand", "weak"]), max_size=3)):
            about = draw(st.just(happens) | hours)
            known = max(about, draw(hours))  # ingest refuses a label that is known before its event
            labels.append(
                {
                    "kettle_id": f"k{number}",
                    "partition": moment(known).date().isoformat(),
                    "event_time": moment(about),
                    "known_time": moment(known),
                    "label": draw(st.integers(0, 1)),
                    "source": source,
                    "confidence": 1.0,
                    "labeler": "",
                    "superseded_time": draw(st.none() | st.integers(known + 1, known + 50).map(moment)),
                    "withdrawn_time": draw(st.none() | st.integers(known + 1, known + 50).map(moment)),
                }
            )
    return events, labels


@st.composite
def declared(draw: st.DrawFn) -> dict[str, Any]:
    """All functions of the label and of each column that has them, by random groups, over random windows."""
    found = {}
    for of, functions in (
        ("label", FUNCTIONS),
        ("litres", FUNCTIONS),
        ("age", FUNCTIONS),
        ("hot", FUNCTIONS),
        ("shelf", ("count", "distinct", "time_since")),
    ):
        for function in draw(st.sets(st.sampled_from(functions), max_size=2)):
            by = sorted(draw(st.sets(st.sampled_from(COLUMNS), max_size=2)))
            found[f"{of}_{function}"] = {
                "by": by,
                "of": of,
                "function": function,
                "window_days": draw(st.integers(1, 4)),
            }
    return found


def problem_with(toy: ToyProblem, history: dict[str, Any]) -> Problem:
    return toy(**{"features.history": history, "columns.hot": {"type": "boolean"}})


def computed(problem: Problem, targets: list[dict], events: list[dict], labels: list[dict]) -> dict[str, dict]:
    tables = [
        pa.Table.from_pylist(rows, schema=table_schema(problem, name))
        for rows, name in ((targets, "events"), (events, "events"), (labels, "labels"))
    ]
    return {row["kettle_id"]: row for batch in featurize(problem, *tables) for row in batch.to_pylist()}


def first_statements(events: list[dict]) -> list[dict]:
    return [row for row in events if row["statement"] == 0]


@pytest.mark.parametrize("of", ["label", "litres", "age", "hot", "shelf"])
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=worlds(), by=st.sets(st.sampled_from(COLUMNS), max_size=2).map(sorted), window=st.integers(1, 4))
def test_every_function_equals_its_definition(toy: ToyProblem, of: str, world: Any, by: list[str], window: int) -> None:
    events, labels = world
    functions = ("count", "distinct", "time_since") if of == "shelf" else FUNCTIONS
    made = {f"f_{name}": {"by": by, "of": of, "function": name, "window_days": window} for name in functions}
    problem = problem_with(toy, made)
    targets = first_statements(events)
    found = computed(problem, targets, events, labels)
    for target in targets:
        for name, feature in problem.features.history.items():
            expected = naive_history(problem, feature, target, events, labels)
            exact = feature.function != "std"
            assert found[target["kettle_id"]][name] == (expected if exact else pytest.approx(expected, abs=1e-12))


@settings(max_examples=dear(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=worlds(), history=declared(), data=st.data())
def test_no_row_of_the_future_changes_a_feature(toy: ToyProblem, world: Any, history: Any, data: Any) -> None:
    """Whatever is learnt at or after a cut-off - events, corrections, withdrawals, labels - changes nothing."""
    events, labels = world
    problem = problem_with(toy, history)
    target = data.draw(st.sampled_from(first_statements(events)))
    cutoff = target["cutoff_time"]

    def as_known(rows: list[dict]) -> list[dict]:
        ends = ("superseded_time", "withdrawn_time")
        return [
            row | {name: row[name] if row[name] is None or row[name] < cutoff else None for name in ends}
            for row in rows
            if row["known_time"] < cutoff
        ]

    before = computed(problem, [target], as_known(events), as_known(labels))
    assert computed(problem, [target], events, labels) == before


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=worlds(), history=declared(), data=st.data())
def test_a_row_alone_equals_the_same_row_among_others(toy: ToyProblem, world: Any, history: Any, data: Any) -> None:
    """To the last bit: what else is asked for has no part in a feature."""
    events, labels = world
    problem = problem_with(toy, history)
    targets = first_statements(events)
    target = data.draw(st.sampled_from(targets))
    tables = [
        pa.Table.from_pylist(rows, schema=table_schema(problem, name))
        for rows, name in ((events, "events"), (labels, "labels"))
    ]
    alone = featurize_row(problem, target, *tables)
    assert alone == computed(problem, targets, events, labels)[target["kettle_id"]]


OF_NUMBERS = {
    "task": "regression",
    "training.select_by": "rmse",
    "gate.limits": {"rmse": {"max": 9}},
    "gate.slices": None,
    "gate.gain_over_baselines": {"rmse": 0},
    "gate.gain_over_champion": {"rmse": 0},
}
OF_CLASSES = {"task": "multiclass", "labels.classes": ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("task", "functions", "values"),
    [
        (OF_NUMBERS, FUNCTIONS, [-2.75, 0.25, 1.5, 1e6 + 0.125]),
        (OF_CLASSES, ("count", "distinct", "time_since"), ["a", "b", "c"]),
    ],
)
@settings(max_examples=dear(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=worlds(), by=st.sets(st.sampled_from(COLUMNS), max_size=2).map(sorted), window=st.integers(1, 4))
def test_labels_of_other_tasks_have_a_history_too(
    toy: ToyProblem, task: Any, functions: tuple[str, ...], values: list[Any], world: Any, by: list[str], window: int
) -> None:
    events, labels = world
    labels = [{**row, "label": values[(3 * n + row["label"]) % len(values)]} for n, row in enumerate(labels)]
    made = {f"f_{name}": {"by": by, "function": name, "window_days": window} for name in functions}
    problem = toy(**{"features.history": made, "columns.hot": {"type": "boolean"}, **task})
    targets = first_statements(events)
    found = computed(problem, targets, events, labels)
    for target in targets:
        for name, feature in problem.features.history.items():
            expected = naive_history(problem, feature, target, events, labels)
            exact = feature.function != "std"
            assert found[target["kettle_id"]][name] == (expected if exact else pytest.approx(expected, abs=1e-6))


@pytest.mark.parametrize(
    ("window", "source", "known", "expected"),
    [
        (4, "natural", 2, 1.0),
        (1, "hand", 2, None),  # the first event lies before all windows, and its label is read all the same
        (1, "natural", 30, None),
    ],
)
def test_a_label_counts_for_the_event_of_its_own_time_where_a_key_comes_again(
    toy: ToyProblem, window: int, source: str, known: int, expected: float | None
) -> None:
    history = {"rate": {"by": ["shelf"], "of": "label", "function": "mean", "window_days": window}}
    problem = toy(**{"features.history": history})

    def event(hour: int, shelf: str, key: str = "again") -> dict[str, Any]:
        time = START + HOUR * hour
        return {
            "kettle_id": key,
            "partition": time.date().isoformat(),
            "event_time": time,
            "known_time": time,
            "cutoff_time": time,
            "statement": 0,
            "superseded_time": None,
            "withdrawn_time": None,
            "shelf": shelf,
            "litres": 1.0,
            "age": 1,
        }

    def said(hour: int, label: int, source: str, known: int) -> dict[str, Any]:
        return {
            "kettle_id": "again",
            "partition": moment(known).date().isoformat(),
            "event_time": moment(hour),
            "known_time": moment(known),
            "label": label,
            "source": source,
            "confidence": 1.0,
            "labeler": "",
            "superseded_time": None,
            "withdrawn_time": None,
        }

    asked = [event(48, "top", "a"), event(48, "bottom", "b")]
    schema = table_schema(problem, "events")
    events = pa.Table.from_pylist([event(1, "top"), event(25, "bottom"), *asked], schema=schema)
    labels = pa.Table.from_pylist(
        [said(1, 1, source, known), said(25, 0, "natural", 26)], schema=table_schema(problem, "labels")
    )
    targets = pa.Table.from_pylist(asked, schema=schema)
    made = pa.Table.from_batches(featurize(problem, targets, events, labels)).to_pylist()
    assert {row["kettle_id"]: row["rate"] for row in made} == {"a": expected, "b": 0.0}


@pytest.mark.parametrize("hours", [(0, 1), (1, 0)])
def test_of_statements_that_are_alike_but_for_their_time_the_newest_counts(
    toy: ToyProblem, hours: tuple[int, int]
) -> None:
    """Whichever is read first: what comes out has to be the same each time."""
    history = {"labels": {"by": [], "function": "count", "window_days": 1}}
    problem = toy(**{"features.history": history, "columns.hot": {"type": "boolean"}, **OF_CLASSES})
    ends = {"superseded_time": None, "withdrawn_time": None}
    row = {
        "partition": "2024-01-01",
        "known_time": START,
        "shelf": "top",
        "litres": None,
        "age": None,
        "hot": None,
        **ends,
    }
    event = {"kettle_id": "k0", "event_time": START + HOUR, "cutoff_time": START, **row}
    target = {"kettle_id": "k1", "event_time": START, "cutoff_time": START + 25 * HOUR, **row, "statement": 0}
    events = [
        {**event, "statement": 0, "superseded_time": START + HOUR},
        {**event, "statement": 1, "known_time": START + HOUR},
        target,
    ]
    said = {"kettle_id": "k0", "partition": "2024-01-01", "known_time": START + HOUR, "label": "a", "source": "natural"}
    labels = [{**said, "event_time": START + HOUR * hour, "confidence": 1.0, "labeler": "", **ends} for hour in hours]
    assert computed(problem, first_statements(events), events, labels)["k1"]["labels"] == 1


def test_a_label_that_is_older_than_the_window_stands_before_what_was_said_earlier(toy: ToyProblem) -> None:
    """A correction that moves the event out of the window takes its earlier label along."""
    history = {"labels": {"by": [], "function": "count", "window_days": 2}}
    problem = toy(**{"features.history": history, "columns.hot": {"type": "boolean"}})
    ends = {"superseded_time": None, "withdrawn_time": None}
    values = {"partition": "2024-01-01", "shelf": "top", "litres": None, "age": None, "hot": None, "statement": 0}

    def event(key: str, hour: int, cutoff: int) -> dict[str, Any]:
        times = {"event_time": moment(hour), "known_time": moment(hour), "cutoff_time": moment(cutoff)}
        return {"kettle_id": key, **times, **values, **ends}

    def said(hour: int, known: int) -> dict[str, Any]:
        about = {"kettle_id": "k0", "partition": "2024-01-01", "label": 1, "source": "natural", "labeler": ""}
        return {**about, "confidence": 1.0, "event_time": moment(hour), "known_time": moment(known), **ends}

    late, early = event("late", 52, 52), event("early", 3, 3)
    past = [event("k0", 6, 6), late, early], [said(6, 6), said(0, 7)]
    assert computed(problem, [late], *past)["late"]["labels"] == 0
    assert computed(problem, [late, early], *past)["late"]["labels"] == 0, "whatever else is asked for"
