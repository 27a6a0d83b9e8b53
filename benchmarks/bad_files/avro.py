"""Bad Avro files: lengths that lie, schemas that recurse, blocks that grow."""

from __future__ import annotations

import bz2
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from typing import Any

from benchmarks.bad_files.kinds import Kind, in_file, rows
from benchmarks.bad_files.text import MB, flipped, zeroed

SYNC = b"s" * 16
FIELDS: list[dict[str, Any]] = [
    {"name": "id", "type": "string"},
    {"name": "litres", "type": ["null", "double"]},
    {"name": "age", "type": "long"},
    {"name": "is_hot", "type": "boolean"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
]
SCHEMA = {"type": "record", "name": "kettle", "fields": FIELDS}
AT_US = 1_704_110_400_000_000


def number(value: int) -> bytes:
    """A long as Avro writes it."""
    rest, data = (value << 1) ^ (value >> 63), bytearray()
    while rest & ~0x7F:
        data.append((rest & 0x7F) | 0x80)
        rest >>= 7
    data.append(rest)
    return bytes(data)


def text(value: bytes) -> bytes:
    return number(len(value)) + value


def header(schema: Any, codec: bytes | None = b"null", sync: bytes = SYNC) -> bytes:
    described = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    meta = [text(b"avro.schema") + text(described)]
    if codec is not None:
        meta.append(text(b"avro.codec") + text(codec))
    return b"Obj\1" + number(len(meta)) + b"".join(meta) + number(0) + sync


def block(count: int, data: bytes, size: int | None = None, sync: bytes = SYNC) -> bytes:
    return number(count) + number(len(data) if size is None else size) + data + sync


def record(name: bytes = b"k", extra: bytes = b"") -> bytes:
    return text(name) + number(0) + number(3) + b"\1" + number(AT_US) + extra


def with_field(kind: Any) -> dict[str, Any]:
    return SCHEMA | {"fields": [*FIELDS, {"name": "extra", "type": kind}]}


def deflated(data: bytes) -> bytes:
    packing = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packing.compress(data) + packing.flush()


def written(codec: str) -> bytes:
    import fastavro

    sink = io.BytesIO()
    good = [row | {"at": AT_US} for row in rows()]
    fastavro.writer(sink, fastavro.parse_schema(json.loads(json.dumps(SCHEMA))), good, codec=codec)
    return sink.getvalue()


def kinds() -> Iterator[Kind]:
    yield from _damaged_bytes()
    yield from _lies()
    yield from _schemas()
    yield from _bombs()


def _damaged_bytes() -> Iterator[Kind]:
    for codec in ("null", "deflate", "bzip2", "xz"):
        content = written(codec)
        for share in (0.01, 0.2, 0.5, 0.99):
            yield Kind(f"avro {codec}: cut at {share:.0%}", in_file("k.avro", content[: int(len(content) * share)]))
        for seed in range(3):
            yield Kind(f"avro {codec}: flipped bits {seed}", in_file("k.avro", flipped(content, seed, 8)))
        yield Kind(f"avro {codec}: zeroed in the middle", in_file("k.avro", zeroed(content)))


def _lies() -> Iterator[Kind]:
    good = header(SCHEMA)
    contents: dict[str, bytes] = {
        "header only": good,
        "magic only": b"Obj\1",
        "no block after the header's half": good[:-8],
        "a block of 2^40 records": good + block(2**40, record()),
        "a block of 2^62 records": good + block(2**62, record()),
        "a negative count": good + block(-5, record()),
        "a block of 2^40 bytes": good + block(1, record(), 2**40),
        "a block of negative size": good + block(1, record(), -100),
        "a block of 2^63 bytes": good + block(1, record(), 2**62),
        "more records than there are": good + block(100, record()),
        "fewer records than there are": good + block(1, record() * 100),
        "a text of 2^40 bytes": good + block(1, number(2**40) + b"k"),
        "a text of negative length": good + block(1, number(-7) + b"k" * 30),
        "a number that never ends": good + block(1, b"\xff" * 10_000),
        "a union's branch beyond": good + block(1, text(b"k") + number(99) + record()),
        "a negative branch": good + block(1, text(b"k") + number(-1) + record()),
        "text that is no utf-8": good + block(50, record(b"\xff\xfe\xc0") * 50),
        "another sync marker": good + block(1, record(), sync=b"t" * 16) + block(1, record()),
        "rubbish between blocks": good + block(1, record()) + b"rubbish" * 50 + block(1, record()),
        "empty blocks": good + block(0, b"") * 100_000,
        "NaN and Infinity": good
        + block(1, text(b"k") + number(1) + b"\0\0\0\0\0\0\xf8\x7f" + number(3) + b"\1" + number(AT_US))
        + block(1, text(b"l") + number(1) + b"\0\0\0\0\0\0\xf0\x7f" + number(3) + b"\1" + number(AT_US)),
        "a time beyond range": good + block(1, text(b"k") + number(0) + number(3) + b"\1" + number(2**62)),
        "meta of 2^40 entries": b"Obj\1" + number(2**40) + text(b"avro.schema"),
        "meta of a text of 2^40": b"Obj\1" + number(1) + text(b"avro.schema") + number(2**40),
        "meta of 300,000 entries": b"Obj\1"
        + number(300_000)
        + b"".join(text(b"%d" % i) + text(b"x") for i in range(300_000))
        + number(0)
        + SYNC,
        "no schema": b"Obj\1" + number(0) + SYNC,
        "no codec": header(SCHEMA, None) + block(1, record()),
        "an unknown codec": header(SCHEMA, b"rar") + block(1, record()),
        "a codec that is no text": header(SCHEMA, b"\xff\xfe") + block(1, record()),
        "snappy that is none": header(SCHEMA, b"snappy") + block(1, record()),
        "zstandard that is none": header(SCHEMA, b"zstandard") + block(1, record()),
        "lz4 that is none": header(SCHEMA, b"lz4") + block(1, record()),
        "snappy of 4 GB": header(SCHEMA, b"snappy") + block(1, b"\xff\xff\xff\xff\x0f" + record()),
        "one record of 40 MB": good + block(1, record(b"x" * (40 * MB))),
        "100 records of 1 MB": good + block(1, record(b"x" * 1_000_000)) * 100,
        "a block of 60 MB": good + block(1_500_000, record(b"x" * 27) * 1_500_000),
        "another version": b"Obj\2" + good[4:],
        "zeros": bytes(4 * MB),
    }
    for name, content in contents.items():
        yield Kind(f"avro: {name}", in_file("k.avro", content))
    yield Kind("avro, undeclared: 2^40 records", in_file("k.avro", contents["a block of 2^40 records"]), declares=False)


def _schemas() -> Iterator[Kind]:
    node = {"type": "record", "name": "node", "fields": [{"name": "next", "type": ["null", "node"]}]}
    nested: Any = "null"
    for _ in range(300):
        nested = {"type": "array", "items": nested}
    deep: Any = {"type": "record", "name": "r0", "fields": [{"name": "x", "type": "int"}]}
    for level in range(1, 200):
        deep = {"type": "record", "name": f"r{level}", "fields": [{"name": "x", "type": deep}]}
    doubling: list[dict[str, Any]] = [{"name": "x", "type": {"type": "record", "name": "d0", "fields": []}}]
    for level in range(1, 40):
        pair = [{"name": "a", "type": f"d{level - 1}"}, {"name": "b", "type": f"d{level - 1}"}]
        doubling.append({"name": f"x{level}", "type": {"type": "record", "name": f"d{level}", "fields": pair}})
    wide = [{"name": f"c{i}", "type": "null"} for i in range(20_000)]
    nothing = {"type": "record", "name": "nothing", "fields": []}
    many_nulls = {
        "type": "record",
        "name": "nulls",
        "fields": [{"name": f"c{i}", "type": "null"} for i in range(1_000)],
    }
    cases: dict[str, tuple[Any, bytes]] = {
        "a record that holds itself": (with_field(node), record(extra=number(1) * 1_000 + number(0))),
        "a record 200,000 deep": (with_field(node), record(extra=number(1) * 200_000 + number(0))),
        "a record that must hold itself": (
            with_field({"type": "record", "name": "self", "fields": [{"name": "next", "type": "self"}]}),
            record(),
        ),
        "2^40 nulls in an array": (
            with_field({"type": "array", "items": "null"}),
            record(extra=number(2**40) + number(0)),
        ),
        "2^40 empty records in an array": (
            with_field({"type": "array", "items": nothing}),
            record(extra=number(2**40) + number(0)),
        ),
        "2^40 empty fixed in an array": (
            with_field({"type": "array", "items": {"type": "fixed", "name": "f", "size": 0}}),
            record(extra=number(2**40) + number(0)),
        ),
        "a negative count in an array": (
            with_field({"type": "array", "items": "int"}),
            record(extra=number(-(2**40)) + number(2**40) + number(0)),
        ),
        "2^40 entries in a map": (with_field({"type": "map", "values": "null"}), record(extra=number(2**40))),
        "8 million integers in an array": (
            with_field({"type": "array", "items": "int"}),
            record(extra=number(8_000_000) + b"\2" * 8_000_000 + number(0)),
        ),
        "8 million empty arrays in an array": (
            with_field({"type": "array", "items": {"type": "array", "items": "int"}}),
            record(extra=number(8_000_000) + b"\0" * 8_000_000 + number(0)),
        ),
        "2 million empty maps in an array": (
            with_field({"type": "array", "items": {"type": "map", "values": "int"}}),
            record(extra=number(2_000_000) + b"\0" * 2_000_000 + number(0)),
        ),
        "records of 1,000 nulls": (
            with_field({"type": "array", "items": ["null", many_nulls]}),
            record(extra=number(100_000) + number(1) * 100_000 + number(0)),
        ),
        "a fixed of 2^40": (with_field({"type": "fixed", "name": "f", "size": 2**40}), record()),
        "a fixed of negative size": (with_field({"type": "fixed", "name": "f", "size": -1}), record()),
        "an enum without symbols": (with_field({"type": "enum", "name": "e", "symbols": []}), record(extra=number(3))),
        "an enum's symbol beyond": (
            with_field({"type": "enum", "name": "e", "symbols": ["a"]}),
            record(extra=number(9)),
        ),
        "arrays 300 deep": (with_field(nested), record(extra=number(0))),
        "records 200 deep": (with_field(deep), record(extra=number(0))),
        "records that double 40 times": (SCHEMA | {"fields": [*FIELDS, *doubling]}, record()),
        "20,000 columns": (SCHEMA | {"fields": [*FIELDS, *wide]}, record()),
        "a union of many": (with_field(["null", "int", "string", "bytes"]), record(extra=number(0))),
        "a union of a union": (with_field(["null", ["null", "int"]]), record(extra=number(0))),
        "an empty union": (with_field([]), record()),
        "an unknown type": (with_field("what"), record()),
        "a type that is a number": (with_field(7), record()),
        "a field twice": (SCHEMA | {"fields": [*FIELDS, FIELDS[0]]}, record(extra=text(b"k"))),
        "a decimal of negative digits": (
            with_field({"type": "bytes", "logicalType": "decimal", "precision": -4, "scale": 2}),
            record(extra=text(b"\1")),
        ),
        "a decimal without digits": (
            with_field({"type": "bytes", "logicalType": "decimal"}),
            record(extra=text(b"\1")),
        ),
        "a decimal of 2^40 digits": (
            with_field({"type": "bytes", "logicalType": "decimal", "precision": 2**40}),
            record(extra=text(b"\1" * 100_000)),
        ),
        "items that are no records": ("string", text(b"k")),
        "an array at the top": ({"type": "array", "items": "int"}, number(0)),
        "no fields": (SCHEMA | {"fields": []}, b""),
        "fields that are none": (SCHEMA | {"fields": "x"}, b""),
        "JSON that is none": (b"{" * 100_000, b""),
        "JSON 100,000 deep": (b"[" * 100_000 + b"]" * 100_000, b""),
        "a schema of 20 MB": (SCHEMA | {"doc": "x" * (20 * MB)}, record()),
    }
    for name, (schema, data) in cases.items():
        content = header(schema) + block(1, data)
        yield Kind(f"avro schema: {name}", in_file("k.avro", content), {"extra_columns": "ignore"})
        if "array" in name or "map" in name or "deep" in name or "double" in name:
            yield Kind(f"avro schema, undeclared: {name}", in_file("k.avro", content), declares=False)
    no_records = header(SCHEMA | {"fields": []}) + block(2**40, b"")
    yield Kind("avro schema: 2^40 records without fields", in_file("k.avro", no_records), declares=False)
    null_record = SCHEMA | {"fields": [{"name": name, "type": "null"} for name in ("id", "litres")]}
    yield Kind(
        "avro schema: 2^40 records of nulls", in_file("k.avro", header(null_record) + block(2**40, b"")), declares=False
    )


def _bombs() -> Iterator[Kind]:
    def of(codec: bytes, packed: bytes, count: int = 1) -> bytes:
        return header(SCHEMA, codec) + block(count, packed)

    def text_of_3_gib() -> bytes:
        packing = zlib.compressobj(1, zlib.DEFLATED, -15)
        data = packing.compress(number(3 << 30))
        for _ in range(3 << 10):
            data += packing.compress(b"x" * MB)
        return of(b"deflate", data + packing.compress(record()[2:]) + packing.flush())

    yield Kind("avro deflate: a text of 3 GiB", in_file("k.avro", text_of_3_gib))
    yield Kind(
        "avro deflate: 300 MB of records",
        in_file("k.avro", lambda: of(b"deflate", deflated(record() * 10_000_000), 10**7)),
    )
    yield Kind("avro bzip2: a text of 1 GB", in_file("k.avro", lambda: of(b"bzip2", bz2.compress(_long_text(1_000)))))
    yield Kind("avro xz: a text of 1 GB", in_file("k.avro", lambda: of(b"xz", lzma.compress(_long_text(1_000)))))

    def many_blocks() -> bytes:
        return header(SCHEMA, b"deflate") + block(500_000, deflated(record() * 500_000)) * 200

    yield Kind("avro deflate: 200 blocks of 7 MB", in_file("k.avro", many_blocks))


def _long_text(size_mb: int) -> bytes:
    return number(size_mb * MB) + b"x" * (size_mb * MB) + record()[2:]
