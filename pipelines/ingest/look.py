"""A look at a problem's rows before anything is ingested: what `evergreen check` says of them. Nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import duckdb

from pipelines import sql
from pipelines.errors import EvergreenError
from pipelines.ingest.extract import check_columns, copy_rows
from pipelines.ingest.rules import check_rules
from pipelines.ingest.sources import described, opened
from pipelines.problem import Problem, Query

SHOWN_NAMES = 5
SHOWN_RANGES = 3


@dataclass(frozen=True)
class Remark:
    """One thing that was seen: `wrong` stops an ingest or a training, `odd` does not but should be looked at."""

    level: Literal["wrong", "odd", "fact"]
    text: str


def check_sources(problem: Problem) -> list[EvergreenError]:
    """What is wrong with the sources, the SQL and the rules, as far as it can be told without reading rows."""
    try:
        with described(problem) as database:
            faults = [fault for query in problem.queries for fault in _faults(check_columns, problem, query, database)]
    except EvergreenError as error:
        faults = [error]
    return [*faults, *_faults(check_rules, problem)]


def look(problem: Problem, last: str) -> list[Remark]:
    """What the rows of the partitions from the first to `last` are like: how many, their keys, gaps, labels.

    Raises:
        EvergreenError: a source cannot be read.
    """
    first = problem.partitions.first.isoformat()
    with opened(problem, first, last) as sources:
        database = sources.database
        for query in problem.queries:
            copy_rows(problem, query, database, _table(query))
        remarks = [
            Remark("odd", f"source {name}: {count.rejected:,} of {count.rows:,} rows cannot be read as declared")
            for name, count in sources.counts.items()
            if count.rejected
        ]
        remarks += _events(problem, database, last)
        if "labels" in problem.queries:
            remarks += _labels(problem, database)
        return remarks


def _faults(check: object, *given: object) -> Iterator[EvergreenError]:
    try:
        check(*given)  # type: ignore[operator]
    except EvergreenError as error:
        yield error


def _table(query: Query) -> str:
    return f"looked_{query}"


def _events(problem: Problem, database: duckdb.DuckDBPyConnection, last: str) -> Iterator[Remark]:
    parts, key, unit = problem.partitions, sql.quote(problem.key), problem.partitions.every
    start, end = parts.start(parts.first.isoformat()), parts.end(last)
    is_inside = "event_time >= $start AND event_time < $end"
    bounds = {"start": start, "end": end}
    database.execute(f"CREATE TEMP TABLE inside AS SELECT * FROM {_table('events')} WHERE {is_inside}", bounds)
    (rows, oldest, newest) = _row(
        database, f"SELECT count(*), min(event_time), max(event_time) FROM {_table('events')}"
    )
    counts = dict(database.sql("SELECT partition, count(*) FROM inside GROUP BY partition").fetchall())
    if not counts:
        seen = f"{rows:,} rows, from {oldest:%Y-%m-%d} to {newest:%Y-%m-%d}" if oldest else f"{rows:,} rows with a time"
        yield Remark(
            "wrong",
            f"events: no row from {parts.first} to {last} ({seen}); correct partitions.first, last or events.sql",
        )
        return
    keys, usual = parts.between(parts.first.isoformat(), last), sorted(counts.values())[len(counts) // 2]
    inside = sum(counts.values())
    yield Remark(
        "fact", f"events: {inside:,} rows in {len(counts):,} of {len(keys):,} {unit}s, usually {usual:,} a {unit}"
    )
    fewest = problem.monitoring.policy.min_labels
    if usual < fewest:
        week = ", or let partitions.every be week" if unit == "day" else ""
        yield Remark(
            "odd",
            f"events: monitoring.policy.min_labels asks for {fewest} rows: about {-(-fewest // usual)} {unit}s in a "
            f"row are judged together{week}",
        )
    if empty := [one for one in keys if one not in counts]:
        yield Remark("odd", f"events: no row in {len(empty):,} {unit}s: {_ranges(empty, keys)}")
    if outside := _number(database, f"SELECT count(*) FROM {_table('events')} WHERE NOT ({is_inside})", bounds):
        yield Remark("odd", f"events: {outside:,} rows lie before {parts.first} or after {last}: they are not read")
    yield from _shares(problem, database, "events", {
        "have no event_time": (f"SELECT count(*) FROM {_table('events')} WHERE event_time IS NULL", rows),
        f"have no {problem.key}": (f"SELECT count(*) FROM inside WHERE {key} IS NULL", inside),
        f"share their {problem.key} with a row of another time": (
            f"SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM inside GROUP BY {key} "
            "HAVING count(DISTINCT event_time) > 1)", inside),
        f"repeat the {problem.key} and known_time of another row": (
            f"SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM inside GROUP BY {key}, known_time "
            "HAVING count(*) > 1 AND count(DISTINCT event_time) = 1)", inside),
        "hold a value that is not of its column's type": ("SELECT count(*) FROM inside WHERE len(faults) > 0", inside),
    })  # fmt: skip
    columns = list(problem.columns)
    filled = _row(database, f"SELECT {', '.join(f'count({sql.quote(one)})' for one in columns)} FROM inside")
    if blank := [name for name, count in zip(columns, filled, strict=True) if not count]:
        yield Remark("odd", f"events: no value at all in {_named(blank)}")


def _labels(problem: Problem, database: duckdb.DuckDBPyConnection) -> Iterator[Remark]:
    key, table = sql.quote(problem.key), _table("labels")
    (rows, values) = _row(database, f"SELECT count(*), count(DISTINCT label) FROM {table}")
    if not rows:
        yield Remark("wrong", "labels: no row; correct labels.sql, or say where labels come from (labels.use)")
        return
    known = f"SELECT DISTINCT {key} FROM {_table('events')}"
    orphans = _number(database, f"SELECT count(*) FROM {table} WHERE {key} NOT IN ({known} WHERE {key} IS NOT NULL)")
    labelled = _number(database, f"SELECT count(*) FROM inside WHERE {key} IN (SELECT {key} FROM {table})")
    (events,) = _row(database, "SELECT count(*) FROM inside")
    yield Remark("fact", f"labels: {rows:,} rows, for {labelled / max(events, 1):.1%} of the events")
    if events and not labelled:
        (event, label) = _row(database, f"SELECT (SELECT min({key}) FROM inside), (SELECT min({key}) FROM {table})")
        yield Remark(
            "wrong",
            f"labels: none is of an event: their {problem.key} is like {label!r}, and that of events like {event!r}",
        )
    elif orphans:
        yield Remark("odd", f"labels: {orphans:,} of {rows:,} rows are of no event")
    if values == 1:
        yield Remark("wrong", "labels: all have the same value; a model needs more than one")


def _shares(
    problem: Problem, database: duckdb.DuckDBPyConnection, query: Query, counted: dict[str, tuple[str, int]]
) -> Iterator[Remark]:
    """Rows that ingest will set aside: wrong where it sets aside more than it may."""
    most = problem.validation.max_quarantined_share
    for what, (statement, of) in counted.items():
        if count := _number(database, statement):
            too_many = count > most * of
            more = f", and validation.max_quarantined_share is {most:.0%}" if too_many else ""
            yield Remark("wrong" if too_many else "odd", f"{query}: {count:,} of {of:,} rows {what}{more}")


def _row(database: duckdb.DuckDBPyConnection, statement: str) -> tuple[int, ...]:
    return tuple(database.execute(statement).fetchall()[0])


def _number(database: duckdb.DuckDBPyConnection, statement: str, values: dict[str, datetime] | None = None) -> int:
    return int(database.execute(statement, values or {}).fetchall()[0][0])


def _named(names: Sequence[str]) -> str:
    rest = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _ranges(chosen: Sequence[str], keys: Sequence[str]) -> str:
    """Keys as ranges of neighbours.

    >>> _ranges(["b", "c", "e"], ["a", "b", "c", "d", "e"])
    'b to c, e'
    """
    wanted, ranges, begin = set(chosen), [], None
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        if key not in wanted:
            continue
        begin = begin or key
        if following not in wanted:
            ranges.append(begin if begin == key else f"{begin} to {key}")
            begin = None
    rest = len(ranges) - SHOWN_RANGES
    return ", ".join(ranges[:SHOWN_RANGES]) + (f" and {rest} more stretches" if rest > 0 else "")
