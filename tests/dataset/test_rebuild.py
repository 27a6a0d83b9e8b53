from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.artifacts import table_schema
from pipelines.dataset.rebuild import content_hash, rebuild
from pipelines.errors import ConfigError
from pipelines.features.featurize import featurize
from pipelines.ingest.publish import event_statements, natural_label_statements
from pipelines.problem import Problem
from tests.examples import dear

ToyProblem = Callable[..., Problem]
START = datetime(2024, 1, 1, tzinfo=UTC)
YESTERDAY, TODAY = "2024-01-01", "2024-01-02"
Tables = tuple[pa.Table, pa.Table]


def at(hour: float) -> datetime:
    return START + timedelta(hours=hour)


def row(key: str, hour: int, known: int, litres: float = 1.0, label: int = 1) -> dict[str, Any]:
    return {
        "kettle_id": key,
        "partition": YESTERDAY if hour < 24 else TODAY,
        "event_time": at(hour),
        "cutoff_time": at(hour),
        "known_time": at(known),
        "shelf": "top",
        "litres": litres,
        "age": 3,
        "label": label,
    }


def empty(problem: Problem) -> Tables:
    return table_schema(problem, "events").empty_table(), table_schema(problem, "labels").empty_table()


def publish(problem: Problem, tables: Tables, rows: list[dict[str, Any]], now: float) -> Tables:
    """Both tables after a delivery of both days; labels are known an hour after their event."""
    later = ("statement", "superseded_time", "withdrawn_time", "source", "confidence", "labeler")
    schemas = [pa.schema([f for f in table.schema if f.name not in later]) for table in tables]
    labels = [{**one, "known_time": max(one["known_time"], one["event_time"] + timedelta(hours=1))} for one in rows]
    return (
        event_statements(problem, tables[0], pa.Table.from_pylist(rows, schema=schemas[0]), at(now)).read_all(),
        natural_label_statements(
            problem, tables[1], pa.Table.from_pylist(labels, schema=schemas[1]), at(now), ingested=[]
        ).read_all(),
    )


def hashes(problem: Problem, as_of: datetime, tables: Tables) -> dict[str, str]:
    return {name: content_hash(rows) for name, rows in rebuild(problem, TODAY, as_of, *tables).items()}


FIRST = [row("b", 30, 20), row("a", 30, 20, 2.0), row("c", 4, 2), row("d", 5, 2, label=0)]


def test_a_partition_is_rebuilt_as_it_was_known(toy: ToyProblem) -> None:
    problem = toy()
    tables = publish(problem, empty(problem), FIRST, 40)
    tables = publish(problem, tables, [row("a", 30, 20, 5.0, label=0), *FIRST[2:]], 50)
    before, after = (rebuild(problem, TODAY, at(hour), *tables) for hour in (45, 55))
    assert [(one["kettle_id"], one["litres"]) for one in before["events"].to_pylist()] == [("a", 2.0), ("b", 1.0)]
    assert [(one["kettle_id"], one["litres"]) for one in after["events"].to_pylist()] == [("a", 5.0)]
    assert [one["label"] for one in before["labels"].to_pylist()] == [1, 1]
    assert [(one["label"], one["known_time"]) for one in after["labels"].to_pylist()] == [(0, at(50))]
    assert [one["shelf_rate_3d"] for one in before["features"].to_pylist()] == [0.5, 0.5]
    assert after["features"].to_pylist() == before["features"].to_pylist()[:1], "predicted from what was known then"
    assert before["features"].schema.names == ["kettle_id", "partition", "event_time", *problem.feature_names]


def test_before_its_cutoff_an_event_has_the_history_that_was_known_by_then(toy: ToyProblem) -> None:
    problem = toy()
    then = publish(problem, empty(problem), FIRST, 21)
    tables = publish(problem, then, [*FIRST[:2], row("c", 4, 2, label=0)], 25)
    (made_then,) = featurize(problem, then[0].filter(pc.field("partition") == TODAY), *then)
    assert rebuild(problem, TODAY, at(22), *tables)["features"].to_pylist() == sorted(
        made_then.to_pylist(), key=lambda one: one["kettle_id"]
    )
    rates = [rebuild(problem, TODAY, at(hour), *tables)["features"]["shelf_rate_3d"].to_pylist() for hour in (22, 31)]
    assert rates == [[0.5, 0.5], [0.0, 0.0]], "corrected and taken back between the two, both before the cut-off"


def test_nothing_is_rebuilt_of_what_nobody_knew_yet(toy: ToyProblem) -> None:
    found = rebuild(toy(), TODAY, at(20), *publish(toy(), empty(toy()), FIRST, 40))
    assert {name: rows.num_rows for name, rows in found.items()} == {"events": 0, "labels": 0, "features": 0}


def test_a_moment_has_a_time_zone_and_a_partition_a_name(toy: ToyProblem) -> None:
    with pytest.raises(ConfigError, match="has no time zone"):
        rebuild(toy(), TODAY, datetime(2024, 1, 1), *empty(toy()))
    with pytest.raises(ConfigError, match="names no partition"):
        rebuild(toy(), "today", START, *empty(toy()))


DELIVERIES = st.lists(
    st.tuples(
        st.integers(1, 8),
        st.lists(
            st.tuples(st.sampled_from("abcdef"), st.integers(-3, 5), st.sampled_from([1.0, 2.0]), st.integers(0, 1)),
            max_size=6,
            unique_by=lambda made: made[0],
        ),
    ),
    min_size=2,
    max_size=3,
)
HOURS = dict(zip("abcdef", (4, 9, 26, 30, 36, 45), strict=True))


@settings(max_examples=dear(6))
@given(made=DELIVERIES)
def test_rebuilding_gives_the_same_after_later_corrections(toy: ToyProblem, made: Any) -> None:
    problem = toy(**{"features.history.litres_3d": {"by": ["shelf"], "of": "litres", "window_days": 3}})
    now, tables, remembered = 22, empty(problem), {}
    for wait, rows in made:
        before, now = now, now + wait
        delivered = [row(key, HOURS[key], 0 if known < 0 else before + known, *more) for key, known, *more in rows]
        tables = publish(problem, tables, [row("y", 10, 0), row("z", 40, 0), *delivered], now)
        remembered[at(now)] = hashes(problem, at(now), tables)
    assert {moment: hashes(problem, moment, tables) for moment in remembered} == remembered


VALUES = st.lists(
    st.fixed_dictionaries(
        {
            "word": st.none() | st.text(max_size=4),
            "other": st.none() | st.text(max_size=4),
            "number": st.none() | st.floats(),
            "time": st.none() | st.datetimes(timezones=st.just(UTC)),
            "list": st.none() | st.lists(st.text(max_size=2), max_size=2),
        }
    ),
    max_size=5,
)
SCHEMA = pa.schema(
    [
        ("word", pa.string()),
        ("other", pa.string()),
        ("number", pa.float64()),
        ("time", pa.timestamp("us", "UTC")),
        ("list", pa.list_(pa.string())),
    ]
)


def canonical(rows: list[dict[str, Any]]) -> list[str]:
    """Text of each row, sorted, in which no two values look alike; there is only one NaN."""
    return sorted(
        repr([(k, "nan" if isinstance(v, float) and math.isnan(v) else v) for k, v in r.items()]) for r in rows
    )


@settings(max_examples=15)
@given(rows=VALUES, others=VALUES, data=st.data())
def test_two_tables_hash_alike_if_their_rows_are_the_same(rows: Any, others: Any, data: Any) -> None:
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))
    chunks = [pa.Table.from_pylist(part, schema=SCHEMA) for part in (shuffled[:cut], shuffled[cut:])]
    mine, other = (pa.Table.from_pylist(part, schema=SCHEMA) for part in (rows, others))
    assert content_hash(mine) == content_hash(pa.concat_tables(chunks).select(SCHEMA.names[::-1]))
    assert (content_hash(mine) == content_hash(other)) == (canonical(rows) == canonical(others))
    if rows:
        name = data.draw(st.sampled_from(SCHEMA.names))
        changed = [{**rows[0], name: data.draw(st.sampled_from([one[name] for one in [*rows, *others]]))}, *rows[1:]]
        assert (content_hash(mine) == content_hash(pa.Table.from_pylist(changed, schema=SCHEMA))) == (
            canonical(rows) == canonical(changed)
        )


def test_a_name_a_type_and_a_repetition_count() -> None:
    table = pa.table({"x": [1, 2]})
    others = [
        table.rename_columns(["y"]),
        pa.table({"x": [1.0, 2.0]}),
        pa.table({"x": [1, 2, 2]}),
        pa.table({"x": [1, None]}),
        pa.table({"x": ["1", "2"]}),
        pa.table({"x": [0.1 + 0.2, 1.0]}),
        pa.table({"x": [0.3, 1.0]}),
        table.slice(0, 0),
    ]
    assert len({content_hash(one) for one in [table, *others]}) == len(others) + 1
