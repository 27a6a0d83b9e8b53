"""Ingest's timetable as the scheduler asks it: every partition once, in order, whatever clocks do."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import available_timezones

from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization
from hypothesis import example, given, settings
from hypothesis import strategies as st

from include.timetable import ClosedPartitions
from include.wiring import clock
from pipelines.config import Partitions
from tests.examples import dear

FIRST = dict.fromkeys(("month", "quarter"), date(1880, 1, 1))


@settings(max_examples=dear(30))
@given(
    zone=st.sampled_from(sorted(available_timezones())),
    at=st.times().map(lambda one: f"{one:%H:%M}"),
    year=st.integers(1900, 2037),
    every=st.sampled_from(["day", "week", "month", "quarter"]),
)
@example(zone="America/New_York", at="02:00", year=2024, every="day")
@example(zone="America/Sao_Paulo", at="00:00", year=2018, every="day")
@example(zone="Pacific/Apia", at="00:00", year=2011, every="day")
def test_a_scheduler_that_stays_up_runs_each_partition_of_a_year_once(
    zone: str, at: str, year: int, every: Literal["day", "week", "month", "quarter"]
) -> None:
    parts = Partitions(every=every, first=FIRST.get(every, date(1880, 1, 5)), timezone=zone, at=at)
    table, first = ClosedPartitions(parts), parts.key_of(date(year, 1, 1))
    wanted = parts.between(first, parts.key_of(date(year, 12, 31)))
    ran, found = first, [first]
    while len(found) < len(wanted):
        now = parts.ingested_at(ran).astimezone(UTC) + timedelta(seconds=20)  # the scheduler is never quite on time
        ran = table.next_key(ran, now, catchup=False) or ""
        found.append(ran)
    assert found == wanted


@settings(max_examples=dear(30))
@given(
    zone=st.sampled_from(sorted(available_timezones())),
    at=st.times().map(lambda clock: f"{clock:%H:%M}"),
    begin=st.datetimes(datetime(1975, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)),
)
@example(zone="America/New_York", at="00:10", begin=datetime(2024, 11, 2, 12, tzinfo=UTC))
@example(zone="Australia/Lord_Howe", at="00:10", begin=datetime(2024, 4, 5, 12, tzinfo=UTC))
def test_a_scheduler_that_stays_up_runs_each_hour_once(zone: str, at: str, begin: datetime) -> None:
    hours = Partitions(every="hour", first=date(1975, 1, 1), timezone=zone, at=at)
    table, first = ClosedPartitions(hours), hours.key_of(begin)
    wanted = hours.between(first, hours.shift(first, 100))
    ran = [first]
    while len(ran) < len(wanted):
        now = hours.ingested_at(ran[-1]).astimezone(UTC) + timedelta(minutes=59)
        ran.append(table.next_key(ran[-1], now, catchup=False) or "")
    assert ran == wanted


def test_a_backfill_of_hours_takes_those_that_begin_between_two_times_of_the_zones_clocks() -> None:
    hours = Partitions(every="hour", first=date(2024, 11, 1), last=date(2024, 11, 3), timezone="America/New_York")
    dag = DagSerialization.from_dict(DagSerialization.to_dict(DAG("p.ingest", **clock(hours))))

    def keys(*bounds: datetime) -> list[str]:
        return [info.partition_key for info in dag.iter_dagrun_infos_between(*bounds)]

    assert keys(datetime(2024, 11, 3, 1, tzinfo=UTC), datetime(2024, 11, 3, 1, 30, tzinfo=UTC)) == [
        "2024-11-03T05Z",
        "2024-11-03T06Z",
    ]
    assert keys(datetime(2024, 11, 3, tzinfo=UTC), datetime(2024, 11, 3, 2, tzinfo=UTC)) == [
        f"2024-11-03T0{hour}Z" for hour in (4, 5, 6, 7)
    ]
    assert len(keys(datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))) == 24 + 24 + 25
    assert dag.timetable.resolve_partition_date("2024-11-03T06Z") == datetime(2024, 11, 3, 6, tzinfo=UTC)


def test_the_scheduler_starts_with_the_newest_partition_and_leaves_out_what_closed_while_it_was_down() -> None:
    table = ClosedPartitions(Partitions(every="day", first=date(2024, 1, 1), timezone="America/New_York"))
    now = datetime(2024, 3, 11, 12, tzinfo=UTC)
    assert table.next_key(None, now, catchup=False) == "2024-03-10"
    assert table.next_key("2024-03-02", now, catchup=False) == "2024-03-10"
    assert table.next_key("2024-03-10", now, catchup=False) == "2024-03-11"


def test_a_backfill_takes_the_partitions_that_begin_in_its_days() -> None:
    partitions = Partitions(every="week", first=date(2024, 1, 1), last=date(2024, 3, 25), timezone="Asia/Tokyo")
    dag = DagSerialization.from_dict(DagSerialization.to_dict(DAG("p.ingest", **clock(partitions))))
    infos = list(dag.iter_dagrun_infos_between(datetime(2024, 2, 6, tzinfo=UTC), datetime(2024, 2, 19, tzinfo=UTC)))
    assert [info.partition_key for info in infos] == ["2024-02-12", "2024-02-19"]
    assert infos[0].partition_date == datetime(2024, 2, 11, 15, tzinfo=UTC)
    assert dag.timetable.resolve_partition_date("2024-02-12") == infos[0].partition_date
    until_now = dag.iter_dagrun_infos_between(datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))
    assert [info.partition_key for info in until_now] == partitions.between("2024-01-01", "2024-03-25")
