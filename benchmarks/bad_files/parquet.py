"""Bad Parquet files, and Delta tables of them: footers and pages that lie, values that grow."""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.bad_files.kinds import Kind, in_file
from benchmarks.bad_files.text import MB, flipped, zeroed

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def table(count: int = 200, **columns: Any) -> pa.Table:
    made = pa.table(
        {
            "id": pa.array([f"k{n}" for n in range(count)]),
            "litres": pa.array(np.full(count, 1.5)),
            "age": pa.array(np.full(count, 3, np.int64)),
            "is_hot": pa.array(np.arange(count) % 3 == 0),
            "at": pa.array([NOON] * count, pa.timestamp("us", "UTC")),
        }
    )
    for name, values in columns.items():
        place = made.schema.get_field_index(name)
        made = made.set_column(place, name, values) if place >= 0 else made.append_column(name, values)
    return made


def written(content: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(content, sink, **options)
    return sink.getvalue()


def kinds() -> Iterator[Kind]:
    yield from _damaged_bytes()
    yield from _lies()
    yield from _bombs()
    yield from _types()
    yield from _delta()


def _damaged_bytes() -> Iterator[Kind]:
    for codec in ("NONE", "SNAPPY", "GZIP", "ZSTD", "LZ4", "BROTLI"):
        content = written(table(), compression=codec)
        for share in (0.1, 0.5, 0.95):
            yield Kind(
                f"parquet {codec}: cut at {share:.0%}", in_file("k.parquet", content[: int(len(content) * share)])
            )
        for seed in range(3):
            yield Kind(f"parquet {codec}: flipped bits {seed}", in_file("k.parquet", flipped(content, seed, 6)))
    content = written(table())
    length = struct.unpack("<I", content[-8:-4])[0]
    footer = len(content) - 8 - length
    for seed in range(12):
        bad = content[:footer] + flipped(content[footer:-8], seed, 3) + content[-8:]
        yield Kind(f"parquet: flipped bits in the footer {seed}", in_file("k.parquet", bad))
    for seed in range(12):
        bad = content[:4] + flipped(content[4:footer], seed, 3) + content[footer:]
        yield Kind(f"parquet: flipped bits in the pages {seed}", in_file("k.parquet", bad))
    yield Kind("parquet: zeroed in the middle", in_file("k.parquet", zeroed(content)))


def _lies() -> Iterator[Kind]:
    content = written(table())
    for name, length in (("2^31", 2**31), ("2^32 - 1", 2**32 - 1), ("0", 0), ("the file and more", len(content) + 9)):
        bad = content[:-8] + struct.pack("<I", length) + content[-4:]
        yield Kind(f"parquet: a footer of {name} bytes", in_file("k.parquet", bad))
    yield Kind("parquet: magic only", in_file("k.parquet", b"PAR1PAR1"))
    yield Kind("parquet: encrypted footer", in_file("k.parquet", content[:-4] + b"PARE"))
    yield Kind("parquet: a file behind the file", in_file("k.parquet", content + content))
    yield Kind("parquet: rubbish behind", in_file("k.parquet", content + b"rubbish"))
    yield Kind("parquet: zeros", in_file("k.parquet", bytes(MB)))
    footer_zeros = b"PAR1" + b"\xff" * 1000 + struct.pack("<I", 1000) + b"PAR1"
    yield Kind("parquet: a footer of 0xff", in_file("k.parquet", footer_zeros))
    nested = b"PAR1" + b"\x1c" * 100_000 + struct.pack("<I", 100_000) + b"PAR1"
    yield Kind("parquet: a footer of structures in structures", in_file("k.parquet", nested))
    lists = b"PAR1" + b"\x29\xfc\xff\xff\xff\xff\x0f" + struct.pack("<I", 7) + b"PAR1"
    yield Kind("parquet: a footer with a list of 2^32", in_file("k.parquet", lists))
    for seed in range(6):
        bad = _numbers_raised(written(table(), compression="NONE", use_dictionary=seed % 2 == 0), seed)
        yield Kind(f"parquet: lengths in the pages raised {seed}", in_file("k.parquet", bad))


def _numbers_raised(content: bytes, seed: int) -> bytes:
    """Runs of three bytes become the largest number that they can write."""
    length = struct.unpack("<I", content[-8:-4])[0]
    data, draw = bytearray(content), random.Random(seed)
    for _ in range(3):
        at = draw.randrange(4, len(content) - 8 - length - 5)
        data[at : at + 5] = b"\xfe\xff\xff\xff\x0f"
    return bytes(data)


def _bombs() -> Iterator[Kind]:
    def one_text(size_mb: int, count: int, codec: str = "ZSTD") -> Callable[[], bytes]:
        values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), ["x" * (size_mb * MB)])
        return lambda: written(table(count, id=values), compression=codec, dictionary_pagesize_limit=1 << 30)

    yield Kind("parquet: one text of 300 MB", in_file("k.parquet", one_text(300, 1)))
    yield Kind("parquet: a text of 1 MB in 100,000 rows", in_file("k.parquet", one_text(1, 100_000)))
    yield Kind("parquet: a text of 8 MB in 20,000 rows", in_file("k.parquet", one_text(8, 20_000, "GZIP")))

    def plain() -> bytes:
        texts = pa.array(["x" * 200_000] * 4_000)
        return written(table(4_000, id=texts), compression="ZSTD", use_dictionary=False)

    yield Kind("parquet: 4,000 texts of 200 kB", in_file("k.parquet", plain))
    yield Kind(
        "parquet: 800 MB in a page",
        in_file("k.parquet", lambda: one_page(["x" * (8 * MB)] * 100)),
    )
    yield Kind(
        "parquet, undeclared: 800 MB in a page",
        in_file("k.parquet", lambda: one_page(["x" * (8 * MB)] * 100)),
        declares=False,
    )
    yield Kind(
        "parquet: 2 million rows that are alike", in_file("k.parquet", lambda: written(_alike(table(2_000_000))))
    )
    wide = {f"c{i}": pa.nulls(1) for i in range(10_000)}
    yield Kind("parquet: 10,000 columns", in_file("k.parquet", written(table(1, **wide))), {"extra_columns": "ignore"})
    yield Kind("parquet, undeclared: 10,000 columns", in_file("k.parquet", written(table(1, **wide))), declares=False)
    yield Kind(
        "parquet: 20,000 groups of a row", in_file("k.parquet", lambda: written(table(20_000), row_group_size=1))
    )
    lists = pa.array([[1.0] * 5_000_000], pa.list_(pa.float32()))
    yield Kind("parquet: a list of 5 million", in_file("k.parquet", written(table(1, extra=lists))), declares=False)
    endless = pa.array([[0] * 1_000_000] * 60, pa.list_(pa.int64()))
    yield Kind(
        "parquet: 60 lists of a million", in_file("k.parquet", written(table(60, extra=endless))), declares=False
    )
    yield Kind("parquet: 2^31 rows by a run", in_file("k.parquet", lambda: _run_bomb()))
    key_value = table().replace_schema_metadata({"x": "y" * (20 * MB)})
    yield Kind("parquet: metadata of 20 MB", in_file("k.parquet", lambda: written(key_value)))
    arrow = table().replace_schema_metadata({"ARROW:schema": "/////" * 1000})
    yield Kind(
        "parquet: an Arrow schema that is none", in_file("k.parquet", lambda: written(arrow, store_schema=False))
    )


def _alike(content: pa.Table) -> pa.Table:
    return content.set_column(0, "id", pa.array(["k"] * content.num_rows))


def one_page(texts: list[str]) -> bytes:
    return written(
        table(len(texts), id=pa.array(texts)),
        compression="ZSTD",
        use_dictionary=False,
        data_page_size=1 << 30,
        write_batch_size=len(texts),
    )


def modest(content: bytes) -> bytes:
    """A file whose footer says of each large column, and of all, that it unpacks to a kilobyte."""
    length = struct.unpack("<I", content[-8:-4])[0]
    pages, footer = content[: -8 - length], content[-8 - length : -8]
    group = pq.read_metadata(io.BytesIO(content)).row_group(0)
    sizes = [group.column(number).total_uncompressed_size for number in range(group.num_columns)]
    for size in [*(size for size in sizes if size > MB), group.total_byte_size]:
        told = _varint(2 * size)
        footer = footer.replace(told, _padded(2 * 1024, len(told)))
    return pages + footer + content[-8:]


def _padded(value: int, length: int) -> bytes:
    """A number in more bytes than it takes."""
    return bytes((value >> 7 * place & 0x7F) | (0x80 if place < length - 1 else 0) for place in range(length))


def _run_bomb() -> bytes:
    """A column of nulls whose page header and footer say that there are 2^31 - 1 rows."""
    content = written(pa.table({"id": pa.nulls(100_000, pa.string())}), compression="NONE")
    old, new = _varint(100_000 * 2), _varint((2**31 - 1) * 2)
    return _with_footer_length(content.replace(old, new), len(content))


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append((value & 0x7F) | 0x80)
        value >>= 7
    return bytes([*data, value])


def _with_footer_length(content: bytes, before: int) -> bytes:
    length = struct.unpack("<I", content[-8:-4])[0] + len(content) - before
    return content[:-8] + struct.pack("<I", length) + content[-4:]


def _types() -> Iterator[Kind]:
    deep: Any = pa.int32()
    value: Any = 1
    for _ in range(60):
        deep, value = pa.list_(deep), [value]
    cases: dict[str, Any] = {
        "lists 60 deep": pa.array([value] * 200, deep),
        "a map": pa.array([[("a", 1)]] * 200, pa.map_(pa.string(), pa.int64())),
        "a structure": pa.array([{"a": {"b": 1}}] * 200),
        "durations": pa.array([1] * 200, pa.duration("us")),
        "decimals of 76 digits": pa.array([1] * 200, pa.decimal256(76, 2)),
        "times of nanoseconds beyond": pa.array([2**63 - 1] * 200, pa.timestamp("ns")),
        "days beyond range": pa.array([2**31 - 1] * 200, pa.date32()),
        "half floats": pa.array(np.full(200, np.inf, np.float16)),
        "bytes": pa.array([b"\xff\0"] * 200),
        "NaN and Infinity": pa.array([float("nan"), float("inf")] * 100),
    }
    for name, values in cases.items():
        yield Kind(f"parquet, undeclared: {name}", in_file("k.parquet", written(table(extra=values))), declares=False)
    wrong = {
        "times as text": {"at": pa.array(["noon"] * 200)},
        "times beyond range": {"at": pa.array([2**62] * 200, pa.timestamp("us", "UTC"))},
        "numbers as text": {"age": pa.array(["3"] * 200)},
        "infinite numbers": {"litres": pa.array([float("inf"), float("nan")] * 100)},
        "ids that are no utf-8": {"id": pa.array([b"\xff\xfe"] * 200).view(pa.string())},
    }
    for name, columns in wrong.items():
        yield Kind(f"parquet: {name}", in_file("k.parquet", written(table(**columns))))
    twice = pa.table([*table().columns, table()["age"]], names=[*table().column_names, "AGE"])
    yield Kind("parquet: columns that differ by case", in_file("k.parquet", written(twice)), declares=False)
    yield Kind("parquet: no columns", in_file("k.parquet", written(pa.table({}))), declares=False)
    yield Kind("parquet: no rows", in_file("k.parquet", written(table(0))))


def replace_file(table_folder: Path, content: bytes) -> None:
    """Put another file in the place of a Delta table's only one, of which the log says the size."""
    (file,) = table_folder.glob("*.parquet")
    (log,) = (table_folder / "_delta_log").glob("*.json")
    log.write_text(log.read_text().replace(f'"size":{file.stat().st_size}', f'"size":{len(content)}'))
    file.write_bytes(content)


def _delta() -> Iterator[Kind]:
    def made(change: Callable[[Path], object]) -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            from deltalake import write_deltalake

            write_deltalake(folder / "table", table())
            change(folder / "table")

        return write

    def parquet(folder: Path) -> Path:
        return next(folder.glob("*.parquet"))

    def log(folder: Path) -> Path:
        return folder / "_delta_log" / f"{0:020}.json"

    def protocol(folder: Path) -> None:
        lines = [json.loads(line) for line in log(folder).read_text().splitlines()]
        for action in lines:
            if "protocol" in action:
                action["protocol"]["minReaderVersion"] = 99
        log(folder).write_text("\n".join(map(json.dumps, lines)))

    def bomb(folder: Path) -> None:
        replace_file(folder, one_page(["x" * (8 * MB)] * 100))

    def hidden_bomb(folder: Path) -> None:
        replace_file(folder, modest(one_page(["x" * (8 * MB)] * 100)))

    changes: dict[str, Callable[[Path], object]] = {
        "a file that is gone": lambda folder: parquet(folder).unlink(),
        "a file that is cut": lambda folder: parquet(folder).write_bytes(parquet(folder).read_bytes()[:500]),
        "a file of zeros": lambda folder: parquet(folder).write_bytes(bytes(2_000)),
        "flipped bits": lambda folder: parquet(folder).write_bytes(flipped(parquet(folder).read_bytes(), 3, 5)),
        "no log": lambda folder: shutil.rmtree(folder / "_delta_log"),
        "a log that is cut": lambda folder: log(folder).write_text(log(folder).read_text()[:100]),
        "a log of rubbish": lambda folder: log(folder).write_bytes(bytes(range(256)) * 100),
        "a log 100,000 deep": lambda folder: log(folder).write_text("[" * 100_000),
        "a reader of the future": protocol,
        "800 MB in a page": bomb,
        "800 MB in a page that the footer does not tell": hidden_bomb,
    }
    for name, change in changes.items():
        yield Kind(f"delta: {name}", made(change), {"path": "table", "format": "delta"})
