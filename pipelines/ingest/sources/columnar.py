"""Columns that know their types: checked against the declared ones, and seen as one view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import duckdb
import pyarrow as pa

from pipelines.config import Source, SourceType
from pipelines.errors import SchemaError
from pipelines.ingest.sources.columns import DUCKDB_TYPES, check_columns, check_names
from pipelines.ingest.sources.limits import MAX_DIGITS, MAX_LEVELS
from pipelines.ingest.sources.moments import is_time, moment, to_microseconds
from pipelines.ingest.sources.window import Window
from pipelines.sql import quote

SHOWN_ROWS = 3
HEAD_ROWS = 1000
ELEMENT_BYTES = 8  # of a list


@dataclass(frozen=True)
class Part:
    """A file or a table: `name` is what a person calls it, `head` gives its first rows."""

    name: str
    schema: pa.Schema
    head: Callable[[], pa.Table]

    @property
    def shape(self) -> tuple[tuple[str, str], ...]:
        """Names and types, in order: parts of one shape can be read together."""
        return tuple((field.name, str(field.type)) for field in self.schema)


def fits(kind: pa.DataType, declared: SourceType) -> bool:
    """Whether each value of an Arrow type is one of the declared type too.

    >>> fits(pa.int32(), "integer"), fits(pa.decimal128(10, 2), "float"), fits(pa.float64(), "integer")
    (True, True, False)
    """
    if isinstance(kind, pa.BaseExtensionType):
        if isinstance(kind, pa.UuidType):
            return declared == "string"
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return True
    match declared:
        case "string":
            return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
        case "integer":
            is_whole = pa.types.is_decimal(kind) and kind.scale == 0 and kind.precision <= 18
            return bool(is_whole or (pa.types.is_integer(kind) and kind != pa.uint64()))
        case "float":
            return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))
        case "boolean":
            return bool(pa.types.is_boolean(kind))
        case "list<float>":
            is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
            return bool(is_list and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)))
        case "timestamp":
            return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def plainest(kind: pa.DataType) -> pa.DataType:
    """The Arrow type that stands for all those of which DuckDB makes the same one.

    >>> plainest(pa.dictionary(pa.int8(), pa.large_string())), plainest(pa.timestamp("us", "Asia/Tokyo"))
    (DataType(string), TimestampType(timestamp[us, tz=UTC]))
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return pa.timestamp(kind.unit, "UTC")
    return pa.date32() if pa.types.is_date(kind) else kind


def readable(schema: pa.Schema) -> pa.Schema:
    """The schema in which Arrow hands rows to DuckDB, which does not know all of Arrow's types.

    >>> readable(pa.schema([("x", pa.float16()), ("y", pa.decimal256(20, 2))])).types
    [DataType(float), Decimal128Type(decimal128(20, 2))]
    """
    return pa.schema([field.with_type(_readable(field.type)) for field in schema])


def _readable(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_decimal256(kind):
        return pa.float64() if _is_too_long(kind) else pa.decimal128(kind.precision, kind.scale)
    return kind


def _is_too_long(kind: pa.DataType) -> bool:
    """Whether a type has more digits than any that DuckDB has, but for floats."""
    return bool(pa.types.is_decimal(kind) and kind.precision > MAX_DIGITS)


def check_parts(name: str, source: Source, parts: list[Part]) -> None:
    """Raise SchemaError for the first part that differs from the declared columns, or else from the first part.

    Without declared columns the order of the columns is free, and so are two types of which DuckDB makes one.
    """
    first = {field.name: field.type for field in parts[0].schema}
    for part in parts[1:]:  # a column without a value has no type: the next file may tell it
        first |= {
            field.name: field.type
            for field in part.schema
            if field.name in first and pa.types.is_null(first[field.name])
        }
    expected: dict[str, str] = dict(source.columns) or {name_of: str(kind) for name_of, kind in first.items()}

    def differs(name_of: str, kind: pa.DataType) -> bool:
        if source.columns:
            return not fits(kind, source.columns[name_of])
        if _is_too_long(kind):
            return True
        return not pa.types.is_null(kind) and plainest(kind) != plainest(first[name_of])

    for part in parts:
        kind_of = {field.name: field.type for field in part.schema}
        for name_of, kind in kind_of.items():
            if name_of in expected and _is_deep(kind, MAX_LEVELS):
                raise SchemaError(
                    f"{name_of}: lists and structures of over {MAX_LEVELS} levels",
                    where=part.name,
                    cure="write it flat, or leave it out of the source's columns, with extra_columns: ignore",
                )
        check_names([name_of for name_of in part.schema.names if name_of in expected], part.name)
        wrong = [name_of for name_of, kind in kind_of.items() if name_of in expected and differs(name_of, kind)]
        head = part.head() if wrong else None
        lines = [
            _difference(source, name_of, expected[name_of], kind_of[name_of]) + _values(head, name_of)
            for name_of in wrong
        ]
        kinds = {name_of: str(kind) for name_of, kind in kind_of.items()}
        check_columns(name, source, expected, kinds, part.name, retyped=lines)


def _is_deep(kind: pa.DataType, levels: int) -> bool:
    return levels < 0 or any(_is_deep(kind.field(index).type, levels - 1) for index in range(kind.num_fields))


def _difference(source: Source, column: str, expected: str, actual: pa.DataType) -> str:
    if not source.columns and _is_too_long(actual):
        return f"{column}: {actual}, and at most {MAX_DIGITS} digits can be read; write it as text, or declare a float"
    return f"{column}: {'declared' if source.columns else 'in the first file'} {expected}, found {actual}"


def _values(head: pa.Table | None, column: str) -> str:
    if head is None or column not in head.schema.names:
        return ""
    cells = head[column]
    if pa.types.is_timestamp(cells.type) or pa.types.is_date(cells.type):
        cells = cells.cast(pa.string())  # Python knows no year beyond 9999
    values = enumerate(cells.to_pylist(), start=1)
    shown = [f"{value!r} (row {row})" for row, value in values if value is not None][:SHOWN_ROWS]
    return f"; first values: {', '.join(shown)}" if shown else ""


def create_view(
    database: duckdb.DuckDBPyConnection, name: str, source: Source, relations: Sequence[str], window: Window
) -> None:
    """One view of all relations, each SQL that reads rows: declared types, rows of the window.

    Each relation's columns are taken by name, in one order: a file may have them in another. Times have a resolution
    of microseconds, of which DuckDB's functions know more than of any other.
    """
    selects = []
    names: list[str] = list(source.columns)
    for relation in relations:
        kinds = types_of(database, relation)
        names = names or list(kinds)
        within = "true"
        if window.column is not None:
            window.check_name(list(kinds))
            within = window.condition(kinds[window.column])
        cells = [f"{_cell(name_of, kinds[name_of], source, window.zone)} AS {quote(name_of)}" for name_of in names]
        selects.append(f"SELECT {', '.join(cells)} FROM (SELECT * FROM {relation} WHERE {within})")
    database.execute(f"CREATE TEMP VIEW {quote(name)} AS {' UNION ALL '.join(selects)}")


class Lengths(NamedTuple):
    """How long the texts, lists and structures of a column are, in bytes."""

    longest: int
    all: int


def lengths(database: duckdb.DuckDBPyConnection, relation: str) -> dict[str, Lengths]:
    """The lengths of the columns of a relation that are of no fixed size."""
    measures = {}
    for column, kind in types_of(database, relation).items():
        if kind == "VARCHAR":
            measures[column] = f"strlen({quote(column)})"
        elif kind == "BLOB":
            measures[column] = f"octet_length({quote(column)})"
        elif kind.endswith("[]"):
            measures[column] = f"{ELEMENT_BYTES} * len({quote(column)})"
        elif "(" in kind and not kind.startswith("DECIMAL"):
            measures[column] = f"strlen(CAST({quote(column)} AS VARCHAR))"
    if not measures:
        return {}
    sums = ", ".join(f"[max({measure})::HUGEINT, sum({measure})::HUGEINT]" for measure in measures.values())
    row = database.execute(f"SELECT {sums} FROM {relation}").fetchall()[0]
    return {column: Lengths(*(length or 0 for length in pair)) for column, pair in zip(measures, row, strict=True)}


def types_of(database: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    """A relation's columns and their DuckDB types."""
    return {str(row[0]): str(row[1]) for row in database.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}


def _cell(name: str, kind: str, source: Source, zone: str) -> str:
    """SQL: a column of the DuckDB type `kind` in the declared type, or as it comes."""
    if source.columns.get(name) == "timestamp":
        return moment(quote(name), kind, zone)
    if source.columns:
        return f"CAST({quote(name)} AS {DUCKDB_TYPES[source.columns[name]]})"
    return to_microseconds(quote(name), kind) if is_time(kind) and kind != "DATE" else quote(name)
