"""Avro files, block by block, landed as Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pipelines.config import Source
from pipelines.errors import DataError, EvergreenError, SchemaError
from pipelines.ingest.sources.columnar import HEAD_ROWS, Part, check_parts, create_view
from pipelines.ingest.sources.files import File, reading
from pipelines.ingest.sources.window import Window
from pipelines.sql import literal

PRIMITIVES = {
    "null": pa.null(), "boolean": pa.bool_(), "int": pa.int32(), "long": pa.int64(), "float": pa.float32(),
    "double": pa.float64(), "bytes": pa.binary(), "string": pa.string(), "fixed": pa.binary(), "enum": pa.string(),
}  # fmt: skip
LOGICAL = {
    "date": pa.date32(), "timestamp-millis": pa.timestamp("us", "UTC"), "timestamp-micros": pa.timestamp("us", "UTC"),
    "local-timestamp-millis": pa.timestamp("us"), "local-timestamp-micros": pa.timestamp("us"),
    "time-millis": pa.time64("us"), "time-micros": pa.time64("us"), "uuid": pa.uuid(),
}  # fmt: skip


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

    parts = [Part(file.name, _schema(file), partial(_head, file)) for file in files]
    check_parts(name, source, parts)
    relations = []
    for index, (part, file) in enumerate(zip(parts, files, strict=True)):
        path = folder / f"{name}-{index}.parquet"
        with pq.ParquetWriter(path, part.schema, compression="lz4") as writer:
            for batch in () if head else _batches(file, part.schema):
                writer.write_batch(batch)
        relations.append(f"read_parquet({literal(str(path))})")
    create_view(database, name, source, relations, window)


def _schema(file: File) -> pa.Schema:
    with _avro(file) as reader:
        described = reader.writer_schema
    if described.get("type") != "record":
        raise SchemaError("its items are no records", where=file.name, cure="write one record for each row")
    named: dict[str, pa.DataType] = {}
    return pa.schema(
        [(one["name"], _type(one["type"], f"{file.name}, {one['name']}", named)) for one in described["fields"]]
    )


def _type(described: Any, where: str, named: dict[str, pa.DataType]) -> pa.DataType:
    """The Arrow type of an Avro type; a union of null and one more is that one. `named` are those met before."""
    if isinstance(described, list):
        kinds = {_type(one, where, named) for one in described if one != "null"}
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
    if logical == "decimal":
        return pa.decimal128(described["precision"], described.get("scale", 0))
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
            fields = [(one["name"], _type(one["type"], where, named)) for one in described["fields"]]
            return named.setdefault(described["name"], pa.struct(fields))
    raise SchemaError(f"a column of type {kind}", where=where, cure="leave it out, or write it as another type")


def _batches(file: File, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    with _avro(file) as reader:
        for block in reader:
            yield pa.RecordBatch.from_pylist(list(block), schema=schema)


def _head(file: File) -> pa.Table:
    schema = _schema(file)
    batch = next(_batches(file, schema), None)
    return pa.Table.from_batches([batch.slice(0, HEAD_ROWS)] if batch is not None else [], schema)


@contextmanager
def _avro(file: File) -> Iterator[Any]:
    """The file's blocks. What a damaged one makes the library raise is of nearly any type."""
    import fastavro

    try:
        with reading(file.name), file.system.open_input_file(file.path) as stream:
            yield fastavro.block_reader(stream)
    except EvergreenError:
        raise
    except Exception as error:
        raise DataError(
            f"truncated, corrupt or no Avro: {type(error).__name__}: {error}",
            where=file.name,
            cure="copy the file again from where it comes, or declare the source's format",
        ) from error
