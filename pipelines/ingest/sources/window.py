"""Which rows a run reads: those whose time lies in its partitions, or that have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa

from pipelines.config import Source
from pipelines.errors import SchemaError
from pipelines.ingest.sources.files import place
from pipelines.problem import Problem
from pipelines.sql import quote


@dataclass(frozen=True)
class Window:
    """Rows from `start` (included) to `end`, in UTC, by `column`; all rows where there is no column."""

    column: str | None
    start: datetime
    end: datetime
    where: str

    @property
    def literals(self) -> tuple[str, str]:
        """SQL literals of the bounds, for DuckDB and PostgreSQL alike."""
        start, end = (f"TIMESTAMPTZ '{time:%Y-%m-%d %H:%M:%S}+00'" for time in (self.start, self.end))
        return start, end

    def condition(self, kind: pa.DataType | None = None) -> str:
        """SQL condition for DuckDB, in the column's own type, so that it reaches the Parquet files' statistics."""
        if self.column is None:
            return "true"
        column = quote(self.column)
        start, end = self.literals
        if kind is not None:
            self.check(kind)
            if pa.types.is_timestamp(kind) and kind.tz is None:
                start, end = (f"CAST({one} AT TIME ZONE 'UTC' AS TIMESTAMP)" for one in (start, end))
            elif pa.types.is_date(kind):
                start, end = (f"DATE '{_first_day(time)}'" for time in (self.start, self.end))
        return f"(({column} >= {start} AND {column} < {end}) OR {column} IS NULL)"

    def check_name(self, names: Sequence[str]) -> None:
        """Raise SchemaError when there is no such column."""
        if self.column not in names:
            raise SchemaError(
                f"time_column: there is no column {self.column!r}",
                where=self.where,
                cure=f"name one of {', '.join(names)}",
            )

    def check(self, kind: pa.DataType | str) -> None:
        """Raise SchemaError when the column holds no times."""
        if kind == "timestamp" or (
            isinstance(kind, pa.DataType) and (pa.types.is_timestamp(kind) or pa.types.is_date(kind))
        ):
            return
        raise SchemaError(
            f"time_column: {self.column!r} is of type {kind}, and not a timestamp",
            where=self.where,
            cure="name a column of times, or declare it: a text is read as ISO 8601",
        )


def _first_day(time: datetime) -> date:
    """The first day whose midnight, in UTC, is not before a time."""
    return (time + timedelta(days=1) - timedelta(microseconds=1)).date()


def window(problem: Problem, name: str, source: Source, first: str, last: str) -> Window:
    """What is read for the partitions `first` to `last`: labels that arrived late lie further back."""
    back = timedelta(days=source.lookback_days + problem.labels.delay_days)
    start, end = problem.partitions.start(first) - back, problem.partitions.end(last)
    return Window(source.time_column, start.astimezone(UTC), end.astimezone(UTC), place(problem, name))
