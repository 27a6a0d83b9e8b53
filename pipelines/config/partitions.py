"""How a problem cuts time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, field_validator, model_validator

from pipelines.config.base import Config, did_you_mean
from pipelines.errors import ConfigError


class Partitions(Config):
    """How time is cut: a partition is named by its first day, in the problem's time zone.

    >>> weeks = Partitions(every="week", first=date(2012, 12, 31), timezone="America/New_York")
    >>> weeks.key_of(date(2013, 4, 3)), weeks.shift("2013-04-01", 1)
    ('2013-04-01', '2013-04-08')
    >>> weeks.start("2013-04-01").isoformat(), weeks.end("2013-04-01").isoformat()
    ('2013-04-01T00:00:00-04:00', '2013-04-08T00:00:00-04:00')
    """

    every: Literal["day", "week"] = Field(description="length of a partition; weeks start on Monday")
    timezone: str = Field("UTC", description="IANA time zone in which days begin")
    first: date = Field(description="first day of the first partition")
    last: date | None = Field(None, description="first day of the last partition; null while data keeps coming")
    at: str = Field(
        "04:00",
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$",
        description="when a partition is ingested, on the day after its last; "
        "where clocks skip that time, when they have; never before the partition has closed",
    )

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        if value not in _timezones():
            raise ValueError(f"unknown time zone{did_you_mean(value, sorted(_timezones()))}")
        return value

    @model_validator(mode="after")
    def _whole_partitions(self) -> Partitions:
        for name, day in (("first", self.first), ("last", self.last)):
            if day is not None and self.every == "week" and day.weekday() != 0:
                monday = day - timedelta(days=day.weekday())
                raise ValueError(f"{name}: a week starts on Monday and {day} is not one; use {monday}")
        if self.last is not None and self.last < self.first:
            raise ValueError(f"last ({self.last}) is before first ({self.first})")
        return self

    @property
    def days(self) -> int:
        return 7 if self.every == "week" else 1

    def key_of(self, day: date) -> str:
        """The key of the partition that holds `day`."""
        return (day - timedelta(days=day.weekday() if self.every == "week" else 0)).isoformat()

    def parse(self, key: str) -> date:
        """The first day of partition `key`; raises ConfigError when it is no partition's name."""
        try:
            day = date.fromisoformat(key)
        except ValueError:
            day = None
        if day is None or self.key_of(day) != key:
            raise ConfigError(
                f"{key!r} names no partition",
                where="partition key",
                cure=f"name the first day of a {self.every}, such as {self.key_of(day or self.first)}",
            )
        return day

    def holds(self, key: str) -> bool:
        """Whether a partition is one of `first` to `last`."""
        day = self.parse(key)
        return self.first <= day and (self.last is None or day <= self.last)

    def start(self, key: str) -> datetime:
        """First moment of the partition, time zone aware: midnight, or where clocks skip it, when they have."""
        return self._moment(self.parse(key), time())

    def end(self, key: str) -> datetime:
        """First moment after the partition: what is known then is what its run may use.

        Where clocks go back over midnight, the old day is over only at the second one.
        """
        day, zone = self.parse(self.shift(key, 1)), ZoneInfo(self.timezone)
        first, second = (self._moment(day, time(), fold=fold) for fold in (0, 1))
        return second if _wall(second.astimezone(UTC) - timedelta(seconds=1), zone).date() < day else first

    def ingested_at(self, key: str) -> datetime:
        """When the partition is ingested: at `at` on the day after it, and never before it has closed.

        >>> days = Partitions(every="day", first=date(2024, 3, 1), timezone="America/New_York", at="02:30")
        >>> [days.ingested_at(key).isoformat() for key in days.between("2024-03-08", "2024-03-09")]
        ['2024-03-09T02:30:00-05:00', '2024-03-10T03:00:00-04:00']
        """
        day, at, end = self.parse(self.shift(key, 1)), time.fromisoformat(self.at), self.end(key)
        shown = (self._moment(day, at, fold=fold) for fold in (0, 1))
        return next((moment for moment in shown if moment.astimezone(UTC) >= end.astimezone(UTC)), end)

    def newest_due(self, now: datetime) -> str:
        """The newest partition whose time to be ingested has come by `now`, be it one of `first` to `last` or not."""
        key = self.shift(self.key_of(now.astimezone(ZoneInfo(self.timezone)).date()), 1)
        while self.ingested_at(key) > now.astimezone(UTC):
            key = self.shift(key, -1)
        return key

    def due(self, now: datetime) -> list[str]:
        """The partitions from `first` to `last` whose time to be ingested has come by `now`."""
        newest = min([self.newest_due(now), *([self.last.isoformat()] if self.last else [])])
        return self.between(self.first.isoformat(), newest)

    def require_closed(self, key: str, now: datetime) -> None:
        """Raises ConfigError where the partition has not closed by `now`: its rows are still coming."""
        end = self.end(key)
        if now.astimezone(UTC) < end:
            raise ConfigError(
                f"partition {key} has not closed: it closes at {end:%Y-%m-%d %H:%M} {self.timezone} "
                f"({end.astimezone(UTC):%Y-%m-%d %H:%M} UTC)",
                where="partition key",
                cure=f"ingest it after that; {self.shift(self.key_of(now.astimezone(end.tzinfo).date()), -1)} "
                f"is the newest {self.every} that has closed",
            )

    def shift(self, key: str, steps: int) -> str:
        return (self.parse(key) + timedelta(days=self.days * steps)).isoformat()

    def between(self, first: str, last: str) -> list[str]:
        """All keys from `first` to `last`, both included; none when `last` comes first."""
        start, step = self.parse(first), timedelta(days=self.days)
        count = (self.parse(last) - start) // step + 1
        return [(start + number * step).isoformat() for number in range(count)]

    def spans(self, keys: Sequence[str], most: int = 3) -> str:
        """Many keys in few words: those that follow each other as a range.

        >>> days = Partitions(every="day", first=date(2024, 1, 1))
        >>> days.spans(["2024-01-01", "2024-01-03", "2024-01-02", "2024-01-05"])
        '2024-01-01 to 2024-01-03, 2024-01-05'
        >>> days.spans(days.between("2024-01-01", "2024-12-31")[::2], most=2)
        '2024-01-01, 2024-01-03 and 181 more, up to 2024-12-30'
        """
        runs: list[list[str]] = []
        for key in sorted(set(keys)):
            if runs and self.shift(runs[-1][-1], 1) == key:
                runs[-1].append(key)
            else:
                runs.append([key])
        shown = ", ".join(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs[:most])
        left = sum(map(len, runs[most:]))
        return shown + (f" and {left} more, up to {runs[-1][-1]}" if left else "")

    def _moment(self, day: date, wall: time, fold: int = 0) -> datetime:
        """When clocks show a time of a day, for the first time (`fold` 0) or the last; or when they skip it."""
        zone = ZoneInfo(self.timezone)
        shown = datetime.combine(day, wall)
        by_former, by_latter = (shown.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        skipped = (by_former - by_latter) // timedelta(seconds=1)
        if skipped <= 0:
            return (by_latter if fold else by_former).astimezone(zone)
        # The offsets before and after the skip, taken for the whole of it, lie around the moment at which it happens.
        seconds = range(skipped + 1)
        after = bisect_left(seconds, shown, key=lambda s: _wall(by_latter + timedelta(seconds=s), zone))
        return (by_latter + timedelta(seconds=after)).astimezone(zone)


@cache
def _timezones() -> frozenset[str]:
    """The names that are known here: finding them walks all files of the database of time zones."""
    return frozenset(available_timezones())


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)
