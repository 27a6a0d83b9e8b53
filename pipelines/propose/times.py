"""When an event happens, which times come after it, and on which clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from pipelines import sql
from pipelines.propose import words
from pipelines.propose.facts import Facts
from pipelines.propose.table import ROWS, Clock, Column, Table

TIME = "event_time"
COMPLETE = 0.95  # share of rows that have the time of the event
ORDERED = 0.98  # share of rows in which one time does not lie before another
# Zones that people's tables are in most often, in the order in which they are tried.
ZONES = (
    *("UTC", "America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles", "America/Phoenix"),
    *("Europe/London", "Europe/Berlin", "Europe/Helsinki", "Europe/Istanbul", "America/Sao_Paulo", "Asia/Kolkata"),
    *("Asia/Shanghai", "Asia/Tokyo", "Asia/Dubai", "Asia/Singapore", "Australia/Sydney", "Australia/Brisbane"),
    *("Australia/Adelaide", "Pacific/Auckland", "America/Halifax", "Africa/Johannesburg", "Africa/Cairo"),
    *("Asia/Karachi", "Asia/Dhaka", "Asia/Tehran", "Asia/Kathmandu"),
)


@dataclass(frozen=True)
class EventTime:
    """SQL of it over the source (`expression`) and over ROWS (`of_rows`), which columns it is made of, and why."""

    columns: tuple[str, ...]
    expression: str
    of_rows: str
    clock: Clock
    why: str
    is_whole: bool = True
    """each row has one"""
    given: str = ""
    """SQL over the source that is null where a row has none; of one that cannot be read it is not: that is set aside"""


def event_time(table: Table, facts: Mapping[str, Facts], target: str, named: Column | None = None) -> EventTime | None:
    """The time at which a row's event happens; None where no column tells.

    The names, complete columns first; of several, the one by which rows lie in order, then the earliest.
    """
    times = [c for c in table.columns if c.kind == "time" and c.name != target and facts[c.name].distinct > 1]
    whole = [c for c in times if facts[c.name].values >= COMPLETE * table.count and not words.of(c.name) & words.BIRTHS]
    if named is not None:
        return _of_column(named, facts, "as you said") if named.kind == "time" else None
    if not whole:
        return _of_parts(table, facts)
    scores = {c.name: _likely(table, c, whole) for c in whole}
    best = max(whole, key=lambda c: scores[c.name])
    others = [c.name for c in whole if c is not best]
    beside = f"; there are also {', '.join(others)}" if others else ""
    if best.clock == "date" and (finer := _of_parts(table, facts, best)):
        return finer
    return _of_column(best, facts, f"when the event happens{beside}")


def _of_column(column: Column, facts: Mapping[str, Facts], why: str) -> EventTime:
    quoted, is_whole = sql.quote(column.name), facts[column.name].nulls == column.unread
    why += f"; {column.note}" if column.note else ""
    return EventTime(
        (column.name,), column.expression, quoted, column.clock, why, is_whole, column.given or column.expression
    )


def _likely(table: Table, column: Column, times: Sequence[Column]) -> tuple[float, float]:
    hints = words.of(column.name)
    points = (
        2.0 * bool(hints & words.HAPPENS)
        - 3.0 * bool(hints & words.BEFORE)
        - 3.0 * bool(hints & (words.AFTER | words.PLANNED))
    )
    quoted = sql.quote(column.name)
    (in_order,) = table.database.execute(
        f"SELECT coalesce(avg((moment >= before)::INT), 0) FROM "
        f"(SELECT {quoted} AS moment, lag({quoted}) OVER () AS before FROM {ROWS})"
    ).fetchall()[0]
    points += 1.5 * (in_order > 0.95)
    before = 0
    for other in times:
        if other.name != column.name:
            before += share_not_before(table, other.name, quoted) >= ORDERED
    return points, before


def share_not_before(table: Table, later: str, earlier: str) -> float:
    """Share of the rows with both times in which one does not lie before the other (SQL)."""
    name = sql.quote(later)
    (share,) = table.database.execute(
        f"SELECT avg((CAST({name} AS TIMESTAMP) >= CAST({earlier} AS TIMESTAMP))::INT) FROM {ROWS}"
    ).fetchall()[0]
    return float(share or 0.0)


def _of_parts(table: Table, facts: Mapping[str, Facts], day: Column | None = None) -> EventTime | None:
    """A time out of columns of years, quarters, months, days and hours; months may be names."""
    numbers = [c for c in table.columns if c.kind in ("integer", "float") and not facts[c.name].nulls]

    def part(names: frozenset[str], low: int, high: int, rest: frozenset[str] = frozenset()) -> Column | None:
        """A whole number of that range by its name, `rest` being its other words."""
        for column in numbers:
            hints, known = words.of(column.name), facts[column.name]
            if hints - rest in [{name} for name in names] and rest <= hints and known.low >= low and known.high <= high:
                return column
        return None

    if day is not None:
        hour = part(words.HOUR, 0, 23)
        if hour is None:
            return None
        parts = [day, hour]

        def made_of_day(d: str, h: str) -> str:
            return f"CAST({d} AS TIMESTAMP) + to_hours(CAST({h} AS INTEGER))"

        return EventTime(
            tuple(c.name for c in parts),
            made_of_day(*(c.expression for c in parts)),
            made_of_day(*(sql.quote(c.name) for c in parts)),
            "local",
            "made of a day and an hour" + (f"; {day.note}" if day.note else ""),
            facts[day.name].nulls == day.unread,
            day.given or day.expression,
        )
    about = [words.of(c.name) - words.YEAR for c in numbers if words.of(c.name) & words.YEAR]
    for rest in map(frozenset, sorted(about, key=len)):  # of a year of sale the month of sale
        year, month = part(words.YEAR, 1900, 2100, rest), part(words.MONTH, 1, 12, rest)
        if year is not None and month is not None:
            break
    else:
        return _of_year(table, facts, part)
    of_month = part(words.DAY, 1, 31, rest)
    hour, minute = part(words.HOUR, 0, 23, rest), part(words.MINUTE, 0, 59, rest)
    parts = [year, month, *([of_month] if of_month else [])]
    clocks = [c for c in (hour, minute) if c and of_month]
    clocks = clocks if hour in clocks else []

    def made(names: Sequence[str]) -> str:
        given = [f"CAST({name} AS BIGINT)" for name in names]
        dated = [*given[: len(parts)], *([] if of_month else ["1"])]
        if not clocks:
            return f"make_date({', '.join(dated)})"
        clock = [*given[len(parts) :], *(["0"] if len(clocks) == 1 else []), "0"]
        return f"make_timestamp({', '.join([*dated, *clock])})"

    used = [*parts, *clocks]
    return EventTime(
        tuple(c.name for c in used),
        made([c.expression for c in used]),
        made([sql.quote(c.name) for c in used]),
        "local" if clocks else "date",
        f"made of {', '.join(c.name for c in used)}",
    )


def _of_year(table: Table, facts: Mapping[str, Facts], part: Callable[..., Column | None]) -> EventTime | None:
    """A year with a quarter, or with the name of a month, each as its first day."""
    year = part(words.YEAR, 1900, 2100)
    if year is None:
        return None
    quarter = part(words.QUARTER, 1, 4)
    month = next((c for c in table.columns if words.of(c.name) <= words.MONTH and _names_months(table, facts, c)), None)
    within = quarter or month
    if within is None:
        return None
    number = "3 * CAST({} AS BIGINT) - 2" if within is quarter else "month(strptime(left(trim({}), 3), '%b'))"

    def made(of_year: str, of_part: str) -> str:
        return f"make_date(CAST({of_year} AS BIGINT), {number.format(of_part)}, 1)"

    return EventTime(
        (year.name, within.name),
        made(year.expression, within.expression),
        made(sql.quote(year.name), sql.quote(within.name)),
        "date",
        f"made of {year.name}, {within.name}",
    )


def _names_months(table: Table, facts: Mapping[str, Facts], column: Column) -> bool:
    if column.kind != "string" or facts[column.name].nulls or facts[column.name].distinct > 12:
        return False
    name = sql.quote(column.name)
    ((are_months,),) = table.database.execute(
        f"SELECT bool_and(try_strptime(left(trim({name}), 3), '%b') IS NOT NULL) FROM {ROWS}"
    ).fetchall()
    return bool(are_months)


def grain(table: Table, time: EventTime) -> str | None:
    """What a row is of, as SQL of an interval: a day, a week, a month; None where times have clocks."""
    moment = f"CAST({time.of_rows} AS TIMESTAMP)"
    (daily, weekly, monthly, quarterly) = table.database.execute(
        f"SELECT bool_and({moment} = date_trunc('day', {moment})), count(DISTINCT isodow({moment})) = 1, "
        f"bool_and(day({moment}) = 1) AND count(DISTINCT {moment}) > 2, bool_and(month({moment}) % 3 = 1) FROM {ROWS}"
    ).fetchall()[0]
    if not daily:
        return None
    if monthly:
        return "3 MONTH" if quarterly else "1 MONTH"
    return "7 DAY" if weekly else "1 DAY"


def later_times(table: Table, facts: Mapping[str, Facts], time: EventTime, target: str) -> list[Column]:
    """Columns of times that follow the event: they are known only then. What is planned is known before."""
    later = []
    for column in table.columns:
        if column.kind != "time" or column.name in (*time.columns, target) or not facts[column.name].values:
            continue
        hints = words.of(column.name)
        if hints & words.PLANNED:
            continue
        quoted = sql.quote(column.name)
        (not_before, after) = table.database.execute(
            f"SELECT avg((CAST({quoted} AS TIMESTAMP) >= CAST({time.of_rows} AS TIMESTAMP))::INT), "
            f"avg((CAST({quoted} AS TIMESTAMP) > CAST({time.of_rows} AS TIMESTAMP))::INT) FROM {ROWS}"
        ).fetchall()[0]
        if (not_before or 0) >= ORDERED and (after or 0) > 0.01:
            later.append(column)
    return later


def zone_of(table: Table, facts: Mapping[str, Facts], time: EventTime) -> tuple[str, str]:
    """An IANA time zone and how it was told; UTC where nothing tells."""
    column = table.column(time.columns[0])
    assert column is not None
    if time.clock == "date":
        return "UTC", "days without a clock"
    hints = words.of(column.name)
    if hints & words.UTC_WORDS:
        return "UTC", f"by the name {column.source!r}"
    for other in table.columns:
        if words.ZONE & words.of(other.name) and facts[other.name].distinct == 1:
            named = str(facts[other.name].low)
            if named in available_timezones():
                return named, f"by column {other.source!r}"
    written = table.offsets.get(column.name, {})
    for zone in ZONES if written else ():
        if all(_fits(text, offset, zone) for text, offset in written.items()):
            offsets = ", ".join(sorted(set(written.values()))[:3])
            return zone, f"look: fits the offsets that are written ({offsets})"
    if time.clock == "zoned":
        return "UTC", "times are moments; say in which zone days begin"
    return "UTC", "look: times say no zone"


def _fits(text: str, offset: str, zone: str) -> bool:
    if offset == "Z":
        return zone == "UTC"
    try:
        sign = -1 if offset[0] == "-" else 1
        digits = offset[1:].replace(":", "").ljust(4, "0")
        written = sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]))
        clock = datetime.fromisoformat(text.removesuffix(offset).strip().replace(" ", "T")[:26])
    except ValueError:
        return False
    moment = (clock - written).replace(tzinfo=ZoneInfo("UTC"))
    return moment.astimezone(ZoneInfo(zone)).utcoffset() == written
