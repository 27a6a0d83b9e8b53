"""What an ingest takes in, and what it says of the rest: late rows, rows outside, keys that come again, lost labels."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import local_run, store
from pipelines.asof.ingested import ingested
from pipelines.dataset.label import label
from pipelines.errors import DataError
from pipelines.handoffs.ingestion import Published
from pipelines.problem import load_problem
from tests.conftest import TOY
from tests.examples import dear
from tests.stages.feeds import FIRST, START, Feed, day, row

pytestmark = pytest.mark.slow

NAME = "kettle"
KINDS = ("parquet", "csv", "jsonl", "sqlite")
Make = Callable[..., Feed]


@pytest.fixture
def feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A problem over one source, in an empty store."""
    monkeypatch.setenv("EVERGREEN_STORE_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    return lambda **changes: Feed(tmp_path / "problems", TOY, **changes)


def ingest(first: int, last: int | None = None) -> Published:
    return local_run.ingest(NAME, day(first), day(first if last is None else last))


def table(name: Any, *columns: str) -> list[tuple[Any, ...]]:
    rows = store.dataset(load_problem(NAME), name).to_table(columns=list(columns)).to_pylist()
    return sorted(tuple(one.values()) for one in rows)


def shop(days: int, a_day: int = 4) -> list[dict[str, Any]]:
    """Some rows a day, each with a label that its number gives."""
    return [row(f"k{d}-{n}", 24 * d + n, litres=float(d), hot=(d + n) % 2) for d in range(days) for n in range(a_day)]


# Keys that come again -------------------------------------------------------------------------------------


def daily_tickets(days: int, a_day: int) -> list[dict[str, Any]]:
    return [row(f"t{n}", 24 * d + n, hot=(d + n) % 2) for d in range(days) for n in range(a_day)]


def test_a_key_used_again_on_another_day_is_told_by_a_bulk_and_by_daily_runs(feed: Make) -> None:
    source = feed(**{"validation.max_quarantined_share": 0.05})
    source.deliver(daily_tickets(3, 4))
    with pytest.raises(DataError, match="ticket: names an event of another time already"):
        ingest(0, 2)
    assert ingest(0).events == 4
    with pytest.raises(DataError, match="ticket: names an event of another time already"):
        ingest(1)
    assert table("events", "ticket", "event_time") == [(f"t{n}", START + timedelta(hours=n)) for n in range(4)]


def test_a_bulk_and_daily_runs_take_the_same_of_a_few_keys_that_come_again(feed: Make) -> None:
    again = [row("k0-1", 30, hot=1), row("k1-2", 50, hot=1)]
    source = feed()
    source.deliver(shop(3) + again)
    runs = [ingest(place) for place in range(3)]
    by_day = table("events", "ticket", "event_time", "partition"), table("quarantine", "partition", "rules")
    assert [run.quarantined for run in runs] == [0, 1, 1]
    assert by_day[1] == [(day(place), ["ticket: names an event of another time already"]) for place in (1, 2)]
    store.delete_folder(store.store_uri(NAME))
    assert ingest(0, 2).quarantined == 2
    assert (table("events", "ticket", "event_time", "partition"), table("quarantine", "partition", "rules")) == by_day


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (9, False),  # before it was to happen: it was moved
        (60, False),  # after it happened at the new time: it had been noted wrongly
        (20, True),  # once it was over, for a time that lay ahead
    ],
)
def test_a_corrected_time_is_one_event_in_a_bulk_and_in_daily_runs(feed: Make, known: float, told: bool) -> None:
    source = feed(known="told AS known_time,")
    usual = [row(f"k{d}", 24 * d + 10, told=24 * d + 8) for d in range(3)]
    source.deliver([*usual, row("moved", 12, told=7), row("moved", 40, litres=2.0, told=known)])

    def live() -> list[tuple[Any, ...]]:
        rows = store.dataset(load_problem(NAME), "events").to_table(filter=pc.field("superseded_time").is_null())
        return [(one["event_time"], one["litres"]) for one in rows.to_pylist() if one["ticket"] == "moved"]

    expected = [(START + timedelta(hours=12), 1.0)] if told else [(START + timedelta(hours=40), 2.0)]
    assert sum(ingest(place).quarantined for place in range(3)) == told
    assert live() == expected
    assert ingest(1).quarantined == told, "and what was taken for a correction is one when it comes again"
    assert live() == expected
    store.delete_folder(store.store_uri(NAME))
    assert ingest(0, 2).quarantined == told
    assert live() == expected


def test_a_label_teaches_the_event_of_its_own_time_where_a_key_comes_again(feed: Make) -> None:
    """Beyond the look-back's reach nothing is set aside."""
    source = feed(**{"validation.lookback_partitions": 0})
    source.deliver([*daily_tickets(1, 4), *shop(2)[4:], *daily_tickets(3, 4)[8:]])
    for place in range(3):
        ingest(place)
    config = load_problem(NAME)
    split = {day(0): "train", day(1): "validation", day(2): "test"}
    made = label(
        config,
        store.dataset(config, "events"),
        store.dataset(config, "labels"),
        datetime(2030, 1, 1, tzinfo=UTC),
        split,
    )
    told = [(one["ticket"], one["partition"], one["label"]) for one in made.to_pylist()]
    assert told == [
        *((f"t{n}", day(0), n % 2) for n in range(4)),
        *((f"k1-{n}", day(1), (1 + n) % 2) for n in range(4)),
        *((f"t{n}", day(2), n % 2) for n in range(4)),
    ]


# Rows that come late --------------------------------------------------------------------------------------


def test_rows_that_come_late_are_counted_and_known_from_the_ingest_that_learnt_of_them(feed: Make) -> None:
    source = feed(**{"partitions.last": day(9)})
    rows = shop(5)
    source.deliver(rows)
    ingest(0, 2)
    late = [row("late", 5, hot=1), row("late and bad", 6, litres=-1.0)]
    source.deliver(rows + late)
    run = ingest(3)
    assert (run.events, run.late, run.quarantined, run.new) == (4, 2, 1, 4), "an event and its label"
    assert "rows that came late: 2" in run.summary
    learnt = START + timedelta(days=4)
    stated = store.dataset(load_problem(NAME), "events").to_table(filter=pc.field("ticket") == "late").to_pylist()
    assert [(one["partition"], one["known_time"], one["statement"]) for one in stated] == [(day(0), learnt, 0)]
    labels = store.dataset(load_problem(NAME), "labels").to_table(filter=pc.field("ticket") == "late").to_pylist()
    assert [(one["partition"], one["known_time"], one["label"]) for one in labels] == [(day(0), learnt, 1)]
    assert table("quarantine", "partition", "rules") == [(day(0), ["litres: outside 0.."])]
    page = store.read_bytes(store.store_uri(NAME, "reports", f"{day(3)}_{day(3)}", "validation.html")).decode()
    assert "rows that came late: 2" in page

    before = table("events", "ticket", "known_time", "superseded_time", "withdrawn_time", "partition")
    for again in (ingest(3), ingest(4)):
        assert (again.late, again.quarantined) == (0, 0), "neither taken in nor set aside a second time"
    after = table("events", "ticket", "known_time", "superseded_time", "withdrawn_time", "partition")
    assert set(before) < set(after)
    assert len(after) == len(before) + 4


def test_a_row_comes_late_beside_one_of_its_key_that_has_no_time(feed: Make) -> None:
    source = feed()
    source.deliver(shop(1))
    ingest(0)
    source.deliver([*shop(2), row("late", 5), row("late", 30) | {"happens": None}])
    run = ingest(1)
    assert (run.late, run.quarantined) == (1, 1)
    assert ("late", day(0)) in table("events", "ticket", "partition")
    assert table("quarantine", "partition", "rules") == [
        (day(1), ["event_time: missing", "known_time: missing", "cutoff_time: missing"])
    ]


def test_an_event_that_moved_away_is_not_withdrawn_when_a_row_comes_late_where_it_was(feed: Make) -> None:
    source = feed(known="told AS known_time,")
    usual = [row(f"k{d}", 24 * d + 10, told=24 * d + 8) for d in range(3)]
    rows = [*usual, row("moved", 12, told=7), row("moved", 40, told=60)]
    source.deliver(rows)
    ingest(0)
    ingest(1)
    source.deliver([*rows, row("late", 11, told=9)])
    assert ingest(2).late == 1
    stated = store.dataset(load_problem(NAME), "events").to_table(filter=pc.field("ticket") == "moved").to_pylist()
    assert [(one["partition"], one["withdrawn_time"]) for one in stated if one["superseded_time"]] == [(day(0), None)]


def test_a_later_statement_about_a_published_event_comes_late_once(feed: Make) -> None:
    source = feed(known="told AS known_time,", **{"partitions.last": day(9)})
    rows = [row(f"k{d}", 24 * d + 10, told=24 * d + 8) for d in range(4)]
    source.deliver(rows)
    ingest(0, 1)
    source.deliver([*rows, row("k0", 10, litres=3.0, told=30), row("k1", 34, told=50)])
    assert [ingest(2).late, ingest(3).late] == [1, 0], "k1 is said to be what it was"
    assert table("events", "ticket", "litres", "statement")[:2] == [("k0", 1.0, 0), ("k0", 3.0, 1)]


def test_a_row_is_not_late_for_a_partition_that_nobody_ingested_or_that_lies_too_far_back(feed: Make) -> None:
    source = feed(**{"validation.lookback_partitions": 2})
    rows = shop(6)
    source.deliver(rows)
    for place in (0, 1, 3):
        ingest(place)
    source.deliver([*rows, row("far", 5), row("never", 55), row("near", 78)])
    assert ingest(5).late == 1
    assert {ticket for (ticket,) in table("events", "ticket")} & {"far", "never", "near"} == {"near"}


def test_keys_that_are_made_in_another_way_now_are_no_late_rows(feed: Make) -> None:
    source = feed()
    source.deliver(shop(2))
    ingest(0, 1)
    source.deliver([one | {"ticket": one["ticket"] + ".0"} for one in shop(3)])
    with pytest.raises(DataError, match=f"of {day(0)}, {day(1)} no ticket that was published is delivered any more"):
        ingest(2)
    assert len(table("events", "ticket")) == 8


# Rows outside ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_rows_outside_of_the_problems_time_are_counted_and_told(feed: Make, kind: str) -> None:
    source = feed(kind=kind, **{"partitions.last": day(3)})
    source.deliver([*shop(3), row("old", -1), row("older", -99, hot=1), row("new", 99)])
    run = ingest(0, 1)
    assert run.outside_of == {
        "events": {"before": 2, "after": 1, "open": 0},
        "labels": {"before": 1, "after": 0, "open": 0},
    }
    assert run.outside == 4
    assert f"events before {FIRST}: 2" in run.summary
    page = store.read_bytes(store.store_uri(NAME, "reports", f"{day(0)}_{day(1)}", "validation.html")).decode()
    assert f"events after {day(3)}: 1" in page


def test_rows_outside_are_counted_where_a_source_is_read_by_time_and_late_ones_taken_in(feed: Make) -> None:
    source = feed(kind="sqlite", source={"time_column": "happens"}, **{"partitions.last": day(3)})
    source.deliver([*shop(2), row("old", -1), row("new", 99)])
    assert ingest(0).outside_of["events"] == {"before": 1, "after": 0, "open": 0}
    source.deliver([*shop(4), row("old", -1), row("new", 99), row("late", 5)])
    run = ingest(1, 3)
    assert (run.late, run.outside_of["events"]["after"]) == (1, 1)
    assert run.outside_of["events"]["before"] == 1, "the look-back reaches there"


def test_rows_of_a_partition_that_has_not_ended_are_counted(feed: Make) -> None:
    source = feed()
    soon = (datetime.now(UTC) - START) / timedelta(hours=1) + 1
    source.deliver([*shop(1), row("soon", soon)])
    assert ingest(0).outside_of["events"] == {"before": 0, "after": 0, "open": 1}


def test_rows_without_a_time_make_no_history_of_days_without_rows(feed: Make) -> None:
    source = feed(**{"validation.max_quarantined_share": 0.05})
    source.deliver([one | {"happens": None} for one in shop(2)])
    with pytest.raises(DataError, match=f"2 of 2 partitions are refused.*\n.*event_time: missing.*\n{day(1)}: no rows"):
        ingest(0, 1)
    assert ingested(load_problem(NAME)) == []


# Labels of no event ---------------------------------------------------------------------------------------

ELSEWHERE = (
    "SELECT {} AS ticket, happens AS event_time, happens AS known_time, hot AS label FROM feed WHERE hot IS NOT NULL"
)


@pytest.mark.parametrize(
    ("ticket", "cause"),
    [
        (
            "ticket || '.0'",
            "'10.0', '11.0' and '12.0', where events are '10', '11' and '12' (one side has them as floats)",
        ),
        ("'00' || ticket", "(one side has leading zeros)"),
        ("' ' || ticket || ' '", "(one side has spaces around them)"),
    ],
)
def test_labels_of_no_event_are_refused_with_ids_of_both_sides_and_the_cause(
    feed: Make, ticket: str, cause: str
) -> None:
    source = feed(labels_sql=ELSEWHERE.format(ticket))
    source.deliver([row(f"{10 + n}", n, hot=n % 2) for n in range(3)])
    with pytest.raises(DataError) as caught:
        ingest(0)
    assert caught.value.what.startswith("3 of 3 labels have no event: ")
    assert cause in caught.value.what
    assert table("labels", "ticket") == []


def test_a_label_without_event_is_counted_and_that_of_an_event_set_aside_has_one(feed: Make) -> None:
    source = feed()
    rows = [*shop(1, 8), row("bad", 9, litres=-1.0, hot=1)]
    source.deliver(rows)
    assert ingest(0).labels_without_event == 0
    (source.folder / "labels.sql").write_text(
        (source.folder / "labels.sql").read_text()
        + f"UNION ALL SELECT 'nobody', TIMESTAMPTZ '{START}', TIMESTAMPTZ '{START}', 1"
    )
    run = ingest(0)
    assert run.labels_without_event == 1
    assert "1 of 10 labels have no event: 'nobody'" in run.summary


# Accounts -------------------------------------------------------------------------------------------------

DAYS = 3
ROWS = st.lists(
    st.tuples(
        st.integers(-30, 24 * DAYS + 30),  # the hour: before, in and after the problem's days
        st.sampled_from([1.0, 1.0, 1.0, -1.0]),  # the latter is set aside
        st.sampled_from([None, 0, 1]),
        st.integers(0, DAYS),  # the run before which the row arrives; the last comes after all days
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=dear(8), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(KINDS), rows=ROWS, is_bulk=st.booleans())
def test_each_row_is_published_or_set_aside_or_late_or_outside_however_it_arrives(
    feed: Make, tmp_path_factory: pytest.TempPathFactory, kind: str, rows: list[tuple[Any, ...]], is_bulk: bool
) -> None:
    """Each day is ingested once, and then one day more, for what came last: each row is counted once."""
    folder = tmp_path_factory.mktemp("accounts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_STORE_URI", (folder / "store").as_uri())
        patch.setenv("EVERGREEN_PROBLEMS", str(folder / "problems"))
        usual = {"validation.max_unmatched_label_share": 1.0, "partitions.last": day(DAYS)}
        source = Feed(folder / "problems", TOY, kind=kind, **usual)
        always = [row(f"always{d}", 24 * d + 1) for d in range(DAYS + 1)]
        arrivals = [(row(f"k{n}", hour, litres, hot=hot), turn) for n, (hour, litres, hot, turn) in enumerate(rows)]
        runs = [(0, 0), (1, DAYS - 1), (DAYS, DAYS)] if is_bulk else [(d, d) for d in range(DAYS + 1)]
        done = []
        for first, last in runs:
            source.deliver([*always, *(one for one, turn in arrivals if turn <= last)])
            done.append(ingest(first, last))
        inside = [(one, turn) for one, turn in arrivals if START <= one["happens"] < START + timedelta(days=DAYS + 1)]
        good = {one["ticket"] for one, _ in inside if one["litres"] > 0} | {one["ticket"] for one in always}
        published = [ticket for (ticket,) in table("events", "ticket")]
        assert sorted(published) == sorted(good), "each good row is there, once"
        bad = [one for one, _ in inside if one["litres"] < 0]
        assert sum(run.quarantined for run in done) == len(table("quarantine", "id")) == len(bad)
        known = [one["happens"] + timedelta(hours=1) for one, _ in arrivals if one["hot"] is not None]
        labels = [time for time in known if START <= time < START + timedelta(days=DAYS + 1)]
        taken = sum(run.events + run.labels + run.late for run in done)
        assert taken == len(good) + len(labels)
        outside = [one["happens"] for one, _ in arrivals if one not in [there for there, _ in inside]]
        assert sum(done[-1].outside_of["events"].values()) == len(outside)
