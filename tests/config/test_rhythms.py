"""Hours, days, weeks, months and quarters in all time zones: a moment lies in one partition, and keys are in order."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo, available_timezones

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines import sql
from pipelines.config import Partitions, is_key
from pipelines.config.partitions import KEY
from pipelines.errors import ConfigError

Rhythm = Literal["hour", "day", "week", "month", "quarter"]
EVERY = st.sampled_from(get_args(Rhythm))
ZONE = st.sampled_from(sorted(available_timezones()))
MOMENT = st.datetimes(datetime(1900, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC))
FIRST = date(1879, 12, 29)  # a Monday
CLOCKS = [
    ("America/New_York", datetime(2024, 3, 10, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2024, 11, 3, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2024, 4, 6, 15, tzinfo=UTC)),  # by half an hour
    ("America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC)),  # midnight is skipped
    ("America/Havana", datetime(2024, 11, 3, 5, tzinfo=UTC)),  # midnight comes twice
    ("America/St_Johns", datetime(2006, 10, 29, 2, 31, tzinfo=UTC)),  # 00:01 is put back into the day before
    ("Asia/Pyongyang", datetime(2018, 5, 4, 15, tzinfo=UTC)),  # from half past to full hours, at midnight
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),  # a day is left out
]


def rhythm(every: Rhythm, zone: str, **more: object) -> Partitions:
    first = {"month": date(1880, 1, 1), "quarter": date(1880, 1, 1)}.get(every, FIRST)
    return Partitions.model_validate({"every": every, "first": first, "timezone": zone, **more})


def utc(moment: datetime) -> datetime:
    """Moments of one zone are compared by what clocks show."""
    return moment.astimezone(UTC)


def check_moment(parts: Partitions, moment: datetime) -> None:
    key = parts.key_of(moment)
    assert utc(parts.start(key)) <= moment < utc(parts.end(key))
    assert parts.key_of(parts.start(key)) == key
    before, after = parts.shift(key, -1), parts.shift(key, 1)
    assert before < key < after and is_key(key) and re.fullmatch(KEY, key)
    assert parts.key_of(parts.parse(key)) == key
    for one, following in ((before, key), (key, after)):
        if parts.end(one) == parts.start(following):
            continue
        assert utc(parts.end(one)) > utc(parts.start(following)), "no gap"
        at_the_end = parts.end(one).astimezone(UTC) - timedelta(seconds=1)
        assert parts.every != "hour" and parts.key_of(at_the_end) == one, "clocks go back over midnight"
    keys = parts.between(parts.shift(key, -3), parts.shift(key, 3))
    assert keys == sorted(keys) == [parts.shift(key, steps) for steps in range(-3, 4)]
    assert parts.between(after, key) == []


@settings(max_examples=300)
@given(every=EVERY, zone=ZONE, moment=MOMENT)
def test_a_moment_lies_in_one_partition(every: Rhythm, zone: str, moment: datetime) -> None:
    check_moment(rhythm(every, zone), moment)


@pytest.mark.parametrize("every", get_args(Rhythm))
@pytest.mark.parametrize(("zone", "change"), CLOCKS)
def test_a_moment_lies_in_one_partition_while_clocks_are_set(every: Rhythm, zone: str, change: datetime) -> None:
    for minutes in range(-36 * 60, 36 * 60, 41):
        check_moment(rhythm(every, zone), change + timedelta(minutes=minutes))


@settings(max_examples=200)
@given(every=EVERY, zone=ZONE, now=MOMENT, at=st.times().map(lambda clock: f"{clock:%H:%M}"))
@example(every="hour", zone="America/New_York", now=datetime(2024, 11, 3, 6, 30, tzinfo=UTC), at="23:59")
@example(every="month", zone="America/Sao_Paulo", now=datetime(2018, 11, 4, 3, tzinfo=UTC), at="00:00")
def test_what_is_due_has_closed_and_nothing_that_should_be_ingested_is_left_out(
    every: Rhythm, zone: str, now: datetime, at: str
) -> None:
    parts = rhythm(every, zone, at=at)
    newest = parts.newest_due(now)
    keys = parts.between(parts.shift(newest, -2), parts.shift(newest, 2))
    moments = [utc(parts.ingested_at(key)) for key in keys]
    assert moments == sorted(moments)
    assert moments[2] <= now < moments[3]
    assert all(utc(parts.end(key)) <= moment for key, moment in zip(keys, moments, strict=True))
    parts.require_closed(newest, now)
    recent = parts.model_copy(update={"first": parts.parse(keys[0]) if every != "hour" else keys[0]})
    assert recent.due(now) == keys[:3]


@pytest.mark.parametrize("every", get_args(Rhythm))
@pytest.mark.parametrize(("zone", "change"), [*CLOCKS, ("Asia/Kathmandu", datetime(2024, 1, 1, tzinfo=UTC))])
def test_sql_and_python_name_the_same_partition(every: Rhythm, zone: str, change: datetime) -> None:
    parts = rhythm(every, zone, first="2000-01-01" if every != "week" else "2000-01-03")
    moments = [change + timedelta(minutes=minutes) for minutes in range(-40 * 60, 40 * 60, 11)]
    times = pa.table({"t": pa.array(moments, pa.timestamp("us", "UTC"))})
    named = sql.query(f"SELECT {sql.partition_of(parts, 't')} AS key FROM times ORDER BY t", {"times": times})
    assert named["key"].to_pylist() == [parts.key_of(moment) for moment in moments]


@pytest.mark.parametrize(
    ("zone", "day", "keys", "shown"),
    [
        ("America/New_York", date(2024, 3, 10), ["T05Z", "T06Z", "T07Z", "T08Z"], ["00:00", "01:00", "03:00", "04:00"]),
        ("America/New_York", date(2024, 11, 3), ["T04Z", "T05Z", "T06Z", "T07Z"], ["00:00", "01:00", "01:00", "02:00"]),
        ("America/St_Johns", date(2024, 11, 3), ["T0230Z", "T0330Z", "T0430Z"], ["00:00", "01:00", "01:00"]),
    ],
)
def test_an_hour_that_clocks_show_twice_has_two_keys_and_one_that_they_skip_none(
    zone: str, day: date, keys: list[str], shown: list[str]
) -> None:
    hours = Partitions(every="hour", first=day, timezone=zone)
    found = hours.between(hours.first_key, hours.shift(hours.first_key, len(keys) - 1))
    assert found == [f"{day}{key}" for key in keys]
    assert [f"{hours.start(key):%H:%M}" for key in found] == shown
    assert len({hours.start(key).astimezone(UTC) for key in found}) == len(keys)


@settings(max_examples=100)
@given(zone=ZONE, day=st.dates(date(1975, 1, 1), date(2030, 1, 1)))
@example(zone="Iran", day=date(2001, 9, 21))  # whose last hour comes twice
def test_hours_begin_with_the_day_that_first_names_and_end_with_the_day_that_last_names(zone: str, day: date) -> None:
    hours = Partitions(every="hour", first=day, last=day, timezone=zone)
    assert hours.last_key is not None
    days = Partitions(every="day", first=day, timezone=zone)
    begin, end = days.start(day.isoformat()), days.end(day.isoformat())
    assert hours.start(hours.first_key) == begin
    assert utc(hours.start(hours.last_key)) < utc(end) <= utc(hours.end(hours.last_key)) or begin == end
    same = Partitions(every="hour", first=hours.first_key, last=hours.last_key, timezone=zone)
    assert hours.named(day) == hours.between(hours.first_key, hours.last_key)
    assert hours.named(hours.first_key) == [hours.first_key]
    assert (same.first_key, same.last_key) == (hours.first_key, hours.last_key)
    assert Partitions.model_validate(same.model_dump(mode="json")) == same


def test_months_and_quarters_are_named_by_their_first_day() -> None:
    months = Partitions(every="month", first=date(2023, 11, 1), timezone="Asia/Tokyo")
    assert months.between("2023-11-01", "2024-02-01") == ["2023-11-01", "2023-12-01", "2024-01-01", "2024-02-01"]
    assert months.end("2024-02-01").isoformat() == "2024-03-01T00:00:00+09:00"
    assert months.ingested_at("2024-02-01").isoformat() == "2024-03-01T04:00:00+09:00"
    quarters = Partitions(every="quarter", first=date(2023, 10, 1), last=date(2024, 7, 1))
    assert quarters.due(datetime(2024, 7, 1, 4, tzinfo=UTC)) == ["2023-10-01", "2024-01-01", "2024-04-01"]
    assert quarters.spans(["2023-10-01", "2024-01-01", "2024-07-01"]) == "2023-10-01 to 2024-01-01, 2024-07-01"
    assert (quarters.shift("2024-01-01", -1), quarters.key_of(date(2024, 9, 30))) == ("2023-10-01", "2024-07-01")


def test_an_hour_is_ingested_so_long_after_it_has_closed() -> None:
    hours = Partitions(every="hour", first=date(2024, 3, 10), timezone="America/New_York")
    assert hours.at == "00:10"
    assert Partitions(every="day", first=date(2024, 3, 10)).at == "04:00"
    assert hours.ingested_at("2024-03-10T06Z").isoformat() == "2024-03-10T03:10:00-04:00"
    assert hours.newest_due(datetime(2024, 3, 10, 7, 9, tzinfo=UTC)) == "2024-03-10T05Z"
    with pytest.raises(ConfigError, match="2024-03-10T06Z is the newest hour that has closed"):
        hours.require_closed("2024-03-10T07Z", datetime(2024, 3, 10, 7, 59, tzinfo=UTC))


@pytest.mark.parametrize(
    ("every", "key", "cure"),
    [
        ("month", "2024-01-15", "name the first day of a month, such as 2024-01-01"),
        ("quarter", "2024-02-01", "name the first day of a quarter, such as 2024-01-01"),
        ("day", "2024-01-15T05Z", "name the first day of a day, such as 2024-01-01"),
        ("hour", "2024-01-15", "name the first moment of an hour, in UTC, such as 2024-01-01T00Z"),
        ("hour", "2024-01-15T0530Z", "such as 2024-01-15T05Z"),
        ("hour", "2024-01-15T25Z", "such as 2024-01-01T00Z"),
        ("hour", "2024-01-15T05:00:00+00:00", "such as 2024-01-01T00Z"),
    ],
)
def test_what_names_no_partition_is_told_what_does(every: Rhythm, key: str, cure: str) -> None:
    parts = Partitions(every=every, first=date(2024, 1, 1))
    with pytest.raises(ConfigError) as refused:
        parts.parse(key)
    assert cure in refused.value.cure


@pytest.mark.parametrize(
    ("every", "named", "fault"),
    [
        ("month", {"first": "2024-01-15"}, "first: a month starts on its first day and 2024-01-15 is not one"),
        ("quarter", {"first": "2024-02-01"}, "use 2024-01-01"),
        ("day", {"first": "2024-01-01T05Z"}, "a day is named by its first day, and 2024-01-01T05Z is an hour"),
        ("hour", {"first": "2024-01-01T0500Z"}, "no hour has the key 2024-01-01T0500Z; use 2024-01-01T05Z"),
        ("hour", {"first": "2024-01-02", "last": "2024-01-01T2330Z"}, "last: no hour has the key"),
        ("hour", {"first": "2024-01-02", "last": "2024-01-01"}, r"last \(2024-01-01\) is before first"),
        ("hour", {"first": "at once"}, "name a day such as 2024-03-31, or an hour by its key"),
    ],
)
def test_a_first_or_last_that_is_no_partition_is_told(every: Rhythm, named: dict[str, str], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        Partitions.model_validate({"every": every, **named})


@given(text=st.one_of(st.text(), st.from_regex(KEY, fullmatch=True), st.dates().map(str)))
@example("20240101")
@example("2024-W01-1")
@example("2024-01-01T05:00Z")
def test_what_is_taken_for_a_key_matches_their_expression(text: str) -> None:
    assert not is_key(text) or re.fullmatch(KEY, text)


@given(day=st.dates(), value=st.one_of(st.none(), st.integers(), st.dates()))
def test_a_day_in_words_is_a_key_and_what_is_no_text_is_none(day: date, value: object) -> None:
    assert is_key(str(day)) and is_key(f"{day}T05Z") and not is_key(value)


def test_hours_go_on_every_sixty_minutes_where_clocks_are_set_by_half_an_hour() -> None:
    hours = Partitions(every="hour", first=date(2024, 4, 6), timezone="Australia/Lord_Howe")
    keys = hours.between(hours.first_key, hours.shift(hours.first_key, 30))
    shown = [hours.start(key).astimezone(ZoneInfo("Australia/Lord_Howe")).minute for key in keys]
    assert set(shown[:26]) == {0} and set(shown[26:]) == {30}
