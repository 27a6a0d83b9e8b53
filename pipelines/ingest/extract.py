"""extract: run the problem's SQL over its sources, for a range of partitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import duckdb
import pyarrow as pa

from pipelines import sql
from pipelines.artifacts import arrow_type
from pipelines.config import Partitions
from pipelines.errors import SchemaError
from pipelines.problem import Problem

Query = Literal["events", "labels"]

DUCKDB_TYPES = {"string": "VARCHAR", "integer": "BIGINT", "int8": "TINYINT", "float": "DOUBLE", "boolean": "BOOLEAN",
                "timestamp": "TIMESTAMPTZ"}  # fmt: skip


def extract(
    problem: Problem, query: Query, sources: Mapping[str, pa.Table], first: str, last: str
) -> Iterator[pa.RecordBatch]:
    """Rows of `events.sql` or `labels.sql` that belong to the partitions `first` to `last`.

    Events belong to the partition of their `event_time`; label statements to the one in which they arrive
    (their own `known_time` plus the problem's delay). Values are cast to the declared types; one that cannot
    be becomes null and is named in `faults`, and `raw` keeps such a row as it came. A row without a time
    belongs nowhere: it comes with every range, so that validation sets it aside rather than losing it.

    Raises:
        ConfigError: the SQL does not run.
        SchemaError: its columns are not the declared ones.
    """
    with sql.connection(sources) as database:
        with sql.explained(str(problem.folder / f"{query}.sql")):
            statement = _statement(problem, query, database)
            bounds = {"start": problem.partitions.start(first), "end": problem.partitions.end(last), "first": first}
            reader = database.sql(statement, params=bounds).to_arrow_reader(65_536)
        yield from reader


def check_columns(problem: Problem, query: Query, sources: Mapping[str, pa.Table]) -> None:
    """Raise what `extract` would raise about the SQL and its columns, without running it."""
    with sql.connection(sources) as database, sql.explained(str(problem.folder / f"{query}.sql")):
        _statement(problem, query, database)


def extracted_schema(problem: Problem, query: Query) -> pa.Schema:
    """Columns of extracted rows: the declared ones, then `partition`, `faults` and `raw`."""
    fields = [pa.field(name, arrow_type(kind)) for name, kind in _declared(problem, query).items()]
    return pa.schema([*fields, ("partition", pa.string()), ("faults", pa.list_(pa.string())), ("raw", pa.string())])


def _declared(problem: Problem, query: Query) -> dict[str, str]:
    times = {"event_time": "timestamp", "known_time": "timestamp"}
    if query == "labels":
        return {problem.key: "string", **times, "label": "int8"}
    columns = {name: column.type for name, column in problem.columns.items()}
    return {problem.key: "string", **times, "cutoff_time": "timestamp", **columns}


def _statement(problem: Problem, query: Query, database: duckdb.DuckDBPyConnection) -> str:
    declared = _declared(problem, query)
    text = problem.sql(query).strip().rstrip(";")
    found = {str(row[0]): str(row[1]) for row in database.sql(f"DESCRIBE ({text}\n)").fetchall()}
    defaults: dict[str, str] = {}
    if query == "events":  # a row is predicted when it happens, and known when it is predicted, unless said otherwise
        defaults["cutoff_time"] = "event_time"
        defaults["known_time"] = "cutoff_time" if "cutoff_time" in found else "event_time"
    missing = [name for name in declared if name not in found and name not in defaults]
    extra = [name for name in found if name not in declared]
    if missing or extra:
        lines = [*(f"  - {name} ({declared[name]}) is declared and missing" for name in missing),
                 *(f"  + {name} ({found[name]}) is not declared" for name in extra)]  # fmt: skip
        raise SchemaError(
            "columns differ from the declared ones\n" + "\n".join(lines),
            where=str(problem.folder / f"{query}.sql"),
            cure="select what is missing, and declare or drop the rest",
        )

    casts, faults = [], []
    for name, kind in declared.items():
        source = sql.quote(name if name in found else defaults[name])
        cast = f"TRY_CAST({source} AS {DUCKDB_TYPES[kind]})"
        casts.append(f"{cast} AS {sql.quote(name)}")
        lossy = f" OR {cast} <> {source}" if kind in ("integer", "int8") and _is_number(found.get(name, "")) else ""
        faults.append(
            f"CASE WHEN {source} IS NOT NULL AND ({cast} IS NULL{lossy}) "
            f"THEN {sql.literal(f'{name}: not of type {kind}')} END"
        )
    delay = problem.labels.delay_days if query == "labels" else 0
    if delay:
        casts = [c.replace(' AS "known_time"', f' + to_days({delay}) AS "known_time"') for c in casts]
    time = "known_time" if query == "labels" else "event_time"
    return f"""
        WITH raw AS ({text}
        ),
        cast_rows AS (
            SELECT {", ".join(casts)},
                list_filter([{", ".join(faults)}], lambda fault: fault IS NOT NULL) AS faults,
                to_json(raw) AS raw
            FROM raw
        )
        SELECT * EXCLUDE (faults, raw),
            {_partition_of(problem.partitions, time)} AS partition,
            faults,
            CASE WHEN len(faults) > 0 THEN CAST(raw AS VARCHAR) END AS raw
        FROM cast_rows
        WHERE ({time} >= $start AND {time} < $end) OR {time} IS NULL
        ORDER BY {time}, {sql.quote(problem.key)}
    """


def _partition_of(partitions: Partitions, time: str) -> str:
    local = f"({time} AT TIME ZONE {sql.literal(partitions.timezone)})"
    return f"coalesce(strftime(date_trunc('{partitions.every}', {local}), '%Y-%m-%d'), $first)"


def _is_number(kind: str) -> bool:
    return kind.startswith(("DOUBLE", "FLOAT", "DECIMAL"))
