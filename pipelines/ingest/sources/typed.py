"""Text values made into values of the declared types; those that cannot be are told, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from pipelines import sql
from pipelines.config import ColumnType
from pipelines.ingest.sources.columns import DUCKDB_TYPES

ISO_8601 = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?"
INTEGER = r"[+-]?\d+(\.0*)?"
LEADING_ZERO = r"[+-]?0\d.*"  # a code, such as a postcode: as a number it would lose its zeros
NAN = ("nan", "NaN", "NAN", "-nan", "-NaN")
TRUE, FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")
SHOWN_CHARACTERS = 100
FAULTS, ROW = '"evergreen: faults"', '"evergreen: row"'  # columns of a landed file


@dataclass(frozen=True)
class Texts:
    """Rows of text: `query` is SQL that gives, for the column number i of `names`, c<i> (its text).

    Beside them: `unreadable`, why a row could not be read at all, or null; `row`, JSON of the row as it came. Where
    `is_typed` the source tells numbers from texts, and t<i> says that a value is a text: '007' stays one.
    """

    names: list[str]
    query: str
    nulls: Sequence[str] = ()
    is_typed: bool = False

    def value(self, index: int, kind: ColumnType) -> str:
        """SQL: the text of a value, null where it stands for a missing one."""
        column = f"c{index}" if kind == "string" else f"trim(c{index})"
        nulls = [*self.nulls, *(NAN if kind == "float" else ())]
        return f"CASE WHEN {column} NOT IN {_in(nulls)} THEN {column} END" if nulls else column


def infer(database: duckdb.DuckDBPyConnection, texts: Texts) -> dict[str, ColumnType]:
    """The narrowest type of each column that loses nothing of any value in any row.

    Numbers with leading zeros stay strings; a column without values is one too.
    """
    counts = []
    for index in range(len(texts.names)):
        value, number = texts.value(index, "integer"), texts.value(index, "float")
        is_text = f"coalesce(t{index}, false)" if texts.is_typed else "false"
        zero = f"regexp_full_match({value}, '{LEADING_ZERO}')"
        counts.append(f"""[
            count({texts.value(index, "string")}),
            count(*) FILTER ({is_text}),
            count({typed(value, "integer")}) FILTER (NOT {zero} AND NOT contains({value}, '.')),
            count({typed(number, "float")}) FILTER (NOT {zero}),
            count(*) FILTER ({value} IN {_in(NAN)} OR regexp_full_match(lower({value}), '[+-]?inf(inity)?')),
            count(*) FILTER (lower({value}) IN ('true', 'false')),
            count({typed(value, "timestamp")})]""")
    rows = database.execute(f"SELECT {', '.join(counts)} FROM ({texts.query}) WHERE unreadable IS NULL").fetchall()
    return {name: _narrowest(*found) for name, found in zip(texts.names, rows[0], strict=True)}


def _narrowest(
    values: int, texts: int, integers: int, floats: int, odd: int, booleans: int, timestamps: int
) -> ColumnType:
    if values and timestamps == values:
        return "timestamp"
    if values == 0 or texts:
        return "string"
    if integers == values:
        return "integer"
    if floats and floats + odd == values:
        return "float"
    return "boolean" if booleans == values else "string"


def typed(text: str, kind: ColumnType) -> str:
    """SQL: a text as a value of a type, null where it is none.

    >>> import duckdb
    >>> duckdb.sql("SELECT " + typed("'3.7'", "integer") + ", " + typed("'3.0'", "integer")).fetchall()
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
            return f"CASE WHEN regexp_full_match({text}, '{ISO_8601}') THEN TRY_CAST({text} AS TIMESTAMPTZ) END"


def land(
    database: duckdb.DuckDBPyConnection, texts: Texts, types: Mapping[str, ColumnType], within: str, path: str
) -> None:
    """Write typed rows to a Parquet file: the columns, FAULTS (null where there is none), and ROW of those with faults.

    `within` is a condition over the columns that says which rows are wanted.
    """
    names = list(enumerate(texts.names))
    values = [f"{texts.value(i, types[name])} AS v{i}" for i, name in names]
    cells = [f"{typed(f'v{i}', types[name])} AS y{i}" for i, name in names]
    faults = ", ".join(
        f"CASE WHEN v{i} IS NOT NULL AND y{i} IS NULL THEN "
        f"{sql.literal(f'{name}: not of type {types[name]}: ')} || {_shown(f'v{i}')} END"
        for i, name in names
        if types[name] != "string"
    )
    columns = ", ".join(f"CAST(y{i} AS {DUCKDB_TYPES[types[name]]}) AS {sql.quote(name)}" for i, name in names)
    database.execute(f"""
        COPY (
            WITH texts AS (SELECT unreadable, row, {", ".join(values)} FROM ({texts.query})),
            cells AS (SELECT *, {", ".join(cells)} FROM texts),
            judged AS (
                SELECT {columns}, row AS {ROW},
                    CASE WHEN unreadable IS NOT NULL THEN [unreadable]
                        ELSE list_filter(CAST([{faults}] AS VARCHAR[]), lambda fault: fault IS NOT NULL) END AS {FAULTS}
                FROM cells
            )
            SELECT * EXCLUDE ({FAULTS}, {ROW}),
                CASE WHEN len({FAULTS}) > 0 THEN {FAULTS} END AS {FAULTS},
                CASE WHEN len({FAULTS}) > 0 THEN CAST({ROW} AS VARCHAR) END AS {ROW}
            FROM judged WHERE {within}
        ) TO {sql.literal(path)} (FORMAT parquet, ROW_GROUP_SIZE 100000)
    """)


def _shown(text: str) -> str:
    cut = f"left({text}, {SHOWN_CHARACTERS}) || '...'"
    return f"'''' || CASE WHEN length({text}) > {SHOWN_CHARACTERS} THEN {cut} ELSE {text} END || ''''"


def _in(texts: Sequence[str]) -> str:
    return "(" + ", ".join(map(sql.literal, texts)) + ")"
