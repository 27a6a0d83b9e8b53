"""PostgreSQL: the database selects and casts, and its rows are streamed into a Parquet file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb
import pyarrow as pa

from pipelines.config import Source
from pipelines.errors import AccessError, ConfigError, DataError, EvergreenError, ServiceUnavailable
from pipelines.ingest.sources.columnar import HEAD_ROWS, Part, check_parts, create_view, types_of
from pipelines.ingest.sources.files import expand, place
from pipelines.ingest.sources.tables import selection
from pipelines.ingest.sources.typed import FAULTS, ROW, keeps_digits
from pipelines.ingest.sources.window import Window
from pipelines.problem import Problem
from pipelines.sql import literal, quote

CONNECT_TIMEOUT_S = 10
MAX_WHOLE_PRECISION = 18  # digits that a 64-bit integer always holds


def open_postgres(
    database: duckdb.DuckDBPyConnection,
    problem: Problem,
    name: str,
    source: Source,
    window: Window,
    path: Path,
    *,
    head: bool,
) -> str:
    """A view of the wanted rows of a table or query; with `head` of none. `path` is where they land.

    Result: SQL of what has landed, rejected rows too. Numbers of any precision (`numeric`) whose type is not declared
    are floats if those keep all digits of each, and texts otherwise.

    Raises:
        AccessError: the password is wrong, or the user may not read.
        ConfigError: no such table or database, or SQL that does not run.
        SchemaError: its columns differ.
        ServiceUnavailable: the database does not answer.
    """
    import adbc_driver_postgresql.dbapi as adbc  # type: ignore[import-untyped]
    import pyarrow.parquet as pq

    where = place(problem, name)
    uri = expand(source.database or "", where)
    if "connect_timeout=" not in uri:
        uri += f"{'&' if '?' in uri else '?'}connect_timeout={CONNECT_TIMEOUT_S}"
    rows = f"({selection(source)}\n) AS source"
    with _explained(uri, where), adbc.connect(uri) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET TIME ZONE {literal(window.zone)}")  # for what the source's own query casts
        cursor.execute(f"SELECT * FROM {rows} LIMIT 0")
        given = cursor.fetch_record_batch().schema
        columns = {field.name: _selected(field, source) for field in given}
        schema = pa.schema([pa.field(field.name, columns[field.name][1]) for field in given])
        check_parts(name, source, [Part(_shown(uri, source), schema, partial(_head, cursor, rows, columns))])
        condition = "false" if head else _condition(schema, window)
        wanted = list(source.columns) or schema.names
        cells = [f"{columns[column][0]} AS {quote(column)}" for column in wanted]
        faults = [_infinite(column) for column in wanted if _is_time(schema.field(column).type)]
        cells.append(f"array_remove(ARRAY[{', '.join(faults)}]::text[], NULL) AS {FAULTS}")
        cursor.execute(f"""
            SELECT *, CASE WHEN cardinality({FAULTS}) > 0 THEN row_to_json(selected)::text END AS {ROW}
            FROM (SELECT {", ".join(cells)} FROM {rows} WHERE {condition}) AS selected""")
        reader = cursor.fetch_record_batch()
        landed = pa.schema(
            [
                *(schema.field(column) for column in wanted),
                (FAULTS.strip('"'), pa.list_(pa.string())),
                (ROW.strip('"'), pa.string()),
            ]
        )
        with pq.ParquetWriter(path, landed, compression="lz4") as writer:
            for batch in reader:
                writer.write_batch(batch.cast(landed))
    relation = f"read_parquet({literal(str(path))})"
    if window.column is not None:
        relation = f"(SELECT * FROM {relation} WHERE {window.condition(types_of(database, relation)[window.column])})"
    exact = [column for column in wanted if _is_exact(given.field(column)) and not source.columns]
    floats = [quote(column) for column in _kept_by_floats(database, relation, exact)]
    replaced = f"REPLACE ({', '.join(f'CAST({column} AS DOUBLE) AS {column}' for column in floats)})" if floats else ""
    kept = f"(SELECT * EXCLUDE ({FAULTS}, {ROW}) {replaced} FROM {relation} WHERE len({FAULTS}) = 0)"
    create_view(database, name, source, [kept], window)
    return relation


def _condition(schema: pa.Schema, window: Window) -> str:
    """Rows of the window, and of times without a zone some more: what they are is judged when they have landed."""
    if window.column is None:
        return "true"
    window.check_name(schema.names)
    column, kind = quote(window.column), schema.field(window.column).type
    if not _is_time(kind):
        window.check(str(kind))
    has_zone = pa.types.is_timestamp(kind) and kind.tz is not None
    condition = window.with_zone(column) if has_zone else window.roughly(column)
    return f"(({condition}) OR {column} IS NULL)"


def _kept_by_floats(database: duckdb.DuckDBPyConnection, relation: str, names: Sequence[str]) -> list[str]:
    """Those columns of numbers, written as texts, all of whose digits a float keeps."""
    if not names:
        return []
    no_digits = "'NaN', 'Infinity', '-Infinity'"
    kept = [
        f"bool_and({column} IS NULL OR {column} IN ({no_digits}) OR {keeps_digits(column)})"
        for column in map(quote, names)
    ]
    answers = database.execute(f"SELECT {', '.join(kept)} FROM {relation}").fetchall()[0]
    return [name for name, is_kept in zip(names, answers, strict=True) if is_kept is not False]


def _is_exact(field: pa.Field) -> bool:
    """Whether PostgreSQL keeps a column's numbers digit by digit."""
    return (field.metadata or {}).get(b"POSTGRESQL:type", b"") in (b"numeric", b"money")


def _selected(field: pa.Field, source: Source) -> tuple[str, pa.DataType]:
    """SQL that gives a column in a type that travels, and that type."""
    column, kind = quote(field.name), field.type
    known = (field.metadata or {}).get(b"POSTGRESQL:type", b"").decode()
    if _is_exact(field) and not source.columns:
        return f"{column}::numeric::text", pa.string()
    if known == "numeric":
        modifier = int(field.metadata.get(b"POSTGRESQL:typmod", b"-1")) - 4
        is_whole = modifier >= 0 and modifier & 0x7FF == 0 and modifier >> 16 <= MAX_WHOLE_PRECISION
        if is_whole and source.columns.get(field.name) == "integer":
            return f"{column}::int8", pa.int64()
        return f"{column}::float8", pa.float64()
    if known == "money":
        return f"{column}::numeric::float8", pa.float64()
    if _is_time(kind):
        return f"CASE WHEN isfinite({column}) THEN {column} END", kind
    if pa.types.is_primitive(kind) or pa.types.is_binary(kind) or kind == pa.string():
        return column, kind
    return f"{column}::text", pa.string()  # enums, uuid, json, arrays, intervals, what an extension brings


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _infinite(name: str) -> str:
    """SQL: the complaint about a time that lies at infinity, for which Arrow has no value."""
    column = quote(name)
    message = literal(f"{name}: not of type timestamp: ")
    return f"CASE WHEN NOT isfinite(source.{column}) THEN {message} || quote_literal(source.{column}::text) END"


def _head(cursor: Any, rows: str, columns: dict[str, tuple[str, pa.DataType]]) -> pa.Table:
    cells = ", ".join(f"{selected} AS {quote(column)}" for column, (selected, _) in columns.items())
    cursor.execute(f"SELECT {cells} FROM {rows} LIMIT {HEAD_ROWS}")
    return cursor.fetch_arrow_table()


def _shown(uri: str, source: Source) -> str:
    """A database's address without the credentials, and what is read of it."""
    address = re.sub(r"^(\w+://)(.*@)?([^?]*).*$", r"\1\3", uri, flags=re.DOTALL)
    return f"{address}, {source.table or 'query'}"


@contextmanager
def _explained(uri: str, where: str) -> Iterator[None]:
    """Turn the driver's errors into ours. They are not chained: libpq repeats parts of a URI that it cannot parse."""
    try:
        yield
    except EvergreenError:
        raise
    except Exception as error:  # the driver raises its own errors and OSError alike
        raise _fault(_redacted(str(error), uri), str(getattr(error, "sqlstate", "") or ""), where) from None


def _fault(text: str, state: str, where: str) -> EvergreenError:
    match = re.search(r"(?:ERROR|FATAL):\s*(.*)", text)
    what = (
        match[1] if match else text.strip().splitlines()[0].split("[libpq] ")[-1] if text.strip() else "no reason given"
    )
    if state in ("42501", "28P01", "28000") or re.search(
        r"password|role \".*\" does not exist|no pg_hba.conf entry|permission denied|not permitted", what
    ):
        return AccessError(f"the database refused: {what}", where=where, cure="check its user, password and rights")
    if state.startswith("42") or re.search(
        r"database \".*\" does not exist|invalid (URI|integer|connection|percent)", what
    ):
        return ConfigError(
            f"the database says: {what}", where=where, cure="correct the source's database, table or query"
        )
    if state.startswith(("08", "53", "57")) or re.search(
        r"onnect|could not translate|time(d )?out|starting up|shutting down|too many clients|no response", text
    ):
        return ServiceUnavailable(
            f"the database does not answer: {what}", where=where, cure="is it running, and reachable?"
        )
    return DataError(f"the database failed: {what}", where=where, cure="look at the query and the database's own log")


def _redacted(text: str, uri: str) -> str:
    secrets = re.findall(r"://[^/]*?:(.*)@", uri, re.DOTALL) + re.findall(r"[?&]password=([^&]*)", uri)
    for secret in [uri, *secrets, *(part for secret_text in secrets for part in re.split(r"[@/:?#]", secret_text))]:
        for shown in (secret, unquote(secret)):
            text = text.replace(shown, "***") if len(shown) > 1 else text
    return text
