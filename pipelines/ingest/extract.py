"""extract: run the problem's SQL over its sources, for a range of partitions."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa

from pipelines import sql
from pipelines.artifacts import arrow_type
from pipelines.config import Partitions
from pipelines.errors import ConfigError, SchemaError
from pipelines.ingest.sources.moments import LONGEST_CHANGE_H, moment
from pipelines.problem import Problem, Query

DUCKDB_TYPES = {
    "string": "VARCHAR",
    "text": "VARCHAR",
    "embedding": "FLOAT[]",
    "integer": "BIGINT",
    "int8": "TINYINT",
    "float": "DOUBLE",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMPTZ",
}
SHOWN_CHARACTERS = 80  # of a value that is no good
EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
CHANGE_US = timedelta(hours=LONGEST_CHANGE_H) // MICROSECOND
BATCH_ROWS = 16_384  # staged together: who scans them reads many batches ahead


def extract(
    problem: Problem,
    query: Query,
    database: duckdb.DuckDBPyConnection,
    first: str,
    last: str,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[pa.RecordBatch]:
    """Rows of the problem's events or labels that belong to the partitions `first` to `last`, in no order.

    `database` has every source as a view of its own name. Events belong to the partition of their `event_time`; label
    statements to the one in which they arrive (their own `known_time` plus the problem's delay). Values are cast to
    the declared types; one that cannot be becomes null and is named in `faults`. NaN is a missing value, an infinite
    number or time a fault; a time without a zone is one of the problem's time zone. A row without a time belongs
    nowhere: it comes with every range, so that validation sets it aside rather than losing it. `raw` keeps such a row,
    and one with faults, as it came; `number` counts the rows.

    Raises:
        ConfigError: the SQL does not run.
        SchemaError: its columns are not the declared ones.
    """
    text = problem.sql(query)
    # By the partition and not by its first and last moment: where clocks go back over midnight, days interlock.
    bounds = {"first": first, "last": last}
    time = partition_time(query)
    with explained(problem, query):
        types = found_columns(problem, query, text, database)
        within = _within(problem.partitions, time, first, last)
        statement = f"SELECT * FROM ({cast_rows(problem, query, text, types)}) WHERE {time} IS NULL OR {within}"
        count, schema = 0, extracted_schema(problem, query)
        for batch in database.sql(statement, params=bounds).to_arrow_reader(batch_rows):
            numbered = batch.append_column("number", pa.array(np.arange(count, count + batch.num_rows)))
            yield numbered.cast(schema)  # times come in the database's time zone
            count += batch.num_rows


def check_columns(problem: Problem, query: Query, database: duckdb.DuckDBPyConnection) -> None:
    """Raise what `extract` would raise about the SQL and its columns, without running it."""
    text = problem.sql(query)
    with explained(problem, query):
        found_columns(problem, query, text, database)


def copy_rows(problem: Problem, query: Query, database: duckdb.DuckDBPyConnection, table: str) -> None:
    """Put all rows of a query, of whatever time, into a temporary table: the declared columns, `partition`, `faults`.

    Raises what `extract` would raise.
    """
    text = problem.sql(query)
    with explained(problem, query):
        rows = cast_rows(problem, query, text, found_columns(problem, query, text, database))
        kept = ", ".join(map(sql.quote, [*declared(problem, query), "partition", "faults"]))
        database.execute(
            f"CREATE TEMP TABLE {sql.quote(table)} AS SELECT {kept} FROM ({rows})",
            {"first": problem.partitions.first_key},
        )


def extracted_schema(problem: Problem, query: Query) -> pa.Schema:
    """Columns of extracted rows: the declared ones, then `partition`, `faults`, `raw` and `number`."""
    fields = [pa.field(name, arrow_type(kind)) for name, kind in declared(problem, query).items()]
    ours = [("partition", pa.string()), ("faults", pa.list_(pa.string())), ("raw", pa.string()), ("number", pa.int64())]
    return pa.schema([*fields, *ours])


def good_columns(problem: Problem, query: Query) -> list[str]:
    """The columns that extracted rows keep once they are found to be good."""
    return [name for name in extracted_schema(problem, query).names if name not in ("faults", "raw", "number")]


def declared(problem: Problem, query: Query) -> dict[str, str]:
    """The columns that a query gives, and their types."""
    times = {"event_time": "timestamp", "known_time": "timestamp"}
    if query == "labels":
        return {problem.key: "string", **times, "label": problem.label_type}
    columns = {name: column.type for name, column in problem.columns.items()}
    return {problem.key: "string", **times, "cutoff_time": "timestamp", **columns}


def cast_rows(problem: Problem, query: Query, text: str, actual_types: Mapping[str, str]) -> str:
    """SQL that gives the rows of the query `text` in the extracted shape. Parameter: `first`.

    `found` are the columns of `text` and their DuckDB types. Rows without a time are given the partition `first`.
    """
    zone = problem.partitions.timezone
    types = declared(problem, query)
    plain = {name: "VARCHAR" if _is_text(kind) else kind for name, kind in actual_types.items()}
    given = ", ".join(f"{_plain(sql.quote(name), kind)} AS {sql.quote(name)}" for name, kind in actual_types.items())
    tried, values, faults = [], [], []
    for name, kind in types.items():
        column = name if name in actual_types else _default(name, actual_types)
        tried.append(f"{_cast(sql.quote(column), kind, plain[column], zone)} AS _{name}")
        values.append(f"{_value(problem, query, name, kind)} AS {sql.quote(name)}")
        faults += _faults(name, kind, sql.quote(column))
    any_fault = " OR ".join(f"({condition})" for condition, _ in faults)
    messages = ", ".join(f"CASE WHEN {condition} THEN {message} END" for condition, message in faults)
    lists = [name for name, kind in actual_types.items() if kind.endswith("]")]
    as_it_came = json_row({name: _is_float(kind) for name, kind in actual_types.items()}, lists)
    time = _value(problem, query, partition_time(query), "timestamp")
    return f"""
        WITH raw AS ({text.strip().rstrip(";")}
        ),
        given AS (SELECT {given} FROM raw),
        tried AS (SELECT *, {", ".join(tried)} FROM given),
        judged AS (
            SELECT *, CASE WHEN {any_fault}
                THEN list_filter([{messages}], lambda fault: fault IS NOT NULL) ELSE [] END AS _faults
            FROM tried
        )
        SELECT {", ".join(values)}, {_partition_of(problem.partitions, time)} AS partition, _faults AS faults,
            CASE WHEN len(_faults) > 0 OR {time} IS NULL THEN {as_it_came} END AS raw
        FROM judged
    """


def not_of_type(name: str, kind: str) -> str:
    """How a fault begins; the value follows."""
    return f"{name}: not of type {kind}"


def not_finite(name: str) -> str:
    """How the other fault of a float begins."""
    return f"{name}: not a finite number"


def json_row(columns: Mapping[str, bool], lists: Collection[str] = ()) -> str:
    """SQL for a row as a JSON text; a true value marks a column of floats, since JSON knows no infinite numbers.

    `lists` are columns of several numbers, which are given as texts, such as [1.5, nan].
    """
    pairs = []
    for name, is_float in columns.items():
        column = sql.quote(name)
        value = f"CASE WHEN isfinite({column}) THEN to_json({column}) ELSE to_json({column}::VARCHAR) END"
        plain = f"CAST({column} AS VARCHAR)" if name in lists else column
        pairs.append(f"{sql.literal(name)}, {value if is_float else plain}")
    return f"CAST(json_object({', '.join(pairs)}) AS VARCHAR)"


def found_columns(problem: Problem, query: Query, text: str, database: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Columns of the problem's SQL and their DuckDB types."""
    types = declared(problem, query)
    described = database.sql(f"DESCRIBE ({text.strip().rstrip(';')}\n)").fetchall()
    described_types = {str(row[0]): str(row[1]) for row in described}
    optional = ("cutoff_time", "known_time") if query == "events" else ()
    missing = [name for name in types if name not in described_types and name not in optional]
    extra = [name for name in described_types if name not in types]
    if missing or extra:
        lines = [
            *(f"  - {name} ({types[name]}) is declared and missing" for name in missing),
            *(f"  + {name} ({described_types[name]}) is not declared" for name in extra),
        ]
        raise SchemaError(
            "columns differ from the declared ones\n" + "\n".join(lines),
            where=problem.place(query),
            cure="select what is missing, and declare or drop the rest",
        )
    return described_types


def _default(name: str, columns: Mapping[str, str]) -> str:
    """A row is predicted when it happens, and known when it is predicted, unless it says otherwise."""
    return "cutoff_time" if name == "known_time" and "cutoff_time" in columns else "event_time"


def _plain(column: str, kind: str) -> str:
    """A value as it is cast: NaN is how some sources write a missing number."""
    if _is_float(kind):
        return f"CASE WHEN NOT isnan({column}) THEN {column} END"
    if kind == "JSON":
        return f"({column} ->> '$')"
    return f"CAST({column} AS VARCHAR)" if _is_text(kind) else column


def _cast(value: str, kind: str, source: str, zone: str) -> str:
    """A value of the DuckDB type `source` as the type `kind`; null where it is none, or where it would be changed."""
    cast = moment(value, source, zone) if kind == "timestamp" else f"TRY_CAST({value} AS {DUCKDB_TYPES[kind]})"
    is_number = _is_float(source) or bool(re.match(r"DECIMAL|U?(TINY|SMALL|BIG|HUGE)?INT", source))
    faithful = None
    if kind in ("integer", "int8"):  # DuckDB would round
        if source == "VARCHAR":
            faithful = f"regexp_full_match(trim({value}), '[+-]?[0-9]+(\\.0*)?')"
        elif is_number:
            faithful = f"{cast} = {value}"
    elif kind == "boolean" and is_number:  # DuckDB would take any number for true
        faithful = f"{value} IN (0, 1)"
    elif kind == "timestamp":
        # What Python's datetime can say. The bounds have a zone: without one, they would be moved by the database's.
        faithful = f"({cast}) BETWEEN '0001-01-02 00:00:00+00' AND '9999-12-30 00:00:00+00'"
    return f"CASE WHEN {faithful} THEN {cast} END" if faithful else cast


def _value(problem: Problem, query: Query, name: str, kind: str) -> str:
    """A value that was cast, as it is given out."""
    if kind == "float":
        return f"CASE WHEN isfinite(_{name}) THEN _{name} END"
    delay = problem.labels.delay_days if (query, name) == ("labels", "known_time") else 0
    return f"(_{name} + to_days({delay}))" if delay else f"_{name}"


def _faults(name: str, kind: str, given: str) -> list[tuple[str, str]]:
    """What may be wrong with a value: SQL conditions, and SQL for what is said then."""
    shown = f"concat(': ''', left(CAST({given} AS VARCHAR), {SHOWN_CHARACTERS}), '''')"
    faults = [(f"{given} IS NOT NULL AND _{name} IS NULL", f"{sql.literal(not_of_type(name, kind))} || {shown}")]
    if kind == "float":
        faults.append((f"isinf(_{name})", f"{sql.literal(not_finite(name))} || {shown}"))
    return faults


def partition_time(query: Query) -> str:
    """The column that decides a row's partition."""
    return "known_time" if query == "labels" else "event_time"


def _partition_of(partitions: Partitions, time: str) -> str:
    return f"coalesce({sql.partition_of(partitions, time)}, $first)"


def _within(partitions: Partitions, time: str, first: str, last: str) -> str:
    """SQL condition for rows of the partitions $first to $last.

    Of a long history most moments lie so far inside that no clock has to be asked, which costs more than all else.
    """
    exact = "partition BETWEEN $first AND $last"
    start, end = ((moment - EPOCH) // MICROSECOND for moment in (partitions.start(first), partitions.end(last)))
    low, high = start + CHANGE_US, end - CHANGE_US
    if partitions.by_delivery or low > high:
        return exact
    return f"{time} BETWEEN make_timestamptz({low}) AND make_timestamptz({high}) OR {exact}"


def _is_text(kind: str) -> bool:
    return kind == "JSON" or kind.startswith(("VARCHAR", "ENUM"))


def _is_float(kind: str) -> bool:
    return kind.startswith(("DOUBLE", "FLOAT")) and not kind.endswith("]")


@contextmanager
def explained(problem: Problem, query: Query) -> Iterator[None]:
    """Tell what is wrong with the problem's SQL."""
    try:
        with sql.explained(problem.place(query)):
            yield
    except ConfigError as error:
        is_of_types = not re.search("Out of Memory|Parser Error", error.what)
        if is_of_types and (guessed := [name for name, source in problem.sources.items() if not source.columns]):
            error.cure += (
                f"; the types of {', '.join(guessed)} are guessed from the data: declare `columns` in problem.yaml (a "
                "number that prints otherwise than it is written, such as 1.50 or 007, stays text), or CAST it"
            )
        raise
