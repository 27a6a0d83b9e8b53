"""Text values made into values of the declared types; those that cannot be are told, row by row.

A wide source is worked on by few columns at a time: what a query of all of them costs grows faster than their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa

from pipelines import sql
from pipelines.config import SourceType
from pipelines.ingest.sources.columns import DUCKDB_TYPES
from pipelines.ingest.sources.moments import moment

ISO_8601 = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?"
INTEGER = r"[+-]?\d+(\.0*)?"
NAN = ("nan", "NaN", "NAN", "-nan", "-NaN")
TRUE, FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")
# What a guess takes for a time or a boolean: no hour 24, nothing beyond microseconds, one way to write it.
DAY = r"\d{4}-\d{2}-\d{2}"
LOCAL_TIME = rf"{DAY}([T ]([01]\d|2[0-3]):\d{{2}}(:\d{{2}}(\.\d{{1,6}}0*)?)?)?"
TIME = rf"{LOCAL_TIME}(Z|[+-]\d{{2}}(:?\d{{2}})?)?"
BOOLEANS = (("true", "false"), ("True", "False"), ("TRUE", "FALSE"))
SHOWN_CHARACTERS = 100
TOGETHER = 32  # columns in one query
ROW_GROUP_CELLS = 5_000_000
MAX_GROUP_ROWS = 100_000
GROUP_BYTES = 2 << 20  # of text that lands together: a query holds as much of it at a time, and JSON many times over
VECTOR_ROWS = 2048  # that DuckDB works on at once
FAULTS, ROW = '"evergreen: faults"', '"evergreen: row"'  # columns of a landed file
PLACE = "evergreen: place"  # and of its parts

# What a column without a declared type may be: a day, and a time without a zone, stay what they are.
Kind = SourceType | Literal["date", "local"]
TYPES: dict[str, str] = {
    "date": "DATE",
    "local": "TIMESTAMP",
    **{str(kind): name for kind, name in DUCKDB_TYPES.items()},
}


class Landing:
    """Batches of rows on their way into a Parquet file, of which several make a row group."""

    def __init__(self, path: str, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(
            path, schema, compression="lz4", use_dictionary=["file"], write_statistics=False
        )
        self._batches: list[pa.RecordBatch] = []
        self._bytes = 0
        self.fewest = MAX_GROUP_ROWS
        """rows of a group that is full"""

    def write(self, batch: pa.RecordBatch) -> None:
        self._batches.append(batch)
        self._bytes += batch.nbytes
        if self._bytes > GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._batches:
            group = pa.Table.from_batches(self._batches)
            self._writer.write_table(group)
            if self._bytes > GROUP_BYTES:
                self.fewest = min(self.fewest, group.num_rows)
        self._batches, self._bytes = [], 0


@dataclass(frozen=True)
class Texts:
    """Rows of text: `query` is given numbers of columns, and gives SQL that has c<i> (the text) for each of them.

    Beside them: `place`, the row's number; `unreadable`, why it could not be read at all, or null; `row`, JSON of the
    row as it came, where it is asked for. Where `is_typed` the source tells numbers from texts, and t<i> says that a
    value is a text: '7' stays one.
    """

    names: list[str]
    query: Callable[[Sequence[int], bool], str]
    nulls: Sequence[str] = ()
    is_typed: bool = False
    group_rows: int = MAX_GROUP_ROWS
    """Rows that are written together, at most."""

    @property
    def chunks(self) -> Iterator[range]:
        """Numbers of columns that are worked on together."""
        for start in range(0, len(self.names), TOGETHER):
            yield range(start, min(start + TOGETHER, len(self.names)))

    def value(self, index: int, kind: Kind) -> str:
        """SQL: the text of a value, null where it stands for a missing one."""
        column = f"c{index}" if kind == "string" else f"trim(c{index})"
        nulls = [*self.nulls, *(NAN if kind == "float" else ())]
        return f"CASE WHEN {column} NOT IN {_in(nulls)} THEN {column} END" if nulls else column


def infer(database: duckdb.DuckDBPyConnection, texts: Texts) -> dict[str, Kind]:
    """The narrowest type of each column that loses nothing of any value in any row.

    A text is a number only if that number prints as this very text; a number of a source that has numbers, if it keeps
    all digits. A column without values is one of strings.
    """
    types: dict[str, Kind] = {}
    for chunk in texts.chunks:
        values = ", ".join(f"{texts.value(i, 'string')} AS v{i}" for i in chunk)
        kinds = "".join(f", t{i}" for i in chunk) if texts.is_typed else ""
        counts = ", ".join(f"[{', '.join(_counts(texts, i))}]" for i in chunk)
        rows = f"SELECT {values}{kinds} FROM ({texts.query(chunk, False)}) WHERE unreadable IS NULL"
        counted = database.execute(f"SELECT {counts} FROM ({rows})").fetchall()[0]
        types |= {texts.names[i]: _narrowest(*count) for i, count in zip(chunk, counted, strict=True)}
    return types


def _counts(texts: Texts, index: int) -> list[str]:
    """SQL: how many values a column has, and how many of them are of each kind, as `_narrowest` takes them."""
    value = f"v{index}"
    number = f"TRY_CAST({value} AS DOUBLE)"
    keeps = keeps_digits(value) if texts.is_typed else f"CAST({number} AS VARCHAR) = {value}"
    is_day = f"regexp_full_match({value}, '{DAY}') AND TRY_CAST({value} AS DATE) IS NOT NULL"
    is_local = f"regexp_full_match({value}, '{LOCAL_TIME}') AND TRY_CAST({value} AS TIMESTAMP) IS NOT NULL"
    is_time = f"regexp_full_match({value}, '{TIME}') AND TRY_CAST({value} AS TIMESTAMPTZ) IS NOT NULL"
    is_true = ", ".join(f"count_if({value} IN {_in(spelling)})" for spelling in BOOLEANS)
    return [
        f"count({value})",
        f"count_if(t{index} AND {value} IS NOT NULL)" if texts.is_typed else "0",
        f"count_if(CAST(TRY_CAST({value} AS BIGINT) AS VARCHAR) = {value})",
        f"count_if(isfinite({number}) AND {keeps})",
        f"count_if({value} IN {_in(NAN)})",
        f"greatest({is_true})",
        f"count_if({is_day})",
        f"count_if({is_local})",
        f"count_if({is_time})",
    ]


def _narrowest(
    values: int, texts: int, integers: int, floats: int, nans: int, booleans: int, days: int, locals_: int, times: int
) -> Kind:
    if values == 0:
        return "string"
    if times == values:
        return "date" if days == values else "local" if locals_ == values else "timestamp"
    if texts:
        return "string"
    if integers == values:
        return "integer"
    if floats and floats + nans == values:
        return "float"
    return "boolean" if booleans == values else "string"


def keeps_digits(number: str) -> str:
    """SQL: whether a float keeps all digits of a number that is written as text; null or false where it is none.

    >>> import duckdb
    >>> for text in ("1.50", "1e21", "9007199254740993"):
    ...     print(text, *duckdb.sql("SELECT " + keeps_digits(f"'{text}'")).fetchall()[0])
    1.50 True
    1e21 True
    9007199254740993 False
    """
    return f"{_digits(f'CAST(TRY_CAST({number} AS DOUBLE) AS VARCHAR)')} = {_digits(number)}"


def _digits(number: str) -> str:
    """SQL: the digits of a number that say something, without its sign, point and exponent."""
    mantissa = f"regexp_replace({number}, '[eE].*$', '')"
    return f"trim(replace(ltrim({mantissa}, '+-'), '.', ''), '0')"


def typed(text: str, kind: Kind, zone: str) -> str:
    """SQL: a text as a value of a type, null where it is none; a time without a zone is one of the zone `zone`.

    >>> import duckdb
    >>> duckdb.sql("SELECT " + typed("'3.7'", "integer", "UTC") + ", " + typed("'3.0'", "integer", "UTC")).fetchall()
    [(None, 3)]
    """
    match kind:
        case "string":
            return text
        case "integer":
            whole = f"TRY_CAST(split_part({text}, '.', 1) AS BIGINT)"
            return f"""CASE WHEN CAST(TRY_CAST({text} AS BIGINT) AS VARCHAR) = {text} THEN TRY_CAST({text} AS BIGINT)
                WHEN regexp_full_match({text}, '{INTEGER}') THEN {whole} END"""
        case "float":
            number = f"TRY_CAST({text} AS DOUBLE)"
            return f"CASE WHEN isfinite({number}) AND NOT contains({text}, '_') THEN {number} END"
        case "boolean":
            return f"CASE WHEN lower({text}) IN {_in(TRUE)} THEN true WHEN lower({text}) IN {_in(FALSE)} THEN false END"
        case "timestamp":
            return f"CASE WHEN regexp_full_match({text}, '{ISO_8601}') THEN {moment(text, 'VARCHAR', zone)} END"
        case "date" | "local" | "list<float>":
            return f"TRY_CAST({text} AS {TYPES[kind]})"


def land(
    database: duckdb.DuckDBPyConnection, texts: Texts, types: Mapping[str, Kind], within: str, zone: str, path: str
) -> str:
    """Write typed rows to a Parquet file, and give SQL of them.

    These are the columns, FAULTS (null where there is none), and ROW of those with faults. `within` is a condition over
    the columns that says which rows are wanted; `zone` is the time zone of times without one.
    """
    chunks = list(texts.chunks)
    if len(chunks) == 1:
        rows = _wanted(texts, f"({_judged(texts, types, chunks[0], zone)})", FAULTS, within)
        has_long_rows = texts.group_rows < VECTOR_ROWS
        if has_long_rows:  # each thread would hold as much as one
            database.execute("SET threads = 1")
        _write(database, texts, rows, path, len(texts.names))
        if has_long_rows:
            database.execute("RESET threads")
        return f"read_parquet({sql.literal(path)})"
    return _wanted_of_wide(database, texts, types, chunks, within, zone, path)


def _wanted_of_wide(
    database: duckdb.DuckDBPyConnection,
    texts: Texts,
    types: Mapping[str, Kind],
    chunks: Sequence[range],
    within: str,
    zone: str,
    path: str,
) -> str:
    """As `land`, a file of few columns at a time, which are then put side by side.

    One thread writes them: of two, the second's rows may come before the first's.
    """
    database.execute("SET threads = 1")
    parts, faults = [], []
    for chunk in chunks:
        parts.append(f"{path}.{chunk.start}")
        faults.append(sql.quote(f"{FAULTS[1:-1]} {chunk.start}"))
        rows = f"SELECT * RENAME ({FAULTS} AS {faults[-1]}) FROM ({_judged(texts, types, chunk, zone)})"
        _write(database, texts, rows, parts[-1], len(chunk))
    is_faulty = " UNION ALL ".join(
        f"(SELECT 1 FROM read_parquet({sql.literal(part)}) WHERE len({fault}) > 0 LIMIT 1)"
        for part, fault in zip(parts, faults, strict=True)
    )
    row, rows = "NULL", texts.query([0], False)
    if database.execute(is_faulty).fetchall():
        row, rows = "row", texts.query(range(len(texts.names)), True)
    parts.append(f"{path}.row")
    placed = f"SELECT place AS {sql.quote(PLACE)}, CAST({row} AS VARCHAR) AS {ROW} FROM ({rows})"
    _write(database, texts, placed, parts[-1], 1)
    database.execute("RESET threads")
    _put_side_by_side(parts, path, _row_group(texts, len(texts.names)))
    relation, all_faults = f"read_parquet({sql.literal(path)})", f"flatten([{', '.join(faults)}])"
    return f"({_wanted(texts, relation, all_faults, within)})"


def _put_side_by_side(parts: Sequence[str], path: str, rows: int) -> None:
    """One Parquet file with the columns of several, whose rows have the same places; those are deleted."""
    import pyarrow.parquet as pq

    files = [pq.ParquetFile(part) for part in parts]
    schema = pa.schema([field for file in files for field in file.schema_arrow if field.name != PLACE])
    with pq.ParquetWriter(path, schema, compression="lz4") as writer:
        for batches in zip(*(file.iter_batches(rows) for file in files), strict=True):
            assert all(batch[PLACE].equals(batches[0][PLACE]) for batch in batches), "the rows of two parts differ"
            columns = [column for batch in batches for column in batch.drop_columns(PLACE).columns]
            writer.write_batch(pa.record_batch(columns, schema=schema))
    for file, part in zip(files, parts, strict=True):
        file.close()
        Path(part).unlink()


def _wanted(texts: Texts, relation: str, faults: str, within: str) -> str:
    names = ", ".join(map(sql.quote, texts.names))
    return f"""
        SELECT {names}, CASE WHEN len({faults}) > 0 THEN {faults} END AS {FAULTS},
            CASE WHEN len({faults}) > 0 THEN CAST({ROW} AS VARCHAR) END AS {ROW}
        FROM {relation} WHERE {within}"""


def _judged(texts: Texts, types: Mapping[str, Kind], chunk: range, zone: str) -> str:
    """SQL of some columns of all rows as values of their types, and FAULTS: what is wrong with each of their values.

    Where these are all columns, ROW comes with them, and PLACE otherwise. That a row could not be read at all is told
    once, with the first columns.
    """
    kinds = {i: types[texts.names[i]] for i in chunk}
    values = [f"{texts.value(i, kind)} AS c{i}" for i, kind in kinds.items()]
    cells = [f"{typed(f'c{i}', kind, zone)} AS y{i}" for i, kind in kinds.items()]
    faults = ", ".join(
        f"CASE WHEN c{i} IS NOT NULL AND y{i} IS NULL THEN "
        f"{sql.literal(f'{texts.names[i]}: not of type {kind}: ')} || {_shown(f'c{i}')} END"
        for i, kind in kinds.items()
        if kind != "string"
    )
    columns = ", ".join(f"CAST(y{i} AS {TYPES[kind]}) AS {sql.quote(texts.names[i])}" for i, kind in kinds.items())
    unreadable = "[unreadable]" if chunk.start == 0 else "[]"
    is_all = len(chunk) == len(texts.names)
    beside = f"row AS {ROW}" if is_all else f"place AS {sql.quote(PLACE)}"
    return f"""
        WITH texts AS (SELECT * REPLACE ({", ".join(values)}) FROM ({texts.query(chunk, is_all)})),
        cells AS (SELECT *, {", ".join(cells)} FROM texts)
        SELECT {columns}, {beside},
            CASE WHEN unreadable IS NOT NULL THEN {unreadable}
                ELSE list_filter(CAST([{faults}] AS VARCHAR[]), lambda fault: fault IS NOT NULL) END AS {FAULTS}
        FROM cells"""


def _write(database: duckdb.DuckDBPyConnection, texts: Texts, rows: str, path: str, columns: int) -> None:
    group = _row_group(texts, columns)
    database.execute(f"COPY ({rows}) TO {sql.literal(path)} (FORMAT parquet, ROW_GROUP_SIZE {group})")


def _row_group(texts: Texts, columns: int) -> int:
    """Rows that are written together."""
    return min(texts.group_rows, max(VECTOR_ROWS, min(MAX_GROUP_ROWS, ROW_GROUP_CELLS // columns)))


def _shown(text: str) -> str:
    cut = f"left({text}, {SHOWN_CHARACTERS}) || '...'"
    return f"'''' || CASE WHEN length({text}) > {SHOWN_CHARACTERS} THEN {cut} ELSE {text} END || ''''"


def _in(texts: Sequence[str]) -> str:
    return "(" + ", ".join(map(sql.literal, texts)) + ")"
