"""Partitions while clocks are put forward and back: each moment lies in one, each is ingested after it closed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.config import Partitions
from pipelines.errors import ConfigError

QUARTER_HOUR = timedelta(minutes=15)
ZONES = sorted(available_timezones())


def partitions(zone: str, at: str = "04:00", every: Literal["day", "week"] = "day") -> Partitions:
    return Partitions(every=every, first=date(1880, 1, 5), timezone=zone, at=at)


def changes(zone: str, year: int) -> Iterator[date]:
    """Days of a year, in UTC, on which the clocks of a zone are set."""
    days = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(367)]
    offsets = [day.astimezone(ZoneInfo(zone)).utcoffset() for day in days]
    yield from (day.date() for day, one, next_one in zip(days, offsets, offsets[1:], strict=False) if one != next_one)


def local(moment: datetime, zone: str) -> datetime:
    """What clocks show."""
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


@settings(max_examples=60)
@given(
    zone=st.sampled_from(ZONES),
    at=st.times().map(lambda one: f"{one:%H:%M}"),
    year=st.integers(1900, 2037),
    every=st.sampled_from(["day", "week"]),
)
@example(zone="America/New_York", at="02:00", year=2024, every="day")  # skipped
@example(zone="America/New_York", at="01:30", year=2024, every="day")  # twice
@example(zone="America/Sao_Paulo", at="00:00", year=2018, every="day")  # midnight is skipped, and 23:00 comes twice
@example(zone="Asia/Beirut", at="00:00", year=2022, every="day")
@example(zone="America/Havana", at="00:30", year=2024, every="week")  # midnight comes twice
@example(zone="Pacific/Apia", at="00:00", year=2011, every="day")  # 30 December was left out
@example(zone="Australia/Lord_Howe", at="02:15", year=2024, every="day")  # half an hour
@example(zone="America/St_Johns", at="00:00", year=2006, every="day")  # 00:01 is put back into the day before
@example(zone="Antarctica/Casey", at="00:30", year=2010, every="day")  # three hours back, over midnight
def test_every_partition_is_ingested_after_it_closed_whatever_clocks_do(
    zone: str, at: str, year: int, every: Literal["day", "week"]
) -> None:
    parts = partitions(zone, at, every)
    for day in changes(zone, year):
        keys = parts.between(parts.key_of(day - timedelta(days=3)), parts.key_of(day + timedelta(days=3)))
        moments = [parts.ingested_at(key).astimezone(UTC) for key in keys]
        assert moments == sorted(moments)
        for key, moment in zip(keys, moments, strict=True):
            later = [moment + n * QUARTER_HOUR for n in range(4 * 30)]
            assert not [one for one in later if parts.key_of(local(one, zone).date()) <= key], "it has not closed yet"
            wanted = datetime.combine(parts.parse(parts.shift(key, 1)), time.fromisoformat(at))
            assert local(moment, zone) >= wanted
            assert local(moment - timedelta(seconds=1), zone) < max(wanted, local(parts.end(key), zone)) or (
                moment == parts.end(key).astimezone(UTC)
            ), "as early as may be"


@settings(max_examples=60)
@given(zone=st.sampled_from(ZONES), year=st.integers(1900, 2037))
@example(zone="America/Havana", year=2024)
@example(zone="America/St_Johns", year=2006)
@example(zone="Pacific/Apia", year=2011)
def test_a_day_reaches_from_its_first_moment_to_its_last(zone: str, year: int) -> None:
    parts = partitions(zone)
    for day in changes(zone, year):
        for key in parts.between(parts.key_of(day - timedelta(days=2)), parts.key_of(day + timedelta(days=2))):
            start, end = (one.astimezone(UTC) for one in (parts.start(key), parts.end(key)))
            around = [start + n * QUARTER_HOUR for n in range(-4 * 26, 4 * 52)]
            assert all(start <= one < end for one in around if local(one, zone).date().isoformat() == key)
            if start == end:
                continue  # a day that was left out
            assert local(start, zone).date().isoformat() == key
            assert local(end - timedelta(seconds=1), zone).date().isoformat() == key


def test_where_clocks_skip_the_time_it_is_the_moment_at_which_they_do() -> None:
    days = partitions("America/New_York", at="02:30")
    assert days.ingested_at("2024-03-09").isoformat() == "2024-03-10T03:00:00-04:00"


def test_the_day_that_samoa_left_out_holds_no_moment_and_comes_once() -> None:
    days = partitions("Pacific/Apia")
    assert days.start("2011-12-30") == days.end("2011-12-30") == datetime(2011, 12, 30, 10, tzinfo=UTC)
    assert days.ingested_at("2011-12-30").isoformat() == "2011-12-31T04:00:00+14:00"


def test_a_partition_that_has_not_closed_is_refused_and_told_when_it_closes() -> None:
    days = partitions("America/New_York")
    days.require_closed("2024-03-09", datetime(2024, 3, 10, 5, tzinfo=UTC))
    with pytest.raises(ConfigError) as refused:
        days.require_closed("2024-03-10", datetime(2024, 3, 11, 3, 59, 59, tzinfo=UTC))
    assert refused.value.what == (
        "partition 2024-03-10 has not closed: it closes at 2024-03-11 00:00 America/New_York (2024-03-11 04:00 UTC)"
    )
    assert "2024-03-09 is the newest day that has closed" in refused.value.cure


def test_partitions_are_due_from_the_first_to_the_newest_that_should_be_there() -> None:
    days = Partitions(every="day", first=date(2024, 3, 8), timezone="America/New_York", at="02:00")
    before, after = (datetime(2024, 3, 10, *at, tzinfo=UTC) for at in ((6, 59), (7, 0)))  # 03:00 there
    assert days.due(before) == ["2024-03-08"]
    assert days.due(after) == ["2024-03-08", "2024-03-09"]
    assert days.due(datetime(2024, 3, 8, tzinfo=UTC)) == []
    ended = days.model_copy(update={"last": date(2024, 3, 9)})
    assert ended.due(datetime(2024, 6, 1, tzinfo=UTC)) == ["2024-03-08", "2024-03-09"]
