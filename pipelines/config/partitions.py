"""How a problem cuts time."""

from __future__ import annotations

from datetime import date, datetime, timedelta
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
    at: str = Field("04:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="when a closed partition is ingested")

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"unknown time zone{did_you_mean(value, available_timezones())}")
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

    @property
    def cron(self) -> str:
        hour, minute = (int(part) for part in self.at.split(":"))
        return f"{minute} {hour} * * {1 if self.every == 'week' else '*'}"

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

    def start(self, key: str) -> datetime:
        """First moment of the partition, time zone aware."""
        day = self.parse(key)
        return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.timezone))

    def end(self, key: str) -> datetime:
        """First moment after the partition: what is known then is what its run may use."""
        return self.start(self.shift(key, 1))

    def shift(self, key: str, steps: int) -> str:
        return (self.parse(key) + timedelta(days=self.days * steps)).isoformat()

    def between(self, first: str, last: str) -> list[str]:
        """All keys from `first` to `last`, both included; none when `last` comes first."""
        count = (self.parse(last) - self.parse(first)).days // self.days + 1
        return [self.shift(first, step) for step in range(count)]
