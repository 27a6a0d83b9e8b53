"""How far the rows of a source reach: the newest of their times before each partition's end.

A source's times are its time column, or else all of its columns of times. What lies beyond a partition's end says
nothing of it: a promised date, or the rest of a history that is replayed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa

from pipelines import sql
from pipelines.config import Source
from pipelines.handoffs.ingestion import Reach, Reading, most_readings
from pipelines.ingest.sources.columnar import types_of
from pipelines.ingest.sources.files import File
from pipelines.ingest.sources.moments import is_time, moment
from pipelines.ingest.sources.window import NANOSECONDS
from pipelines.problem import Problem

if TYPE_CHECKING:
    import duckdb

QUARTER_US = 15 * 60 * 1_000_000  # in no time zone does a partition end within one
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Mark(NamedTuple):
    """A moment at which it is asked how far sources reach: the end of a partition."""

    partition: str
    until: datetime


def marks(problem: Problem, keys: Sequence[str], now: datetime) -> list[Mark]:
    """The ends of the newest of a run's partitions; deliveries are no times, and read at `now`."""
    parts = problem.partitions
    if parts.by_delivery:
        return [Mark(keys[-1], now.astimezone(UTC))]
    return [Mark(key, parts.end(key).astimezone(UTC)) for key in keys[-most_readings(parts.every) :]]


def time_columns(source: Source, kinds: Mapping[str, str]) -> list[str]:
    """The columns that tell how far a source reaches; `kinds`: DuckDB types by name."""
    if source.time_column is not None:
        return [source.time_column] if is_time(kinds.get(source.time_column, "")) else []
    return [name for name, kind in kinds.items() if is_time(kind)]


def read(
    database: duckdb.DuckDBPyConnection, view: str, source: Source, zone: str, asked: Sequence[Mark]
) -> tuple[int, Reach]:
    """Rows of a view, and how far they reach: one scan."""
    kinds = types_of(database, sql.quote(view))
    columns = time_columns(source, kinds)
    if not columns or not asked:
        rows = database.execute(f"SELECT count(*) FROM {sql.quote(view)}").fetchall()[0][0]
        return int(rows), Reach(_in_words(columns))
    end = _microseconds(asked[-1].until)
    times = ", ".join(_within(moment(sql.quote(name), kinds[name], zone), end) for name in columns)
    # All that is older than the first counts as one quarter, and so do rows without a time.
    oldest = (_microseconds(asked[0].until) // QUARTER_US - 1) * QUARTER_US
    groups = database.execute(f"""
        SELECT count(*), max(time) FROM (SELECT greatest({times}) AS time FROM {sql.quote(view)})
        GROUP BY (greatest(time, {oldest}) - {oldest}) // {QUARTER_US}""").fetchall()
    newest = sorted(int(time) for _, time in groups if time is not None)
    highest = list(accumulate(newest, max))
    readings = []
    for mark in asked:
        before = bisect_right(newest, _microseconds(mark.until) - 1)
        readings.append(Reading(mark.partition, mark.until, _moment(highest[before - 1]) if before else None))
    return sum(int(rows) for rows, _ in groups), Reach(_in_words(columns), readings)


def from_footers(source: Source, footers: Iterable[Any], zone: str, asked: Sequence[Mark]) -> Reach:
    """The same of Parquet files that are not scanned, by what their footers say: of the last partition alone.

    Files that reach beyond its end are not looked into: then they reach up to there.
    """
    newest: dict[str, datetime] = {}
    unknown: set[str] = set()
    for footer in footers:
        wanted = {field.name for field in footer.schema.to_arrow_schema() if _is_wanted(field, source)}
        for group in (footer.row_group(index) for index in range(footer.num_row_groups)):
            for column in (group.column(number) for number in range(group.num_columns)):
                name = column.path_in_schema
                if name not in wanted or _is_without_values(column):
                    continue
                highest = _highest(column.statistics, zone)
                if highest is None:
                    unknown.add(name)
                else:
                    newest[name] = max(newest.get(name, highest), highest)
    known = sorted(set(newest) - unknown)
    if not known or not asked:
        return Reach(None)
    mark = asked[-1]
    last = min(max(newest[name] for name in known), mark.until)
    return Reach(_in_words(known), [Reading(mark.partition, mark.until, last)])


def arrived(files: Sequence[File]) -> datetime | None:
    """When the newest of files was written; None: they do not say."""
    times = [datetime.fromisoformat(file.modified).replace(tzinfo=UTC) for file in files if file.modified]
    return max(times, default=None)


def together(parts: Sequence[Reach]) -> Reach:
    """How far the parts of one source reach, read at the same mark."""
    readings = [part.readings[-1] for part in parts if part.readings]
    times = [reading.newest for reading in readings if reading.newest is not None]
    came = [part.arrived for part in parts if part.arrived is not None]
    merged = [readings[-1]._replace(newest=max(times, default=None))] if readings else []
    return Reach(parts[-1].columns, merged, max(came, default=None))


def _in_words(columns: Sequence[str]) -> str | None:
    return ", ".join(columns) or None


def _within(time: str, end: int) -> str:
    """SQL: a moment as microseconds since 1970, null from `end` on and where it is too far away to be one."""
    bounds = f"{time} >= TIMESTAMPTZ '{NANOSECONDS[0]:%Y-%m-%d} 00:00:00+00' AND {time} < make_timestamptz({end})"
    return f"CASE WHEN {bounds} THEN epoch_us({time}) END"


def _is_wanted(field: pa.Field, source: Source) -> bool:
    is_time = pa.types.is_timestamp(field.type) or pa.types.is_date(field.type)
    return bool(is_time and (not source.columns or field.name in source.columns))


def _is_without_values(column: Any) -> bool:
    statistics = column.statistics
    return bool(statistics is not None and statistics.has_null_count and statistics.null_count == column.num_values)


def _highest(statistics: Any, zone: str) -> datetime | None:
    """The highest time of a column's chunk as its file's footer has it; None: that does not say."""
    if statistics is None or not statistics.has_min_max:
        return None
    try:
        value = statistics.max
    except (OverflowError, ValueError):  # Python knows no year beyond 9999
        return None
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=ZoneInfo(zone)) if isinstance(value, date) else None
    clock = (value.hour, value.minute, value.second, value.microsecond)
    return datetime(value.year, value.month, value.day, *clock, tzinfo=value.tzinfo or ZoneInfo(zone)).astimezone(UTC)


def _microseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _moment(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)
