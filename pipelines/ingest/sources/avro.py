"""Avro files, block by block, landed as Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import Source
from pipelines.errors import DataError, EvergreenError, SchemaError
from pipelines.ingest.sources.columnar import HEAD_ROWS, MAX_DIGITS, Part, check_parts, create_view, readable
from pipelines.ingest.sources.files import File, reading
from pipelines.ingest.sources.window import Window
from pipelines.sql import literal

PRIMITIVES = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
    "fixed": pa.binary(),
    "enum": pa.string(),
}
# Numbers that stand for times are read as numbers: Python knows no year beyond 9999.
TIMES = {
    "date": pa.date32(),
    "time-millis": pa.time32("ms"),
    "time-micros": pa.time64("us"),
    "timestamp-millis": pa.timestamp("ms", "UTC"),
    "local-timestamp-millis": pa.timestamp("ms"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
    "local-timestamp-micros": pa.timestamp("us"),
    "timestamp-nanos": pa.timestamp("ns", "UTC"),
    "local-timestamp-nanos": pa.timestamp("ns"),
}
LOGICAL = {**TIMES, "uuid": pa.uuid()}
ARROW_DIGITS = 76  # of the longest decimal that Arrow has
MAGIC = b"Obj\1"
FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_800_000  # the years 1 and 10000
HEADER = {
    "type": "record",
    "name": "header",
    "fields": [
        {"name": "magic", "type": {"type": "fixed", "name": "magic", "size": 4}},
        {"name": "meta", "type": {"type": "map", "values": "bytes"}},
        {"name": "sync", "type": {"type": "fixed", "name": "sync", "size": 16}},
    ],
}


def open_avro(
    database: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    files: list[File],
    window: Window,
    folder: Path,
    *,
    head: bool,
) -> None:
    """A view of Avro files; with `head` of no rows.

    Raises:
        DataError: a file is truncated or corrupt.
        SchemaError: a file's columns differ, or are of types that cannot be read.
    """
    import pyarrow.parquet as pq

    parts = [_part(file, source) for file in files]
    check_parts(name, source, parts)
    relations = []
    for index, (part, file) in enumerate(zip(parts, files, strict=True)):
        path = folder / f"{name}-{index}.parquet"
        wanted = pa.schema([part.schema.field(column) for column in source.columns or part.schema.names])
        with pq.ParquetWriter(path, readable(wanted), compression="lz4") as writer:
            for batch in () if head else _batches(file, wanted, source):
                writer.write_batch(batch)
        relations.append(f"read_parquet({literal(str(path))})")
    create_view(database, name, source, relations, window)


def _part(file: File, source: Source) -> Part:
    schema = _schema(file, source)
    return Part(file.name, schema, lambda: _head(file, schema, source))


def _schema(file: File, source: Source) -> pa.Schema:
    """The file's columns; one that is not wanted may be of any type, and is given none."""
    with _avro(file) as opened:
        described = opened.schema
    if not isinstance(described, dict) or described.get("type") != "record":
        raise SchemaError("its items are no records", where=file.name, cure="write one record for each row")
    named: dict[str, pa.DataType] = {}
    fields = []
    for field in described["fields"]:
        is_wanted = not source.columns or field["name"] in source.columns or source.extra_columns == "fail"
        kind = _type(field["type"], f"{file.name}, {field['name']}", named) if is_wanted else pa.null()
        fields.append((field["name"], kind))
    return pa.schema(fields)


def _type(described: Any, where: str, named: dict[str, pa.DataType]) -> pa.DataType:
    """The Arrow type of an Avro type; a union of null and one more is that one. `named` are those met before."""
    if isinstance(described, list):
        kinds = {_type(part_of_union, where, named) for part_of_union in described if part_of_union != "null"}
        if len(kinds) == 1:
            return kinds.pop()
        if kinds and all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds):
            return pa.int64() if all(map(pa.types.is_integer, kinds)) else pa.float64()
        raise SchemaError(
            f"a union of {len(kinds)} types: {', '.join(sorted(map(str, kinds)))}",
            where=where,
            cure="write the column with one type beside null",
        )
    if isinstance(described, str):
        described = {"type": described}
    kind, logical = described["type"], described.get("logicalType")
    if isinstance(kind, (dict, list)):
        return _type(kind, where, named)
    if logical == "decimal" and described["precision"] > ARROW_DIGITS:
        raise SchemaError(
            f"a decimal of {described['precision']} digits", where=where, cure="leave it out, or write it as a string"
        )
    if logical == "decimal":
        make = pa.decimal128 if described["precision"] <= MAX_DIGITS else pa.decimal256
        return make(described["precision"], described.get("scale", 0))
    if logical in LOGICAL:
        return LOGICAL[logical]
    if kind in PRIMITIVES:
        return named.setdefault(described.get("name", kind), PRIMITIVES[kind])
    if kind in named:
        return named[kind]
    match kind:
        case "array":
            return pa.list_(_type(described["items"], where, named))
        case "map":
            return pa.map_(pa.string(), _type(described["values"], where, named))
        case "record":
            fields = [(field["name"], _type(field["type"], where, named)) for field in described["fields"]]
            return named.setdefault(described["name"], pa.struct(fields))
    raise SchemaError(f"a column of type {kind}", where=where, cure="leave it out, or write it as another type")


def _batches(file: File, schema: pa.Schema, source: Source) -> Iterator[pa.RecordBatch]:
    """The columns of a schema, in types that DuckDB knows, block by block."""
    with _avro(file) as opened:
        blocks = iter(opened.blocks)
        while True:
            with _decoded(file):
                block = next(blocks, None)
                records = [] if block is None else list(block)
            if block is None:
                return
            columns = [_column(records, field, file, source) for field in schema]
            yield pa.RecordBatch.from_arrays(columns, schema=readable(schema))


def _column(records: list[Any], field: pa.Field, file: File, source: Source) -> pa.Array:
    values = [record[field.name] for record in records]
    try:
        return _as_time(pa.array(values, _raw(field.type)), field.type).cast(readable(pa.schema([field])).types[0])
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        if source.columns.get(field.name) == "float":  # as in every format, a float may hold fewer digits
            return pa.array(np.array(values, np.float64), from_pandas=True)
        raise DataError(
            f"{field.name}: a value is not of its column's type, {field.type}: {str(error).splitlines()[0]}",
            where=file.name,
            cure="write the column with one type that holds all its values, such as string, or declare the source's "
            "columns: one of type float is rounded, one that is left out is not read",
        ) from error


def _raw(kind: pa.DataType) -> pa.DataType:
    """The Arrow type of what is read: a time is a number."""
    if pa.types.is_temporal(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    if pa.types.is_map(kind):
        return pa.map_(kind.key_type, _raw(kind.item_type))
    if pa.types.is_list(kind):
        return pa.list_(_raw(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _raw(field.type)) for field in kind])
    return kind


def _as_time(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Numbers as the times for which they stand; those beyond years of four digits become the first one beyond."""
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        per_ms = 1000 if kind.unit == "us" else 1
        low, high = (pa.scalar(bound * per_ms, pa.int64()) for bound in (FIRST_MS, LAST_MS))
        values = pc.min_element_wise(pc.max_element_wise(values, low, skip_nulls=False), high, skip_nulls=False)
    return values.cast(kind) if kind != values.type else values


def _head(file: File, schema: pa.Schema, source: Source) -> pa.Table:
    wanted = pa.schema([field for field in schema if not source.columns or field.name in source.columns])
    batch = next(_batches(file, wanted, source), None)
    parts = [batch.slice(0, HEAD_ROWS)] if batch is not None else []
    return pa.Table.from_batches(parts, readable(wanted))


class _Opened(NamedTuple):
    """An Avro file: the schema with which it was written, and its blocks."""

    schema: Any
    blocks: Any


@contextmanager
def _avro(file: File) -> Iterator[_Opened]:
    """The file's blocks, in which times are numbers: the header is read as if its schema had no such types."""
    import fastavro

    with ExitStack() as stack:
        with _decoded(file):
            stream = stack.enter_context(file.system.open_input_file(file.path))
            if stream.read(len(MAGIC)) != MAGIC:
                raise ValueError("it does not begin as Avro files do")
            stream.seek(0)
            header: Any = fastavro.schemaless_reader(stream, HEADER, None)
            written = json.loads(header["meta"]["avro.schema"])
            header["meta"]["avro.schema"] = json.dumps(_without_times(written)).encode()
            start = io.BytesIO()
            fastavro.schemaless_writer(start, HEADER, header)
            opened = _Opened(
                fastavro.parse_schema(written),
                fastavro.block_reader(cast(IO[bytes], _Joined(start.getvalue(), stream))),
            )
        yield opened


def _without_times(described: Any) -> Any:
    """A schema in which a number that stands for a time is a number."""
    if isinstance(described, list):
        return [_without_times(part_of_union) for part_of_union in described]
    if isinstance(described, dict):
        is_time = described.get("logicalType") in TIMES
        return {
            key: _without_times(element) for key, element in described.items() if not (is_time and key == "logicalType")
        }
    return described


class _Joined:
    """Bytes, and a stream that goes on where they end."""

    def __init__(self, start: bytes, stream: Any) -> None:
        self.start, self.stream = io.BytesIO(start), stream

    def read(self, size: int) -> bytes:
        data = self.start.read(size)
        return data if len(data) == size else data + bytes(self.stream.read(size - len(data)))

    def tell(self) -> int:
        return self.start.tell() + int(self.stream.tell())


@contextmanager
def _decoded(file: File) -> Iterator[None]:
    """What a damaged file makes the library raise is of nearly any type."""
    try:
        with reading(file.name):
            yield
    except EvergreenError:
        raise
    except Exception as error:
        raise DataError(
            f"truncated, corrupt or no Avro: {type(error).__name__}: {error}",
            where=file.name,
            cure="copy the file again from where it comes, or declare the source's format",
        ) from error
