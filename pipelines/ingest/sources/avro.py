"""Avro files, block by block, landed as Parquet.

What a file claims of itself is not believed: a block is framed and unpacked here, within bounds, before the library
sees it, and what its schema lets a few bytes become is counted first.
"""

from __future__ import annotations

import bz2
import io
import itertools
import json
import lzma
import zlib
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
from pipelines.ingest.sources.avro_sizes import bytes_per_byte, check_schema
from pipelines.ingest.sources.columnar import HEAD_ROWS, Part, check_parts, create_view, readable
from pipelines.ingest.sources.columns import check_count
from pipelines.ingest.sources.files import SHOWN_CHARACTERS, File, reading, too_large
from pipelines.ingest.sources.limits import (
    AVRO_UNPACKED_BYTES,
    AVRO_VALUES_TOGETHER,
    MAX_AVRO_HEADER_BYTES,
    MAX_BLOCK_BYTES,
    MAX_DIGITS,
    MAX_OBJECT_BYTES,
    MAX_RECORD_BYTES,
    MAX_XZ_BYTES,
    MOST_EXPANSION,
)
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
    with _decoded(file):  # a schema may say anything
        return _columns(described["fields"], file, source)


def _columns(described: list[Any], file: File, source: Source) -> pa.Schema:
    check_count(described, source, file.name)
    named: dict[str, pa.DataType] = {}
    fields = []
    for field in described:
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
        together = AVRO_VALUES_TOGETHER // (1 + len(opened.schema["fields"]))
        while True:
            with _decoded(file):
                block = next(blocks, None)
            if block is None:
                return
            block_records = iter(block)
            while True:
                with _decoded(file):
                    records = list(itertools.islice(block_records, together))
                if not records:
                    break
                columns = [_column(records, field, file, source) for field in schema]
                yield pa.RecordBatch.from_arrays(columns, schema=readable(schema))


def _column(records: list[Any], field: pa.Field, file: File, source: Source) -> pa.Array:
    values = [record[field.name] for record in records]
    try:
        column = _as_time(pa.array(values, _raw(field.type)), field.type).cast(readable(pa.schema([field])).types[0])
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        if source.columns.get(field.name) == "float":  # as in every format, a float may hold fewer digits
            return pa.array(np.array(values, np.float64), from_pandas=True)
        raise DataError(
            f"{field.name}: a value is not of its column's type, {field.type}: {str(error).splitlines()[0]}",
            where=file.name,
            cure="write the column with one type that holds all its values, such as string, or declare the source's "
            "columns: one of type float is rounded, one that is left out is not read",
        ) from error
    if pa.types.is_string(column.type) and (pc.max(pc.binary_length(column)).as_py() or 0) > MAX_RECORD_BYTES:
        raise DataError(
            f"{field.name}: a text of over {MAX_RECORD_BYTES >> 20} MB",
            where=file.name,
            cure="write it in parts, or leave the column out of the source's columns, with extra_columns: ignore",
        )
    return column


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
            stream = _Bounded(stack.enter_context(file.system.open_input_file(file.path)), file.size)
            if stream.read(len(MAGIC)) != MAGIC:
                raise ValueError("it does not begin as Avro files do")
            stream = _Bounded(stack.enter_context(file.system.open_input_file(file.path)), MAX_AVRO_HEADER_BYTES)
            header: Any = fastavro.schemaless_reader(cast(IO[bytes], stream), HEADER, None)
            stream.left = file.size
            described = json.loads(header["meta"]["avro.schema"])
            written = fastavro.parse_schema(described)
            check_schema(written, file.name)
            codec = header["meta"].get("avro.codec", b"null").decode()
            plain = {"avro.schema": json.dumps(_without_times(described)).encode(), "avro.codec": b"null"}
            start = io.BytesIO()
            fastavro.schemaless_writer(start, HEADER, header | {"meta": plain})
            pieces = _framed(file, stream, written, codec, header["sync"])
            opened = _Opened(
                written,
                fastavro.block_reader(cast(IO[bytes], _Pieces(itertools.chain([start.getvalue()], pieces)))),
            )
        yield opened


class _Bounded:
    """A stream of which no more is asked than it has, however much the file claims."""

    def __init__(self, stream: Any, left: int) -> None:
        self._stream, self.left = stream, left

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.left:
            raise ValueError(f"{size:,} bytes are claimed, and {self.left:,} may be there")
        data = bytes(self._stream.read(size))
        self.left -= len(data)
        return data


class _Pieces:
    """Bytes that come in pieces, of which each is read to its end before the next is asked for."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._piece, self._passed = pieces, io.BytesIO(), 0

    def read(self, size: int) -> bytes:
        data = self._piece.read(size)
        if not data and size and (piece := next(self._pieces, None)) is not None:
            self._passed += self._piece.tell()
            self._piece = io.BytesIO(piece)
            data = self._piece.read(size)
        return data

    def tell(self) -> int:
        return self._passed + self._piece.tell()


def _framed(file: File, stream: _Bounded, schema: Any, codec: str, sync: bytes) -> Iterator[bytes]:
    """Each block as an unpacked file would have it.

    Raises:
        DataError: it is packed in a way that is not read, or unpacks to more than its size lets one believe.
        ValueError: it is damaged.
    """
    at_most = min(MAX_BLOCK_BYTES, MAX_OBJECT_BYTES // bytes_per_byte(schema))
    smallest = check_schema(schema, file.name)
    most, packed, unpacked = max(AVRO_UNPACKED_BYTES, MOST_EXPANSION * file.size), 0, 0
    while (count := _long(stream, is_first=True)) is not None:
        size = _long(stream)
        if size is None or size < 0 or count < 0:
            raise ValueError(f"a block of {count:,} records and {size or 0:,} bytes")
        if size > MAX_BLOCK_BYTES:
            raise _too_large_a_block(file, at_most)
        data = _unpacked(codec, stream.read(size), at_most, file)
        if len(data) > at_most:
            raise _too_large_a_block(file, at_most)
        packed, unpacked = packed + size, unpacked + len(data)
        # Of a file that begins with twice as much as it may come to, the rest is not waited for.
        so_far = max(AVRO_UNPACKED_BYTES, 2 * MOST_EXPANSION * packed)
        if unpacked > min(most, so_far) and codec != "null":
            raise DataError(
                f"{packed:,} bytes unpack to {unpacked:,}, over {MOST_EXPANSION} times as much",
                where=file.name,
                cure="copy the file again from where it comes; if it is whole, write it without a codec",
            )
        if count * smallest > len(data) or (count > AVRO_VALUES_TOGETHER and not smallest):
            raise ValueError(f"a block that claims {count:,} records in {len(data):,} bytes")
        if stream.read(len(sync)) != sync:
            raise ValueError("a block does not end as this file's blocks do")
        yield b"".join([_as_long(count), _as_long(len(data)), data, sync])


def _too_large_a_block(file: File, at_most: int) -> DataError:
    return DataError(
        f"a block of over {at_most:,} bytes, which is more than is held at once of records like these",
        where=file.name,
        cure="copy the file again from where it comes; if it is whole, write it in smaller blocks (sync interval)",
    )


def _unpacked(codec: str, data: bytes, at_most: int, file: File) -> bytes:
    """A block's records, of which one byte more than `at_most` comes of those that are too large."""
    match codec:
        case "null":
            return data
        case "deflate":
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, at_most + 1)
        case "bzip2":
            return bz2.BZ2Decompressor().decompress(data, at_most + 1)
        case "xz":
            return lzma.LZMADecompressor(memlimit=MAX_XZ_BYTES).decompress(data, at_most + 1)
    raise DataError(
        f"packed by {codec[:SHOWN_CHARACTERS]!r}, which is not read",
        where=file.name,
        cure="write it with the codec deflate, bzip2, xz or null",
    )


def _long(stream: _Bounded, *, is_first: bool = False) -> int | None:
    """A number as Avro writes it; None where the file ends before the first of a block."""
    value = shift = 0
    while True:
        byte = stream.read(1) if stream.left else b""
        if not byte:
            if is_first and not shift:
                return None
            raise EOFError("it ends within a block")
        value |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            return (value >> 1) ^ -(value & 1)
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _as_long(value: int) -> bytes:
    """A number that is not negative, as Avro writes it."""
    rest, data = value << 1, bytearray()
    while rest > 0x7F:
        data.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*data, rest])


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


@contextmanager
def _decoded(file: File) -> Iterator[None]:
    """What a damaged file makes the library raise is of nearly any type."""
    try:
        with reading(file.name):
            yield
    except EvergreenError:
        raise
    except MemoryError as error:
        raise too_large(file.name) from error
    except Exception as error:
        raise DataError(
            f"truncated, corrupt or no Avro: {type(error).__name__}: {str(error)[:SHOWN_CHARACTERS]}",
            where=file.name,
            cure="copy the file again from where it comes, or declare the source's format",
        ) from error
