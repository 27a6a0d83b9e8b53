"""Which rows a run reads: those whose time lies in its partitions, or that have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipelines.config import Source
from pipelines.errors import SchemaError
from pipelines.ingest.sources.files import place
from pipelines.ingest.sources.moments import LOCAL, is_time, moment
from pipelines.problem import Problem
from pipelines.sql import quote

NO_VALUES = '"NULL"'  # DuckDB's type of a column without one
MARGIN = timedelta(days=2)  # no clock is as far from UTC, nor was it ever set by as much
NANOSECONDS = (datetime(1678, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC))  # what 64 bits of them reach


@dataclass(frozen=True)
class Window:
    """Rows from `start` (included) to `end`, in UTC, by `column`; all rows where there is no column.

    A time without a zone is one on the clock of the time zone `zone`.
    """

    column: str | None
    start: datetime
    end: datetime
    zone: str
    where: str

    def condition(self, kind: str) -> str:
        """SQL condition for DuckDB, of a column of the DuckDB type `kind`.

        The column is compared in its own type, so that the condition reaches the Parquet files' statistics; of a time
        without a zone that is done roughly first.
        """
        if self.column is None or kind == NO_VALUES:
            return "true"
        self.check(kind)
        column, start, end = quote(self.column), self.start, self.end
        if kind == "TIMESTAMPTZ_NS":
            start, end = (min(max(bound, NANOSECONDS[0]), NANOSECONDS[1]) for bound in (start, end))
        if kind not in LOCAL:
            return f"(({column} >= {_literal(start, kind)} AND {column} < {_literal(end, kind)}) OR {column} IS NULL)"
        at = moment(column, kind, self.zone)
        exactly = f"{at} >= {_literal(start)} AND {at} < {_literal(end)}"
        return f"(({self.roughly(column)} AND {exactly}) OR {column} IS NULL)"

    def roughly(self, column: str) -> str:
        """SQL condition, for any database, of a time without a zone: it holds for all rows of the window, and more."""
        low, high = (f"TIMESTAMP '{time:%Y-%m-%d %H:%M:%S}'" for time in (self.start - MARGIN, self.end + MARGIN))
        return f"{column} >= {low} AND {column} < {high}"

    def with_zone(self, column: str) -> str:
        """SQL condition, for any database, of a time with a zone."""
        return f"{column} >= {_literal(self.start)} AND {column} < {_literal(self.end)}"

    def check_name(self, names: Sequence[str]) -> None:
        """Raise SchemaError when there is no such column."""
        if self.column not in names:
            raise SchemaError(
                f"time_column: there is no column {self.column!r}",
                where=self.where,
                cure=f"name one of {', '.join(names)}",
            )

    def check(self, kind: str) -> None:
        """Raise SchemaError when a column of the DuckDB type `kind` holds no times."""
        if not is_time(kind):
            raise SchemaError(
                f"time_column: {self.column!r} is of type {kind}, and not a timestamp",
                where=self.where,
                cure="name a column of times, or declare it: a text is read as ISO 8601",
            )


def _literal(time: datetime, kind: str = "TIMESTAMPTZ") -> str:
    return f"CAST('{time:%Y-%m-%d %H:%M:%S}+00' AS {kind})"


def window(problem: Problem, name: str, source: Source, first: str, last: str) -> Window:
    """What is read for the partitions `first` to `last`: labels that arrived late lie further back."""
    back = timedelta(days=source.lookback_days + problem.labels.delay_days)
    start, end = problem.partitions.start(first) - back, problem.partitions.end(last)
    zone = problem.partitions.timezone
    return Window(source.time_column, start.astimezone(UTC), end.astimezone(UTC), zone, place(problem, name))
