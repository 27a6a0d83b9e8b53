"""How a problem cuts its rows: by time, or by the deliveries that they came with."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from pipelines.config.base import Config, Name, did_you_mean, is_none, may_be_left_out
from pipelines.errors import ConfigError

HOUR = r"\d{4}-\d\d-\d\dT\d\d(?:\d\d)?Z"
DELIVERY = r"d\d{5}"
KEY = rf"(?:\d{{4}}-\d\d-\d\d|{HOUR}|{DELIVERY})"
"""Regular expression of the partition keys of all rhythms."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AN_HOUR = timedelta(hours=1)
DELAY = "00:10"  # of hours, from an hour's end to its ingest, where nothing is said
FIRST_DELIVERY = "d00001"
MOST_DELIVERIES = 99_999  # as many keys have the same length, and so the order of their numbers as texts


def day_or_hour(text: str) -> date | str:
    """The day that `text` names; the text itself where it has the form of the key of an hour or a delivery.

    >>> day_or_hour("2024-03-31"), day_or_hour("2024-03-31T05Z"), day_or_hour("d00003")
    (datetime.date(2024, 3, 31), '2024-03-31T05Z', 'd00003')

    Raises:
        ValueError: it is neither.
    """
    if _hour_named(text) is not None or re.fullmatch(DELIVERY, text):
        return text
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("name a day such as 2024-03-31, or an hour by its key, such as 2024-03-31T05Z") from None


def plural(every: str) -> str:
    """Several partitions, in words.

    >>> plural("day"), plural("delivery")
    ('days', 'deliveries')
    """
    return "deliveries" if every == "delivery" else f"{every}s"


def delivery_at(moment: str) -> str:
    """The delivery that a moment stands for, by its key.

    >>> delivery_at("1970-01-01T03:00:00+00:00")
    'd00003'
    """
    return Partitions.model_validate({"every": "delivery"}).key_of(datetime.fromisoformat(moment))


def is_key(value: Any) -> bool:
    """Whether it has the form of a partition's key, of whatever rhythm: 2024-01-31, 2024-01-31T05Z or d00003."""
    try:
        return isinstance(value, str) and str(day_or_hour(value)) == value
    except ValueError:
        return False


def _read(value: Any) -> Any:
    return day_or_hour(value) if isinstance(value, str) else value


DayOrHour = Annotated[date | Annotated[str, Field(pattern=f"^({HOUR}|{DELIVERY})$")], BeforeValidator(_read)]
"""A partition as problem.yaml names it: by a day; an hour or a delivery by its key."""


class Partitions(Config):
    """How rows are cut: partitions follow each other without a gap, and each has a name, its key.

    A day, week, month or quarter is named by its first day, in the problem's time zone. An hour is named by its first
    moment, in UTC: `2024-03-31T05Z`. That sorts as text in the order of time, needs no sign that files, URLs or
    Airflow would escape, and is another name for each of the two hours that clocks show alike when they are set back,
    while the hour that they skip has none. Hours follow each other every sixty minutes from `first` on: where clocks
    are ahead of UTC by part of an hour, an hour begins when clocks there show a full one, and its key has minutes
    (`2024-03-31T0530Z`). If they are ever set by part of an hour, hours go on as before, and begin between full ones.

    A delivery is named by its number, in the order in which they came: `d00003`. Nothing in its rows says when they
    happened. So that all that goes by time goes by the order of deliveries, each has a moment of its own: an hour, the
    n-th since 1970. Those are no times of the world, and no calendar applies to them.

    >>> weeks = Partitions(every="week", first=date(2012, 12, 31), timezone="America/New_York")
    >>> weeks.key_of(date(2013, 4, 3)), weeks.shift("2013-04-01", 1)
    ('2013-04-01', '2013-04-08')
    >>> weeks.start("2013-04-01").isoformat(), weeks.end("2013-04-01").isoformat()
    ('2013-04-01T00:00:00-04:00', '2013-04-08T00:00:00-04:00')
    >>> hours = Partitions(every="hour", first=date(2024, 11, 3), timezone="America/New_York")
    >>> [(key, f"{hours.start(key):%H:%M}") for key in hours.between("2024-11-03T04Z", "2024-11-03T07Z")]
    [('2024-11-03T04Z', '00:00'), ('2024-11-03T05Z', '01:00'), ('2024-11-03T06Z', '01:00'), ('2024-11-03T07Z', '02:00')]
    >>> deliveries = Partitions.model_validate({"every": "delivery"})
    >>> deliveries.between("d00009", deliveries.shift("d00009", 2)), deliveries.start("d00009").isoformat()
    (['d00009', 'd00010', 'd00011'], '1970-01-01T09:00:00+00:00')
    """

    model_config = ConfigDict(json_schema_extra=may_be_left_out("first"))

    every: Literal["hour", "day", "week", "month", "quarter", "delivery"] = Field(
        description="length of a partition; weeks start on Monday, quarters in January, April, July and October; "
        "delivery: each file, or each load, is one, where the data has no time"
    )
    timezone: str = Field("UTC", description="IANA time zone in which days begin")
    first: DayOrHour = Field(
        description="first day of the first partition; of hours, the day that begins with it, or its key; not of "
        "deliveries, which are counted from d00001"
    )
    last: DayOrHour | None = Field(
        None,
        description="first day of the last partition; of hours, the day that ends with it, or its key; "
        "null while data keeps coming",
    )
    source: Name | None = Field(
        None, exclude_if=is_none, description="of deliveries: the source that is delivered; null: the only one"
    )
    column: str | None = Field(
        None,
        exclude_if=is_none,
        description="of deliveries: the source's column that says which delivery a row came with; null: each file "
        "is one",
    )
    at: str = Field(
        "04:00",
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$",
        description="when a partition is ingested, on the day after its last; "
        "where clocks skip that time, when they have; never before the partition has closed. "
        f"Of hours, how long after it has closed: 01:30 is an hour and a half; default {DELAY}. Of deliveries, when "
        "new ones are looked for, each day",
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_rhythm(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        defaults = {"hour": {"at": DELAY}, "delivery": {"first": FIRST_DELIVERY}}
        return {**defaults.get(raw.get("every", ""), {}), **raw}

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        if value not in _timezones():
            raise ValueError(f"unknown time zone{did_you_mean(value, sorted(_timezones()))}")
        return value

    @model_validator(mode="after")
    def _whole_partitions(self) -> Partitions:
        if self.by_delivery and (self.first != FIRST_DELIVERY or self.last is not None):
            raise ValueError("deliveries have no first and last in time: they are counted as they come; leave both out")
        for name, value in (("source", self.source), ("column", self.column)):
            if value is not None and not self.by_delivery:
                raise ValueError(f"{name} goes with every: delivery; rows of a {self.every} are told by their time")
        for name, named in (("first", self.first), ("last", self.last)):
            if named is not None and (fault := self.fault_of(named)):
                raise ValueError(f"{name}: {fault}")
        if self.last_key is not None and self.last_key < self.first_key:
            raise ValueError(f"last ({self.last}) is before first ({self.first})")
        return self

    def fault_of(self, named: date | str) -> str | None:
        """Why a day, or an hour by its key, does not name a partition in problem.yaml; None where it does.

        >>> Partitions(every="month", first=date(2024, 1, 1)).fault_of(date(2024, 1, 15))
        'a month starts on its first day and 2024-01-15 is not one; use 2024-01-01'
        """
        if self.by_delivery:
            is_one = isinstance(named, str) and re.fullmatch(DELIVERY, named)
            return None if is_one else f"a delivery is named by its key, such as {FIRST_DELIVERY}, and {named} is none"
        if isinstance(named, str):
            if re.fullmatch(DELIVERY, named):
                return f"{named} names a delivery, and partitions are {self.plural}"
            if self.every != "hour":
                return f"a {self.every} is named by its first day, and {named} is an hour"
            key = self.key_of(_moment_of(named))
            return None if key == named else f"no hour has the key {named}; use {key}"
        if self.every == "hour" or (key := self.key_of(named)) == named.isoformat():
            return None
        begins = "Monday" if self.every == "week" else "its first day"
        return f"a {self.every} starts on {begins} and {named} is not one; use {key}"

    @property
    def by_delivery(self) -> bool:
        """Whether a partition is what came together, and not a slice of time."""
        return self.every == "delivery"

    @property
    def plural(self) -> str:
        """Several partitions, in words."""
        return plural(self.every)

    def place_of(self, moment: str) -> str:
        """A moment, in ISO 8601, as a page shows it: of deliveries, which have no times, the one that it stands for.

        >>> Partitions.model_validate({"every": "delivery"}).place_of("1970-01-01T03:00:00+00:00")
        'd00003'
        """
        return delivery_at(moment) if self.by_delivery else moment

    @property
    def first_key(self) -> str:
        """Key of the first partition."""
        return self.first_of(self.first)

    @property
    def last_key(self) -> str | None:
        """Key of the last partition; None while data keeps coming."""
        return None if self.last is None else self.last_of(self.last)

    @property
    def minutes_past(self) -> int:
        """How long after a full hour of UTC hours begin."""
        return _grid(self.first, self.timezone).minute

    def first_of(self, named: date | str) -> str:
        """The key of the first partition that a day, or a key, names: of hours, the one with which the day begins."""
        return named if isinstance(named, str) else self.key_of(named)

    def last_of(self, named: date | str) -> str:
        """The key of the last partition that a day, or a key, names: of hours, the one with which the day ends.

        >>> hours = Partitions(every="hour", first=date(2024, 3, 1), timezone="Asia/Kolkata")
        >>> hours.first_of(date(2024, 3, 31)), hours.last_of(date(2024, 3, 31))
        ('2024-03-30T1830Z', '2024-03-31T1730Z')
        """
        if isinstance(named, str) or self.every != "hour":
            return self.first_of(named)
        return self.key_of(self._over(named + timedelta(days=1)).astimezone(UTC) - timedelta.resolution)

    def named(self, named: date | str) -> list[str]:
        """All partitions that a day, or a key, names: of hours, those of the day."""
        return self.between(self.first_of(named), self.last_of(named))

    def key_of(self, when: date) -> str:
        """The key of the partition that holds a moment (time zone aware) or a day; of hours, the day's first moment."""
        return self._key(self._number(when))

    def parse(self, key: str) -> date:
        """The first day of partition `key`, of an hour its first moment; `key_of` it is `key`.

        Raises:
            ConfigError: it is no partition's name.
        """
        when: date | None
        try:
            if self.by_delivery:
                when = EPOCH + int(key[1:]) * AN_HOUR if re.fullmatch(DELIVERY, key) else None
            else:
                when = _hour_named(key) if self.every == "hour" else date.fromisoformat(key)
        except ValueError:
            when = None
        if when is None or self.key_of(when) != key:
            names = {"hour": "first moment of an hour, in UTC", "delivery": "number of a delivery, with five digits"}
            what = names.get(self.every, f"first day of a {self.every}")
            raise ConfigError(
                f"{key!r} names no partition",
                where="partition key",
                cure=f"name the {what}, such as {self.key_of(when) if when else self.first_key}",
            )
        return when

    def holds(self, key: str) -> bool:
        """Whether a partition is one of `first` to `last`."""
        self.parse(key)
        return self.first_key <= key and (self.last_key is None or key <= self.last_key)

    def is_past(self, now: datetime) -> bool:
        """Whether the last partition has closed by `now`: no more data comes. More deliveries may always come."""
        return self.last_key is not None and self.end(self.last_key).astimezone(UTC) <= now.astimezone(UTC)

    def start(self, key: str) -> datetime:
        """First moment of the partition, time zone aware: midnight, or where clocks skip it, when they have."""
        begin = self.parse(key)
        if isinstance(begin, datetime):
            return begin.astimezone(ZoneInfo(self.timezone))
        return self._moment(begin, time())

    def end(self, key: str) -> datetime:
        """First moment after the partition: what is known then is what its run may use.

        Where clocks go back over midnight, the old day is over only at the second one.
        """
        if self.by_delivery:
            return self.start(key) + AN_HOUR
        day, zone = self.parse(self.shift(key, 1)), ZoneInfo(self.timezone)
        if isinstance(day, datetime):
            return day.astimezone(zone)
        return self._over(day)

    def ingested_at(self, key: str) -> datetime:
        """When the partition is ingested: at `at` on the day after it, and never before it has closed.

        Of an hour it is so long after its end.

        >>> days = Partitions(every="day", first=date(2024, 3, 1), timezone="America/New_York", at="02:30")
        >>> [days.ingested_at(key).isoformat() for key in days.between("2024-03-08", "2024-03-09")]
        ['2024-03-09T02:30:00-05:00', '2024-03-10T03:00:00-04:00']
        >>> hours = Partitions(every="hour", first=date(2024, 3, 1))
        >>> hours.ingested_at("2024-03-31T05Z").isoformat()
        '2024-03-31T06:10:00+00:00'
        """
        day, at, end = self.parse(self.shift(key, 1)), time.fromisoformat(self.at), self.end(key)
        if isinstance(day, datetime):
            return (day + timedelta(hours=at.hour, minutes=at.minute)).astimezone(end.tzinfo)
        shown = (self._moment(day, at, fold=fold) for fold in (0, 1))
        return next((moment for moment in shown if moment.astimezone(UTC) >= end.astimezone(UTC)), end)

    def newest_due(self, now: datetime) -> str:
        """The newest partition whose time to be ingested has come by `now`, be it one of `first` to `last` or not."""
        key = self.shift(self.key_of(now), 1)
        while self.ingested_at(key) > now.astimezone(UTC):
            key = self.shift(key, -1)
        return key

    def due(self, now: datetime) -> list[str]:
        """The partitions from `first` to `last` whose time to be ingested has come by `now`."""
        return self.between(self.first_key, min(filter(None, [self.newest_due(now), self.last_key])))

    def require_closed(self, key: str, now: datetime) -> None:
        """Raises ConfigError where the partition has not closed by `now`: its rows are still coming.

        A delivery is whole when it comes.
        """
        if self.by_delivery:
            return
        end = self.end(key)
        if now.astimezone(UTC) < end:
            raise ConfigError(
                f"partition {key} has not closed: it closes at {end:%Y-%m-%d %H:%M} {self.timezone} "
                f"({end.astimezone(UTC):%Y-%m-%d %H:%M} UTC)",
                where="partition key",
                cure=f"ingest it after that; {self.shift(self.key_of(now), -1)} "
                f"is the newest {self.every} that has closed",
            )

    def shift(self, key: str, steps: int) -> str:
        return self._key(self._number(self.parse(key)) + steps)

    def between(self, first: str, last: str) -> list[str]:
        """All keys from `first` to `last`, both included; none when `last` comes first."""
        numbers = range(self._number(self.parse(first)), self._number(self.parse(last)) + 1)
        return [self._key(number) for number in numbers]

    def as_many_as(self, wait: timedelta) -> int:
        """How many partitions in a row last at least as long as `wait`, however short they are.

        >>> Partitions(every="month", first=date(2024, 1, 1)).as_many_as(timedelta(days=30))
        2
        """
        return -(-wait // SHORTEST[self.every])

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

    def _number(self, when: date) -> int:
        """The place of the partition that holds a moment or a day, among all that there are in a row."""
        if self.by_delivery:
            moment = when if isinstance(when, datetime) else datetime.combine(when, time(), UTC)
            return (moment.astimezone(UTC) - EPOCH) // AN_HOUR
        if self.every == "hour":
            moment = when if isinstance(when, datetime) else self._moment(when, time())
            return (moment.astimezone(UTC) - _grid(self.first, self.timezone)) // AN_HOUR
        day = when.astimezone(ZoneInfo(self.timezone)) if isinstance(when, datetime) else when
        match self.every:
            case "day":
                return day.toordinal()
            case "week":  # the first day of all, 0001-01-01, is a Monday
                return (day.toordinal() - 1) // 7
            case "month":
                return day.year * 12 + day.month - 1
            case "quarter":
                return day.year * 4 + (day.month - 1) // 3
        raise AssertionError(self.every)

    def _key(self, number: int) -> str:
        """The key of the partition at a place."""
        match self.every:
            case "hour":
                moment = _grid(self.first, self.timezone) + number * AN_HOUR
                return f"{moment.isoformat()[:13]}{f'{moment.minute:02}' if moment.minute else ''}Z"
            case "day":
                return date.fromordinal(number).isoformat()
            case "week":
                return date.fromordinal(number * 7 + 1).isoformat()
            case "month":
                return date(number // 12, number % 12 + 1, 1).isoformat()
            case "quarter":
                return date(number // 4, number % 4 * 3 + 1, 1).isoformat()
            case "delivery":  # none lies before the first but d00000, which never comes
                if number > MOST_DELIVERIES:
                    raise ConfigError(
                        f"there is no delivery {number:,}: at most {MOST_DELIVERIES:,} are counted",
                        where="partition key",
                        cure="let a delivery hold more rows",
                    )
                return f"d{max(number, 0):05}"

    def _over(self, day: date) -> datetime:
        """When the day before `day` is over: where clocks go back over midnight, at the second one."""
        first, second = (self._moment(day, time(), fold=fold) for fold in (0, 1))
        before = _wall(second.astimezone(UTC) - timedelta(seconds=1), ZoneInfo(self.timezone))
        return second if before.date() < day else first

    def _moment(self, day: date, wall: time, fold: int = 0) -> datetime:
        """When clocks of the zone show a time of a day; see `_shown`."""
        return _shown(ZoneInfo(self.timezone), day, wall, fold)


SHORTEST = {
    "hour": AN_HOUR,
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=28),
    "quarter": timedelta(days=90),
    "delivery": AN_HOUR,
}
"""How long a partition is at least, by whole days."""


@cache
def _grid(first: date | str, timezone: str) -> datetime:
    """A moment at which an hour begins, as all others do a multiple of sixty minutes before or after.

    To the minute: that some clocks of the past were ahead of UTC by seconds too is left out.
    """
    start = _moment_of(first) if isinstance(first, str) else _shown(ZoneInfo(timezone), first, time()).astimezone(UTC)
    return EPOCH + timedelta(minutes=start.minute)


def _hour_named(text: str) -> datetime | None:
    """The moment that a text in the form of an hour's key names; None for any other text."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if re.fullmatch(HOUR, text) else None
    except ValueError:
        return None


def _moment_of(key: str) -> datetime:
    moment = _hour_named(key)
    assert moment is not None
    return moment


@cache
def _timezones() -> frozenset[str]:
    """The names that are known here: finding them walks all files of the database of time zones."""
    return frozenset(available_timezones())


def _shown(zone: ZoneInfo, day: date, wall: time, fold: int = 0) -> datetime:
    """When clocks show a time of a day, for the first time (`fold` 0) or the last; or when they skip it."""
    shown = datetime.combine(day, wall)
    by_former, by_latter = (shown.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    skipped = (by_former - by_latter) // timedelta(seconds=1)
    if skipped <= 0:
        return (by_latter if fold else by_former).astimezone(zone)
    # The offsets before and after the skip, taken for the whole of it, lie around the moment at which it happens.
    seconds = range(skipped + 1)
    after = bisect_left(seconds, shown, key=lambda s: _wall(by_latter + timedelta(seconds=s), zone))
    return (by_latter + timedelta(seconds=after)).astimezone(zone)


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)
