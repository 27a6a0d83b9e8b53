"""SQLite: any value may stand in any column, so its rows are read as texts and typed like those of a CSV."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import Source
from pipelines.errors import ConfigError, DataError, EvergreenError, ServiceUnavailable
from pipelines.ingest.sources.columns import check_columns, check_names
from pipelines.ingest.sources.files import expand, place
from pipelines.ingest.sources.tables import selection
from pipelines.ingest.sources.typed import Texts
from pipelines.ingest.sources.window import MARGIN, Window
from pipelines.problem import Problem
from pipelines.sql import literal, quote

HEAD_ROWS = 1000


def read_sqlite(problem: Problem, name: str, source: Source, window: Window, path: str, *, head: bool) -> Texts:
    """Land the wanted rows of a table or query as text in a Parquet file; with `head` only the first ones.

    Each value is read with a letter before it that says what it is for SQLite (n, i, r, t, b: null, integer, real,
    text, blob). Blobs are shown in hexadecimal.

    Raises:
        ConfigError: no such table, or SQL that does not run.
        DataError: no such file, or no SQLite database.
        SchemaError: its columns differ.
        ServiceUnavailable: it is locked.
    """
    import adbc_driver_sqlite.dbapi as adbc
    import pyarrow.parquet as pq

    file = _file(problem, name, source)
    rows = f"({selection(source)}\n) AS source"
    with _explained(name, file), adbc.connect(f"{file.as_uri()}?mode=ro") as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {rows} LIMIT 0")
        names_in_file = cursor.fetch_record_batch().schema.names
        expected: dict[str, str] = dict(source.columns) or dict.fromkeys(names_in_file, "")
        check_columns(name, source, expected, dict.fromkeys(names_in_file, ""), str(file))
        check_names([column for column in names_in_file if column in expected], str(file))
        names = list(expected)
        cells = ", ".join(f"{_marked(quote(column))} AS c{i}" for i, column in enumerate(names))
        limit = "" if not head else f"LIMIT {0 if source.columns else HEAD_ROWS}"
        cursor.execute(f"SELECT {cells} FROM {rows} WHERE {_condition(window)} {limit}")
        schema = pa.schema([*((f"c{i}", pa.string()) for i in range(len(names))), ("unreadable", pa.string())])
        with pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=False) as writer:
            for batch in cursor.fetch_record_batch():
                writer.write_batch(_as_text(batch, schema, file.name))
    text = {
        i: f"CASE c{i}[1] WHEN 'n' THEN NULL WHEN 'r' THEN {_shortest(f'c{i}[2:]')} ELSE c{i}[2:] END"
        for i in range(len(names))
    }

    def query(columns: Sequence[int], has_row: bool) -> str:
        cells = [f"{text[i]} AS c{i}, c{i}[1] IN ('t', 'b') AS t{i}" for i in columns]
        if has_row:
            values = ", ".join(f"{quote(column)} := {text[i]}" for i, column in enumerate(names))
            cells.append(f"to_json(struct_pack({values})) AS row")
        rows = f"read_parquet({literal(path)}, file_row_number = true)"
        return f"SELECT file_row_number AS place, unreadable, {', '.join(cells)} FROM {rows}"

    return Texts(names, query, is_typed=not source.columns)


def _shortest(real: str) -> str:
    """SQL: the digits of a real number that tell it from all others: 0.1, and not 0.10000000000000001."""
    return f"coalesce(CAST(TRY_CAST({real} AS DOUBLE) AS VARCHAR), {real})"


def _file(problem: Problem, name: str, source: Source) -> Path:
    path = expand(source.database or "", place(problem, name)).removeprefix("sqlite://").removeprefix("/")
    file = (problem.folder / path.partition("?")[0]).absolute()
    if not file.is_file():
        raise DataError("there is no such file", where=str(file), cure=f"correct sources.{name}.database")
    return file


def _marked(column: str) -> str:
    """SQL: a value as bytes, behind the first letter of its type. A real keeps all its digits."""
    return f"""CAST(CASE typeof({column}) WHEN 'null' THEN 'n' WHEN 'real' THEN 'r' || printf('%!.17g', {column})
        WHEN 'blob' THEN 'b\\x' || hex({column}) ELSE substr(typeof({column}), 1, 1) || {column} END AS BLOB)"""


def _condition(window: Window) -> str:
    """Rows near the window, whatever the time zone of a time; one that SQLite cannot read is read too, and judged."""
    if window.column is None:
        return "true"
    time = f"datetime({quote(window.column)})"
    start, end = (f"'{moment:%Y-%m-%d %H:%M:%S}'" for moment in (window.start - MARGIN, window.end + MARGIN))
    return f"(({time} >= {start} AND {time} < {end}) OR {time} IS NULL)"


def _as_text(batch: pa.RecordBatch, schema: pa.Schema, file: str) -> pa.RecordBatch:
    """The batch as strings; a row with bytes that are no UTF-8 shows them as escapes and is marked."""
    columns, bad = [], [False] * batch.num_rows
    for column in batch.columns:
        try:
            columns.append(column.cast(pa.string()))
        except pa.ArrowInvalid:
            values = [bytes(value) for value in column.to_pylist()]
            texts = [value.decode("utf-8", "backslashreplace") for value in values]
            bad = [was or text.encode() != value for was, text, value in zip(bad, texts, values, strict=True)]
            columns.append(pa.array(texts))
    reason = pa.scalar(f"not readable: not valid utf-8 ({file})")
    columns.append(pc.if_else(pa.array(bad), reason, pa.scalar(None, pa.string())))
    return pa.record_batch(columns, schema=schema)


@contextmanager
def _explained(name: str, file: Path) -> Iterator[None]:
    try:
        yield
    except EvergreenError:
        raise
    except Exception as error:  # the driver raises its own errors, OSError and ValueError alike
        text = (str(error) or type(error).__name__).splitlines()[0].rpartition("query: ")[2]
        if re.search(r"no such (table|column|function)|syntax error|incomplete input|unrecognized token", text):
            raise ConfigError(
                text, where=f"{file}, sources.{name}", cure="correct the source's table or query"
            ) from error
        if re.search(r"locked|busy", text):
            raise ServiceUnavailable(text, where=str(file), cure="wait until its writer is done") from error
        raise DataError(f"no readable SQLite database: {text}", where=str(file), cure="copy it again") from error
