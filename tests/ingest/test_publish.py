from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.artifacts import table_schema
from pipelines.errors import DataError
from pipelines.ingest.publish import changes, check_accounts, event_statements, natural_label_statements
from pipelines.problem import Problem
from tests.examples import dear

ToyProblem = Callable[..., Problem]
START = datetime(2024, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
OURS = ("statement", "superseded_time", "withdrawn_time")
P1, P2 = "2024-01-01", "2024-01-02"


def at(hour: float) -> datetime:
    return START + timedelta(hours=hour)


def row(key: str, known: float, litres: float | None = 1.0, cutoff: float = 10, partition: str = P1) -> dict[str, Any]:
    return {
        "kettle_id": key,
        "partition": partition,
        "event_time": at(12),
        "known_time": at(known),
        "cutoff_time": at(cutoff),
        "shelf": "top",
        "litres": litres,
        "age": None,
    }


def label(key: str, known: float, value: int, partition: str = P1) -> dict[str, Any]:
    return {"kettle_id": key, "partition": partition, "event_time": at(0), "known_time": at(known), "label": value}


def in_order(table: pa.Table) -> pa.Table:
    keys = [name for name in ("kettle_id", "known_time", "partition", "statement") if name in table.schema.names]
    return table.sort_by([(name, "ascending") for name in keys])


def delivery(problem: Problem, rows: list[dict[str, Any]]) -> pa.Table:
    fields = [field for field in table_schema(problem, "events") if field.name not in OURS]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def publish(
    problem: Problem, current: pa.Table | None, rows: list[dict[str, Any]], now: float, **more: Any
) -> pa.Table:
    current = table_schema(problem, "events").empty_table() if current is None else current
    return in_order(event_statements(problem, current, delivery(problem, rows), at(now), **more).read_all())


def publish_labels(
    problem: Problem, current: pa.Table | None, rows: list[dict[str, Any]], now: float, **more: Any
) -> pa.Table:
    schema = table_schema(problem, "labels")
    given = ("kettle_id", "partition", "event_time", "known_time", "label")
    delivered = pa.Table.from_pylist(rows, schema=pa.schema([schema.field(name) for name in given]))
    before = schema.empty_table() if current is None else current
    return in_order(natural_label_statements(problem, before, delivered, at(now), **more).read_all())


def told(table: pa.Table) -> list[tuple[Any, ...]]:
    """(key, known, litres or label, superseded, withdrawn, statement), times in hours."""

    def hour(moment: datetime | None) -> float | None:
        return None if moment is None else (moment - START) / timedelta(hours=1)

    value = "litres" if "litres" in table.schema.names else "label"
    return [
        (
            row["kettle_id"],
            hour(row["known_time"]),
            row[value],
            hour(row["superseded_time"]),
            hour(row["withdrawn_time"]),
            row.get("statement"),
        )
        for row in table.to_pylist()
    ]


def test_a_first_delivery_is_believed_and_chains_are_linked(toy: ToyProblem) -> None:
    found = publish(toy(), None, [row("a", 1), row("b", 2), row("b", 5, 2.0), row("b", 6, 2.0)], 30)
    assert told(found) == [("a", 1, 1.0, None, None, 0), ("b", 2, 1.0, 5, None, 0), ("b", 5, 2.0, None, None, 1)]


def test_the_same_delivery_again_changes_nothing(toy: ToyProblem) -> None:
    rows = [row("a", 1, None), row("b", 2), row("b", 5, 2.0), row("b", 6, 2.0)]
    once = publish(toy(), None, rows, 30)
    assert publish(toy(), once, rows, 40).equals(once)
    assert publish(toy(), once, [*rows[:1], {**rows[-1], "known_time": at(50)}], 60).equals(once), "says nothing new"


@pytest.mark.parametrize(("known", "learnt"), [(4, 30), (1, 30), (0, 30), (40, 40)])
def test_a_correction_is_not_known_before_it_is_delivered(toy: ToyProblem, known: int, learnt: int) -> None:
    once = publish(toy(), None, [row("a", 1)], 20)
    found = publish(toy(), once, [row("a", known, 2.0)], 30)
    assert told(found) == [("a", 1, 1.0, learnt, None, 0), ("a", learnt, 2.0, None, None, 1)]
    assert publish(toy(), found, [row("a", known, 2.0)], 40).equals(found)


def test_null_is_a_value_like_others(toy: ToyProblem) -> None:
    once = publish(toy(), None, [row("a", 1, None), row("b", 1, 1.0)], 20)
    found = publish(toy(), once, [row("a", 1, 1.0), row("b", 1, None)], 30)
    assert [value for _, _, value, *_ in told(found)] == [None, 1.0, 1.0, None]


def test_a_correction_back_to_what_was_said_before_is_a_correction(toy: ToyProblem) -> None:
    found = publish(toy(), None, [row("a", 1)], 20)
    for now, litres in ((30, 2.0), (40, 1.0)):
        found = publish(toy(), found, [row("a", 1, litres)], now)
    assert [(known, litres) for _, known, litres, *_ in told(found)] == [(1, 1.0), (30, 2.0), (40, 1.0)]


def test_what_is_delivered_no_more_is_withdrawn_and_may_come_back(toy: ToyProblem) -> None:
    rows = [row("a", 1), row("a", 5, 2.0), row("b", 1)]
    gone = publish(toy(), publish(toy(), None, rows, 20), rows[2:], 30)
    assert told(gone)[:2] == [("a", 1, 1.0, 5, 30, 0), ("a", 5, 2.0, None, 30, 1)]
    back = publish(toy(), gone, rows, 40)
    assert told(back)[:3] == [("a", 1, 1.0, 5, 30, 0), ("a", 5, 2.0, None, 30, 1), ("a", 40, 2.0, None, None, 0)]
    assert publish(toy(), back, rows, 50).equals(back)
    assert publish(toy(), gone, rows[2:], 50).equals(gone), "what is gone is not withdrawn again"


def test_nobody_knew_what_a_later_delivery_adds(toy: ToyProblem) -> None:
    once = publish(toy(), None, [row("a", 1)], 20)
    found = publish(toy(), once, [row("a", 1), row("b", 2), row("c", 60), row("d", 3, partition=P2)], 30)
    assert [(key, known) for key, known, *_ in told(found)] == [("a", 1), ("b", 30), ("c", 60), ("d", 3)]


def test_no_interval_is_empty_when_clocks_differ(toy: ToyProblem) -> None:
    once = publish(toy(), None, [row("a", 25), row("b", 25)], 20)
    found = publish(toy(), once, [row("a", 25, 2.0)], 25).to_pylist()
    assert [one["known_time"] for one in found] == [at(25), at(25) + TICK, at(25)]
    assert [one["superseded_time"] for one in found] == [at(25) + TICK, None, None]
    assert found[2]["withdrawn_time"] == at(25) + TICK
    back = publish(toy(), pa.Table.from_pylist(found, schema=once.schema), [row("b", 25)], 24).to_pylist()
    assert back[-1]["known_time"] == at(25) + TICK, "not before it was taken back"


def test_a_default_known_time_that_moved_with_the_cutoff_is_no_observation(toy: ToyProblem) -> None:
    once = publish(toy(), None, [row("a", 10, cutoff=10)], 20)
    found = publish(toy(), once, [row("a", 14, 2.0, cutoff=14)], 30)
    assert [(known, litres) for _, known, litres, *_ in told(found)] == [(10, 1.0), (30, 2.0)]


def test_a_cutoff_that_has_passed_stays(toy: ToyProblem) -> None:
    def cutoffs(table: pa.Table) -> list[float]:
        return [(moment - START) / timedelta(hours=1) for moment in table["cutoff_time"].to_pylist()]

    once = publish(toy(), None, [row("a", 1, cutoff=10)], 8)
    before = publish(toy(), once, [row("a", 1, cutoff=14)], 9)
    assert cutoffs(before) == [10, 14], "moved in time"
    late = publish(toy(), once, [row("a", 1, 2.0, cutoff=14)], 11)
    assert cutoffs(late) == [10, 10], "the prediction had been due"
    assert publish(toy(), late, [row("a", 1, 2.0, cutoff=14)], 40).equals(late)
    assert publish(toy(), once, [row("a", 1, cutoff=14)], 11).equals(once), "nothing else is new"
    early = publish(toy(), once, [row("a", 1, cutoff=5)], 9)
    assert cutoffs(early) == [10, 9], "due at once"
    assert publish(toy(), early, [row("a", 1, cutoff=5)], 40).equals(early)


def test_an_event_may_move_to_another_partition_of_the_run(toy: ToyProblem) -> None:
    once = publish(toy(), None, [row("a", 1), row("b", 1, partition=P2)], 20)
    moved = publish(toy(), once, [{**row("a", 1, partition=P2), "event_time": at(30)}, row("b", 1, partition=P2)], 30)
    assert [(one["partition"], one["statement"], one["superseded_time"]) for one in moved.to_pylist()[:2]] == [
        (P1, 0, at(30)),
        (P2, 1, None),
    ]
    alone = publish(toy(), moved.filter(pa.compute.field("partition") == P2), moved.to_pylist()[1:], 40)
    assert told(alone) == told(moved)[1:], "each partition can be ingested alone afterwards"


def test_restating_forgets_what_was_published(toy: ToyProblem) -> None:
    once = publish(toy(), None, [row("a", 1), row("b", 1)], 20)
    again = [row("a", 1, 2.0), row("c", 2), row("c", 4, 3.0)]
    assert publish(toy(), once, again, 30, restated=[P1]).equals(publish(toy(), None, again, 20))


def test_two_rows_of_one_moment_are_refused(toy: ToyProblem) -> None:
    with pytest.raises(DataError, match="'a' at 2024-01-01T01:00"):
        publish(toy(), None, [row("a", 1), row("a", 1, 2.0)], 20)


def test_rows_may_come_as_a_dataset_or_a_reader(toy: ToyProblem, tmp_path: Any) -> None:
    problem = toy()
    rows = delivery(problem, [row("a", 1), row("b", 1), row("b", 3, 2.0)])
    pq.write_table(rows, tmp_path / "rows.parquet")
    empty = ds.dataset(table_schema(problem, "events").empty_table())
    for given_rows in (ds.dataset(tmp_path / "rows.parquet"), rows.to_reader()):
        found = event_statements(problem, empty, given_rows, at(20))
        assert found.schema == table_schema(problem, "events")
        assert told(in_order(found.read_all())) == told(publish(problem, None, rows.to_pylist(), 20))


def test_a_column_declared_since_is_learnt_now(toy: ToyProblem) -> None:
    once = publish(toy(), None, [row("a", 1)], 20)
    found = publish(toy(), once, [{**row("a", 1), "age": 4}], 30).to_pylist()
    assert [(one["age"], one["known_time"]) for one in found] == [(None, at(1)), (4, at(30))]


def test_columns_may_have_any_name(toy: ToyProblem) -> None:
    names = ["h", "until", "learnt", "due", "ordinal", "told", "order", "now_known"]
    problem = toy(**{f"columns.{name}": {"type": "float"} for name in names})
    found = None
    for now, value in ((20, 1.0), (30, 2.0)):
        found = publish(problem, found, [{**row("a", 1), **dict.fromkeys(names, value)}], now)
    assert [[one[name] for name in names] for one in found.to_pylist()] == [[1.0] * 8, [2.0] * 8]


def test_changes_are_counted_by_event(toy: ToyProblem) -> None:
    problem = toy()
    nothing = table_schema(problem, "events").empty_table()
    one = publish(problem, None, [row("a", 1), row("a", 2, 2.0), row("b", 1), row("c", 1)], 20)
    two = publish(problem, one, [row("a", 2, 2.0), row("b", 1, 9.0), row("d", 1)], 30)
    three = publish(problem, two, [row("a", 2, 2.0), row("b", 1, 9.0), row("c", 1)], 40)
    counts = [list(changes(problem, "events", *pair).values()) for pair in ((nothing, one), (one, two), (two, three))]
    assert list(changes(problem, "events", one, one)) == ["new", "unchanged", "corrected", "withdrawn", "returned"]
    assert counts == [[3, 0, 0, 0, 0], [1, 1, 1, 1, 0], [0, 2, 0, 1, 1]]


def test_labels_become_natural_statements(toy: ToyProblem) -> None:
    problem = toy()
    first = publish_labels(problem, None, [label("a", 1, 1), label("a", 2, 0), label("b", 3, 1)], 20, ingested=[])
    assert told(first) == [("a", 1, 1, 2, None, None), ("a", 2, 0, None, None, None), ("b", 3, 1, None, None, None)]
    assert {(one["source"], one["confidence"], one["labeler"]) for one in first.to_pylist()} == {
        ("natural", 1.0, "outcome")
    }
    second = publish_labels(problem, first, [label("a", 2, 1), label("c", 4, 0)], 30, ingested=[P1])
    assert told(second) == [
        ("a", 1, 1, 2, None, None),
        ("a", 2, 0, 30, None, None),
        ("a", 30, 1, None, None, None),
        ("b", 3, 1, None, 30, None),
        ("c", 30, 0, None, None, None),
    ]
    assert list(changes(problem, "labels", first, second).values()) == [1, 0, 1, 1, 0]


def test_labels_of_a_partition_that_was_ingested_without_any_are_news(toy: ToyProblem) -> None:
    rows = [label("a", 1, 1), label("b", 2, 0, P2)]
    assert [known for _, known, *_ in told(publish_labels(toy(), None, rows, 30, ingested=[P1]))] == [30, 2]


def test_labels_of_other_sources_and_partitions_are_left_alone(toy: ToyProblem) -> None:
    problem = toy()
    hand = {**label("a", 1, 1), "source": "hand", "confidence": 0.9, "labeler": "ann"}
    current = pa.Table.from_pylist([hand], schema=table_schema(problem, "labels"))
    rows = [label("a", 1, 0), label("a", 30, 1, P2)]
    whole = publish_labels(problem, current, rows, 40, ingested=[])
    assert told(whole) == [("a", 1, 0, None, None, None), ("a", 30, 1, None, None, None)]
    apart = [publish_labels(problem, None, [one], 40, ingested=[]) for one in rows]
    assert told(whole) == [*told(apart[0]), *told(apart[1])], "however partitions are cut into runs"


def test_rows_are_accounted_for() -> None:
    check_accounts(9, published=2, quarantined=3, late=1, outside=3)
    with pytest.raises(DataError, match="9 rows were read, but 8 are accounted for: 2 published, 3 set aside"):
        check_accounts(9, published=2, quarantined=3, late=1, outside=2)


# Against the rules written out, one event after the other -------------------------------------------------

ROWS = st.tuples(
    st.sampled_from("abcdefghij"),
    st.integers(0, 20),
    st.sampled_from([1.0, 2.0, None]),
    st.sampled_from([6, 12, 15]),
    st.sampled_from([P1, P1, P2]),
)
DELIVERIES = st.lists(
    st.tuples(st.integers(0, 6), st.lists(ROWS, max_size=30, unique_by=lambda made: made[:2])), min_size=2, max_size=4
)


@settings(max_examples=dear(20))
@given(made=DELIVERIES)
def test_publishing_equals_its_rules_written_out(toy: ToyProblem, made: Any) -> None:
    problem, now, found, wanted = toy(), 3, None, []
    for wait, rows in made:
        now += wait
        given_rows = [row(*one) for one in rows]
        found, wanted = publish(problem, found, given_rows, now), expected(wanted, given_rows, at(now))
        assert found.to_pylist() == in_order(pa.Table.from_pylist(wanted, schema=found.schema)).to_pylist()
        assert publish(problem, found, given_rows, now + 1).equals(found), "publishing again changes nothing"


def expected(current: list[dict[str, Any]], delivered: list[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    ingested = {one["partition"] for one in current}
    keys = {one["kettle_id"] for one in [*current, *delivered]}
    return [
        one
        for key in keys
        for one in expected_of(
            *([r for r in rows if r["kettle_id"] == key] for rows in (current, delivered)), now, ingested
        )
    ]


def expected_of(
    current: list[dict[str, Any]], delivered: list[dict[str, Any]], now: datetime, ingested: set[str]
) -> list[dict[str, Any]]:
    gone = [one for one in current if one["withdrawn_time"]]
    live = [{**one} for one in current if not one["withdrawn_time"]]
    live.sort(key=lambda one: (one["known_time"], one["statement"], one["partition"]))
    for one, after in pairwise(live):
        one["superseded_time"] = one["superseded_time"] or max(now, after["known_time"])
    said = sorted(delivered, key=lambda one: one["known_time"])
    last = live[-1] if live else None
    if last and not said:
        return [*gone, *({**one, "withdrawn_time": max(now, last["known_time"] + TICK)} for one in live)]
    learnt: dict[datetime, dict[str, Any]] = {}
    for one in said:
        known = one["known_time"]
        if last and known <= last["known_time"] and one is not said[-1]:
            continue
        if last:
            is_default = known == one["cutoff_time"] and last["known_time"] == last["cutoff_time"]
            known = max(now, last["known_time"] + TICK, *([] if is_default else [known]))
        elif gone:
            known = max(known, now, *(old["withdrawn_time"] for old in gone))
        elif one["partition"] in ingested:
            known = max(known, now)
        learnt[max([known, *learnt])] = one
    added: list[dict[str, Any]] = []
    for known, one in learnt.items():
        due = one["cutoff_time"]
        if last:
            due = last["cutoff_time"] if known > last["cutoff_time"] else max(due, known)
            content = ("event_time", "shelf", "litres", "age")
            if due == last["cutoff_time"] and all(one[name] == last[name] for name in content):
                continue
            last["superseded_time"] = last["superseded_time"] or known
        number = last["statement"] + 1 if last else 0
        last = {
            **one,
            "known_time": known,
            "cutoff_time": due,
            "statement": number,
            "superseded_time": None,
            "withdrawn_time": None,
        }
        added.append(last)
    return [*gone, *live, *added]
