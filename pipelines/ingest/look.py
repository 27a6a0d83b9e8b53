"""A look at a problem's rows before anything is ingested: what `evergreen check` says of them. Nothing is kept."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import yaml

from pipelines import deliveries, sql
from pipelines.config import DELIVERED
from pipelines.errors import DataError, EvergreenError
from pipelines.handoffs.ingestion import Delivery
from pipelines.ingest import batch
from pipelines.ingest.extract import check_columns, copy_rows
from pipelines.ingest.judge import Noted, judge
from pipelines.ingest.orphans import orphans
from pipelines.ingest.rules import check_rules
from pipelines.ingest.shape import PartitionShape, shape_refusals, shape_rules, shapes
from pipelines.ingest.sources import Opened, described, offered, opened
from pipelines.ingest.validate import NUMBERS, bad_numbers, some, summary
from pipelines.problem import Problem, Query
from pipelines.temporary import temporary_folder

_NUMBER = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?"  # 1.50, and not 007

LONGER = {"hour": "day", "day": "week"}  # what to cut time into where an hour, a day has few rows


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


def come_so_far(problem: Problem) -> dict[str, Delivery]:
    """Of a problem of deliveries those that its source holds, numbered as in an empty store; of others none.

    Raises:
        EvergreenError: the source cannot be read.
    """
    return deliveries.numbered(problem, offered(problem).offers) if problem.partitions.by_delivery else {}


def newest(problem: Problem, come: Mapping[str, Delivery], now: datetime) -> str | None:
    """The newest partition that could be ingested by `now`; None where there is none yet. `come`: see `come_so_far`."""
    if problem.partitions.by_delivery:
        return max(come, default=None)
    return max(problem.partitions.due(now), default=None)


def look(problem: Problem, last: str, come: Mapping[str, Delivery] | None = None) -> list[Remark]:
    """What the rows of the partitions from the first to `last` are like: how many, their keys, gaps, labels.

    Whether a partition looks like those before it is left to ingest, and to `rehearse`: to measure that takes longer
    than all the rest.

    come: of a problem of deliveries, see `come_so_far`.

    Raises:
        EvergreenError: a source cannot be read.
    """
    first = problem.partitions.first_key
    with opened(problem, first, last, come) as sources:
        database = sources.database
        for query in problem.queries:
            copy_rows(problem, query, database, _table(query))
        remarks = [
            Remark("odd", f"source {name}: {count.rejected:,} of {count.rows:,} rows cannot be read as declared")
            for name, count in sources.counts.items()
            if count.rejected
        ]
        if come:
            remarks.append(Remark("fact", f"deliveries: {deliveries.in_words(list(come.values()))}"))
        remarks += _events(problem, database, last)
        if "labels" in problem.queries:
            remarks += _labels(problem, database)
        if _number(database, "SELECT count(*) FROM inside"):
            remarks += _judged(problem, sources, problem.partitions.between(first, last))
        return remarks


@dataclass(frozen=True)
class Rehearsal:
    """What partitions look like, as a trial ingest of them sees it."""

    shapes: dict[Query, dict[str, PartitionShape]]

    def refusals(self, problem: Problem) -> list[batch.Refusal]:
        """Partitions that look unlike those before them, and in what, by the problem's settings."""
        return [
            refusal
            for query, measured in self.shapes.items()
            for refusal in shape_refusals(problem, query, shape_rules(problem, {}, measured))
        ]


def rehearse(problem: Problem, last: str, come: Mapping[str, Delivery] | None = None) -> Rehearsal:
    """Ingest the partitions from the first to `last` for trial: nothing is kept. `come`: see `look`.

    Raises:
        EvergreenError: a source cannot be read.
    """
    keys = problem.partitions.between(problem.partitions.first_key, last)
    measured = {}
    with opened(problem, keys[0], last, come) as sources, temporary_folder() as folder:
        for query in problem.queries:
            copy_rows(problem, query, sources.database, _table(query))
            rows = _staged(sources.database, query, keys, Path(folder))
            with judge(problem, query, rows) as noted:
                good = _without_bad(noted, rows)
            measured[query] = shapes(problem, query, good)
    return Rehearsal(measured)


def declaration(problem: Problem, now: datetime) -> list[Remark]:
    """The columns of a problem's one source and their types, as the line that declares them in problem.yaml.

    All rows are looked at, as of a source that declares nothing. A text is a number here where every value is written
    as one, if with zeros at its end: declared, it is read as that. The key stays as it is. Where the source cannot be
    read, that is what there is to say.
    """
    (name,) = problem.sources
    try:
        types = _types_found(problem, name, now)
    except EvergreenError as error:
        return [Remark("wrong", str(error))]
    line = yaml.safe_dump(types, default_flow_style=True, sort_keys=False, width=math.inf, allow_unicode=True)
    return [Remark("fact", f"sources.{name}: what it holds is declared by\n           columns: {line.strip()}")]


def _types_found(problem: Problem, name: str, now: datetime) -> dict[str, str]:
    """The columns of a source, each with the type that it would be declared with."""
    first, come = problem.partitions.first_key, come_so_far(problem)
    last = max(come) if problem.partitions.by_delivery else problem.partitions.newest_due(now)
    with opened(problem, first, last, come) as sources:
        database, table = sources.database, sql.quote(name)
        described_types = {str(row[0]): str(row[1]) for row in database.sql(f"DESCRIBE {table}").fetchall()}
        if problem.partitions.by_delivery:
            del described_types[DELIVERED]
        types = {column: _declarable(kind) for column, kind in described_types.items()}
        texts = [column for column, kind in types.items() if kind == "string" and column != problem.key]
        conditions = [f"bool_and(regexp_full_match({sql.quote(column)}, '{_NUMBER}'))" for column in texts]
        if texts:
            are_numbers = _row(database, f"SELECT {', '.join(conditions)} FROM {table}")
            types |= {column: "float" for column, is_number in zip(texts, are_numbers, strict=True) if is_number}
    return types


def _declarable(kind: str) -> str:
    """The type of a column for one of DuckDB's; what has none is read as text."""
    if kind.startswith(("TIMESTAMP", "DATE")):
        return "timestamp"
    if re.fullmatch(r"(FLOAT|DOUBLE|DECIMAL.*)\[\d*\]", kind):
        return "list<float>"
    if kind.startswith(("DECIMAL", "DOUBLE", "FLOAT")):
        return "float"
    if re.match(r"U?(TINY|SMALL|BIG|HUGE)?INT", kind):
        return "integer"
    return "boolean" if kind == "BOOLEAN" else "string"


def _faults(check: object, *given: object) -> Iterator[EvergreenError]:
    try:
        check(*given)  # type: ignore[operator]
    except EvergreenError as error:
        yield error


def _table(query: Query) -> str:
    return f"looked_{query}"


def _events(problem: Problem, database: duckdb.DuckDBPyConnection, last: str) -> Iterator[Remark]:
    parts, unit = problem.partitions, problem.partitions.every
    a_unit = f"an {unit}" if unit == "hour" else f"a {unit}"
    keys, units = parts.between(parts.first_key, last), parts.plural
    of_time = f"{_table('events')} WHERE event_time IS NOT NULL"
    database.execute(f"CREATE TEMP TABLE inside AS SELECT * FROM {of_time} AND {_between(keys)}")
    (rows, oldest, newest) = _row(
        database, f"SELECT count(*), min(event_time), max(event_time) FROM {_table('events')}"
    )
    counts = dict(database.sql("SELECT partition, count(*) FROM inside GROUP BY partition").fetchall())
    if not counts:
        span = (
            f", from {oldest:%Y-%m-%d} to {newest:%Y-%m-%d}" if oldest else ", none of them with a time" if rows else ""
        )
        rows_and_span = f"{rows:,} rows{span}"
        yield Remark(
            "wrong",
            f"events: no row from {parts.first} to {last} ({rows_and_span}); correct partitions.first, "
            f"last or {Path(problem.place('events')).name}",
        )
        return
    usual, inside = sorted(counts.values())[len(counts) // 2], sum(counts.values())
    yield Remark(
        "fact", f"events: {inside:,} rows in {len(counts):,} of {len(keys):,} {units}, usually {usual:,} {a_unit}"
    )
    fewest = problem.monitoring.policy.min_labels
    if usual < fewest:
        longer = f", or let partitions.every be {LONGER[unit]}" if unit in LONGER else ""
        yield Remark(
            "odd",
            f"events: monitoring.policy.min_labels asks for {fewest} rows: about {-(-fewest // usual)} {units} in a "
            f"row are judged together{longer}",
        )
    if empty := [key for key in keys if key not in counts]:
        yield Remark("odd", f"events: no row in {len(empty):,} {units}: {parts.spans(empty)}")
    if outside := _number(database, f"SELECT count(*) FROM {of_time} AND NOT ({_between(keys)})"):
        yield Remark("odd", f"events: {outside:,} rows lie before {parts.first} or after {last}: they are not read")
    columns = list(problem.columns)
    filled = _row(database, f"SELECT {', '.join(f'count({sql.quote(column)})' for column in columns)} FROM inside")
    if blank := [name for name, count in zip(columns, filled, strict=True) if not count]:
        yield Remark("odd", f"events: no value at all in {some(blank)}")


def _labels(problem: Problem, database: duckdb.DuckDBPyConnection) -> Iterator[Remark]:
    key, table = sql.quote(problem.key), _table("labels")
    (rows, values) = _row(database, f"SELECT count(*), count(DISTINCT label) FROM {table}")
    if not rows:
        query = Path(problem.place("labels")).name  # problem.yaml, where that makes the query
        yield Remark("wrong", f"labels: no row; correct {query}, or say where labels come from (labels.use)")
        return
    labelled = _number(database, f"SELECT count(*) FROM inside WHERE {key} IN (SELECT {key} FROM {table})")
    (events,) = _row(database, "SELECT count(*) FROM inside")
    yield Remark("fact", f"labels: {rows:,} rows; {labelled / max(events, 1):.1%} of {events:,} events have one")
    parts = problem.partitions
    outside = f"partition < {sql.literal(parts.first_key)}"
    if parts.last_key is not None:
        outside += f" OR partition > {sql.literal(parts.last_key)}"
    if lost := _number(database, f"SELECT count(*) FROM {table} WHERE known_time IS NOT NULL AND ({outside})"):
        yield Remark(
            "odd",
            f"labels: {lost:,} rows are known before partitions.first ({parts.first}) or after partitions.last "
            f"({parts.last}): they are not read; let last be the {parts.every} in which the newest is known",
        )
    if events and not labelled:
        yield Remark("wrong", f"labels: none is of an event of these {problem.partitions.plural}")
    if values == 1:
        yield Remark("wrong", "labels: all have the same value; a model needs more than one")


def _judged(problem: Problem, sources: Opened, keys: Sequence[str]) -> Iterator[Remark]:
    """What an ingest of the partitions `keys` at once, into an empty store, would set aside, refuse and stop for."""
    counts = {name: {"rows": count.rows, "rejected": count.rejected} for name, count in sources.counts.items()}
    refusals: list[batch.Refusal] = []
    with temporary_folder() as folder:
        good = {}
        for query in problem.queries:
            rows = _staged(sources.database, query, keys, Path(folder))
            with judge(problem, query, rows) as noted:
                counted = summary(problem, noted, keys)
                good[query] = _without_bad(noted, rows)
            for rule, broken in counted.broken.items():
                if broken:
                    yield Remark("odd", f"{query}: {broken:,} of {counted.rows:,} rows are set aside: {rule}")
            may_be_empty = batch.may_be_empty(problem, keys, counted.rows - counted.bad)
            rules = batch.batch_rules(problem, counted, [], may_be_empty=may_be_empty)
            refusals += batch.batch_refusals(problem, counted, rules, "rows")
        refused = batch.reasons(refusals)
        try:
            batch.check_sources(problem, counts, "rows")
            batch.check_refusals(problem, keys, refusals)
        except DataError as error:
            yield Remark("wrong", f"an ingest of {keys[0]} to {keys[-1]} stops: {error.what}")
            return
        if refused:
            yield Remark(
                "odd",
                f"an ingest of {keys[0]} to {keys[-1]} holds {len(refused):,} of {len(keys):,} partitions:\n"
                f"{batch.summed_up(refused)}",
            )
        if "labels" in good:
            yield from _orphans(problem, good["labels"], sources.database, [key for key in keys if key not in refused])


def _staged(database: duckdb.DuckDBPyConnection, query: Query, keys: Sequence[str], folder: Path) -> ds.Dataset:
    """The rows of a query in the partitions `keys`, and those without a time, as a batch to judge."""
    path = folder / f"{query}.parquet"
    database.execute(
        f"COPY (SELECT *, CAST(NULL AS VARCHAR) AS raw, row_number() OVER () - 1 AS number FROM {_table(query)} "
        f"WHERE {_between(keys)}) TO {sql.literal(str(path))} (FORMAT parquet)"
    )
    return ds.dataset(path)


def _without_bad(noted: Noted, rows: ds.Dataset) -> ds.Dataset:
    bad = pa.Table.from_batches(bad_numbers(noted), NUMBERS)["number"].combine_chunks()
    return rows.filter(~pc.field("number").isin(bad))


def _orphans(
    problem: Problem, labels: ds.Dataset, database: duckdb.DuckDBPyConnection, keys: Sequence[str]
) -> Iterator[Remark]:
    key, place = sql.quote(problem.key), sql.partition_of(problem.partitions, "event_time")
    about = sql.query(
        f"SELECT {key} AS id, {place} AS about FROM labels", {"labels": labels.filter(sql.is_among("partition", keys))}
    )
    about = about.filter(pc.is_in(about["about"], value_set=pa.array(keys, pa.string())))
    events = database.sql(f"SELECT {key} AS id FROM {_table('events')} WHERE {_between(keys)}").to_arrow_table()
    with sql.connection({"labels": about, "events": events}) as ids:
        unmatched, limit = orphans(ids), problem.validation.max_unmatched_label_share
    if unmatched.share > limit:
        yield Remark("wrong", f"labels: an ingest stops: {unmatched.message}; at most {limit:.0%} may have none")
    elif unmatched.without_event:
        yield Remark("odd", f"labels: {unmatched.message}")


def _between(keys: Sequence[str]) -> str:
    return f"partition BETWEEN {sql.literal(keys[0])} AND {sql.literal(keys[-1])}"


def _row(database: duckdb.DuckDBPyConnection, statement: str) -> tuple[int, ...]:
    return tuple(database.execute(statement).fetchall()[0])


def _number(database: duckdb.DuckDBPyConnection, statement: str) -> int:
    return int(_row(database, statement)[0])
