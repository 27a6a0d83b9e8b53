"""arrivals: which of the rows that a run reads it answers for, beside those of its own partitions.

A source says nothing of when its rows reached it. So each run counts what it reads, partition by partition: rows
outside of the problem's time, and rows of partitions that were ingested before they came. The latter are looked for in
a bounded number of partitions (`validation.lookback_partitions`), by their keys alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from pipelines import sql
from pipelines.config import Partitions
from pipelines.ingest.extract import BATCH_ROWS, cast_rows, explained, found_columns, partition_time
from pipelines.ingest.validate import row_ids
from pipelines.problem import Problem, Query


class Outside(NamedTuple):
    """Rows that a run read and that belong to no partition which could be ingested now."""

    before: int
    """rows before the problem's first partition"""
    after: int
    """rows after its last one"""
    open: int
    """rows of partitions that have not ended yet: they are ingested when they have"""

    @property
    def rows(self) -> int:
        return sum(self)


def counted(problem: Problem, query: Query, database: duckdb.DuckDBPyConnection, first: str) -> dict[str, int]:
    """How many rows the query gives for each partition there is; rows without a time count for `first`.

    A second look at what `extract` streams, for the accounts to rest on.
    """
    text = problem.sql(query)
    with explained(problem, query):
        rows = cast_rows(problem, query, text, found_columns(problem, query, text, database))
        counts = database.execute(f"SELECT partition, count(*) FROM ({rows}) GROUP BY 1", {"first": first}).fetchall()
    return {str(key): int(count) for key, count in counts}


def outside(partitions: Partitions, counts: Mapping[str, int], run: Collection[str], now: datetime) -> Outside:
    """The rows of `counts` (by partition) that lie before, after, and in partitions that are still open at `now`.

    The partitions of the run itself are never outside: who asks for one that is still open gets it.

    >>> from datetime import UTC, date
    >>> days = Partitions(every="day", first=date(2024, 1, 2), last=date(2024, 1, 9))
    >>> counts = {"2024-01-01": 5, "2024-01-02": 7, "2024-01-04": 3, "2024-01-11": 2}
    >>> outside(days, counts, ["2024-01-02"], datetime(2024, 1, 4, 4, tzinfo=UTC))
    Outside(before=5, after=2, open=3)
    """
    first, last = partitions.first_key, partitions.last_key
    before = after = still_open = 0
    for place, rows in counts.items():
        key = place.zfill(len(first))  # DuckDB writes the year 999 with three digits
        if key in run:
            continue
        if key < first:
            before += rows
        elif last and key > last:
            after += rows
        elif partitions.start(key) > now or partitions.end(key) > now:
            still_open += rows
    return Outside(before, after, still_open)


def lookback(problem: Problem, first: str, ingested: Sequence[str]) -> list[str]:
    """The partitions before `first` in which a run looks for rows that came late: of those that were ingested."""
    oldest = problem.partitions.shift(first, -problem.validation.lookback_partitions)
    return [key for key in ingested if oldest <= key < first]


def late(
    problem: Problem, query: Query, database: duckdb.DuckDBPyConnection, keys: Sequence[str], published: Any
) -> Iterator[pa.RecordBatch]:
    """Rows of the partitions `keys`, in the shape of `extract`'s, of which `published` knows nothing.

    `published` has what was said there: partition, key, event_time, known_time (dataset or table). A row is known if
    its key is (and of a label the event_time), unless it says that it was learnt later than what is known: then it is
    another statement about its event. Only where there are such rows are whole rows cast.
    """
    text = problem.sql(query)
    key, time = sql.quote(problem.key), partition_time(query)
    same = f"partition, {key}" + (", event_time" if query == "labels" else "")
    due = "r.cutoff_time" if query == "events" else "CAST(NULL AS TIMESTAMPTZ)"
    bounds = {"first": "", "keys": list(keys)}
    with explained(problem, query):
        rows = cast_rows(problem, query, text, found_columns(problem, query, text, database))
        within = f"r.{time} IS NOT NULL AND list_contains($keys, r.partition)"
        database.register("published_rows", published)
        database.execute(f"""
            CREATE OR REPLACE TEMP TABLE _published AS
            SELECT {same}, max(known_time) AS _known FROM published_rows GROUP BY ALL
        """)
        database.unregister("published_rows")
        database.execute(
            f"""CREATE OR REPLACE TEMP TABLE _late AS
            SELECT DISTINCT {same}, known_time FROM ({rows}) AS r LEFT JOIN _published USING ({same})
            WHERE {within} AND (_known IS NULL OR (r.known_time > _known AND r.known_time IS DISTINCT FROM {due}))""",
            bounds,
        )
        if not database.sql("SELECT 1 FROM _late LIMIT 1").fetchall():
            return
        on = " AND ".join(f"r.{name} IS NOT DISTINCT FROM _late.{name}" for name in (*same.split(", "), "known_time"))
        stream = database.sql(
            f"SELECT r.*, row_number() OVER () - 1 AS number FROM ({rows}) AS r SEMI JOIN _late ON {on} WHERE {within}",
            params=bounds,
        )
        yield from stream.to_arrow_reader(BATCH_ROWS)


def unaccounted(problem: Problem, query: Query, rows: pa.Table, published: Any, accounted: Collection[str]) -> pa.Table:
    """The late `rows` that no run has taken in or set aside yet.

    `accounted` are ids of rows that were set aside, or released since; `published` the whole statements in their
    partitions: an event of which nothing else is said than the newest of them says is no news, whenever it was learnt.
    """
    key = sql.quote(problem.key)
    same = f"partition, {key}" + (", event_time" if query == "labels" else "")
    content = ["label"] if query == "labels" else ["event_time", *problem.columns]
    is_other = " OR ".join(f"p.{name} IS DISTINCT FROM r.{name}" for name in map(sql.quote, content))
    return sql.query(
        f"""WITH left_over AS (
                SELECT * FROM rows SEMI JOIN (FROM ids WHERE id NOT IN (SELECT id FROM accounted)) USING (number)
            ),
            newest AS (
                SELECT *, partition AS _there FROM published
                QUALIFY row_number() OVER (PARTITION BY {same} ORDER BY known_time DESC) = 1
            ),
            compared AS (
                SELECT r.*, p._there IS NULL OR {is_other} AS _is_news
                FROM left_over AS r LEFT JOIN newest AS p USING ({same})
            )
            SELECT {", ".join(f"compared.{name}" for name in map(sql.quote, rows.column_names))} FROM compared
            QUALIFY bool_or(_is_news) OVER (PARTITION BY {same})
            ORDER BY number""",
        {
            "rows": rows,
            "ids": row_ids(problem, query, rows),
            "published": published,
            "accounted": pa.table({"id": pa.array(sorted(accounted), pa.string())}),
        },
    ).cast(rows.schema)
