"""Bad CSV and JSON Lines files, plain and packed."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial

from benchmarks.bad_files.kinds import AT, COLUMNS, Kind, csv_text, in_file, jsonl_text, packed, zipped

MB = 1 << 20
HEADER = ",".join(COLUMNS) + "\n"


def kinds() -> Iterator[Kind]:
    yield from _damaged_bytes()
    yield from _csv()
    yield from _jsonl()
    yield from _bombs()


def _damaged_bytes() -> Iterator[Kind]:
    """Truncated files, and files with flipped bits, of each format and packing."""
    for name, text in (("k.csv", csv_text()), ("k.jsonl", jsonl_text())):
        for how in ("", "gz", "zip"):
            file, content = packed(how, name, text.encode())
            for share in (0.02, 0.3, 0.6, 0.98):
                cut = content[: int(len(content) * share)]
                yield Kind(f"{file}: cut at {share:.0%}", in_file(file, cut))
            for seed in range(4):
                yield Kind(f"{file}: flipped bits {seed}", in_file(file, flipped(content, seed, 12)))
            yield Kind(f"{file}: zeroed in the middle", in_file(file, zeroed(content)))
        file, content = packed("bz2", name, text.encode())
        yield Kind(f"{file}: packing that is not read", in_file(file, content), {"path": file, "format": name[2:]})
        yield Kind(f"{name}: gzip without the suffix", in_file(name, gzip.compress(text.encode())))
        yield Kind(f"{name}: suffix without gzip", in_file(f"{name}.gz", text.encode()))
        yield Kind(f"{name}: suffix without zip", in_file(f"{name}.zip", text.encode()))


def flipped(content: bytes, seed: int, count: int) -> bytes:
    data, draw = bytearray(content), random.Random(seed)
    for _ in range(count):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def zeroed(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(32) + content[middle + 32 :]


def row(name: str, litres: str = "1.5", age: str = "3", is_hot: str = "true", at: str = AT) -> str:
    return f"{name},{litres},{age},{is_hot},{at}\n"


def _csv() -> Iterator[Kind]:
    good = csv_text()
    texts: dict[str, bytes] = {
        "empty": b"",
        "header only": HEADER.encode(),
        "blank lines only": b"\n\r\n\n" * 1000,
        "no header": good.partition("\n")[2].encode(),
        "header twice": (HEADER + good).encode(),
        "byte order mark": b"\xef\xbb\xbf" + good.encode(),
        "two byte order marks": b"\xef\xbb\xbf\xef\xbb\xbf" + good.encode(),
        "utf-16": good.encode("utf-16"),
        "utf-16 without a mark": good.encode("utf-16-le"),
        "utf-32": good.encode("utf-32"),
        "latin-1": (good + row("käse")).encode("latin-1"),
        "invalid utf-8 in each line": b"".join(
            line.replace(b"k", b"\xff\xfe") + b"\n" for line in good.encode().splitlines()[1:]
        ),
        "invalid utf-8 in the header": good.replace("age", "a\udcffge").encode("utf-8", "surrogateescape"),
        "NULs": good.replace("1.5", "1\0.5").encode(),
        "NULs only": bytes(4 * MB),
        "random bytes": random.Random(1).randbytes(2 * MB),
        "random printable": bytes(random.Random(2).choices(range(32, 127), k=2 * MB)),
        "mixed line ends": good.replace("\n", "\r\n", 20).replace("\n", "\r", 90).encode(),
        "line ends of the old Mac": good.replace("\n", "\r").encode(),
        "vertical tabs and separators": good.replace(",true", "\x0b\x1c\x85\u2028,true").encode(),
        "duplicate columns": good.replace("age", "litres", 1).encode(),
        "columns that differ by case": good.replace("age", "LITRES", 1).encode(),
        "a column without a name": good.replace("age", "", 1).encode(),
        "a huge column name": good.replace("age", "a" * 900_000, 1).encode(),
        "a header without end": ("a" * (3 * MB)).encode(),
        "a header of one open quote": ('"' + good).encode(),
        "a renamed column": good.replace("age", "years", 1).encode(),
        "a column that lacks": "\n".join(line.rpartition(",")[0] for line in good.splitlines()).encode(),
        "another delimiter": good.replace(",", ";").encode(),
        "too few and too many values": (good + "a\n" * 100 + "a,b,c,d,e,f,g\n" * 100).encode(),
        "100,000 values in a line": (good + "," * 100_000 + "\n").encode(),
        "delimiters only": (HEADER + "," * (6 * MB)).encode(),
        "lines of delimiters": (HEADER + (",,,,\n" * 600_000)).encode(),
        "10,000 more columns": _wide(10_000).encode(),
        "30,000 more columns": _wide(30_000).encode(),
        "100,000 columns alone": (",".join(f"c{i}" for i in range(100_000)) + "\n").encode(),
        "huge numbers": (HEADER + row("a", "9" * 400) + row("b", "1e999") + row("c", age="9" * 400)).encode(),
        "NaN and Infinity": (HEADER + row("a", "NaN") + row("b", "Infinity") + row("c", age="-inf")).encode(),
        "times beyond range": (
            HEADER + row("a", at="9999999-01-01T00:00:00Z") + row("b", at="0000-00-00") + row("c", at="infinity")
        ).encode(),
        "deep lists": (HEADER + row("[" * 100_000)).encode(),
        "a quote in every line, not closed": (HEADER + row('"k') * 40_000).encode(),
        "a quote in the middle of every line": (HEADER + row('k"k') * 40_000).encode(),
        "an open quote at the start": (HEADER + row('"k') + row("k") * 40_000).encode(),
        "an open quote at the end": (HEADER + row("k") * 40_000 + 'k,"1').encode(),
        "doubled quotes": (HEADER + row('"' * 3) * 40_000).encode(),
        "quotes only": (HEADER + '"' * (8 * MB)).encode(),
        "odd quotes only": (HEADER + '"' * (4 * MB + 1)).encode(),
        "lines of one quote": (HEADER + '"\n' * (MB)).encode(),
        "lines of two quotes and a letter": (HEADER + '""x\n' * (MB // 2)).encode(),
        "quoted line ends in each value": (HEADER + row('"a\nb\nc"') * 40_000).encode(),
        "quote, comma, quote": (HEADER + '","' * (MB)).encode(),
        "open quote with fields of a row": (HEADER + ('"a,1.5,3,true,' + AT + "\n") * 20_000 + '"').encode(),
        "a line of 20 MB": (HEADER + "x" * (20 * MB) + "\n").encode(),
        "a line of 100 MB": (HEADER + "x" * (100 * MB)).encode(),
        "a quoted value of 20 MB": (HEADER + row('"' + "x" * (20 * MB) + '"')).encode(),
        "1,000 lines of 60 kB": (HEADER + row("x" * 60_000) * 1_000).encode(),
        "60 lines of 1 MB": (HEADER + row("x" * 1_000_000) * 60).encode(),
        "line ends only": (HEADER + "\n" * (20 * MB)).encode(),
        "carriage returns only": (HEADER + "\r" * (20 * MB)).encode(),
        "formulas and markup": (
            HEADER + row("=cmd|'/c'!A1") + row("<script>") + row("{{7*7}}") + row("\x1b[2J")
        ).encode(),
        "a million short lines": (HEADER + "a\n" * 1_000_000).encode(),
        "300,000 rows, each value bad": (HEADER + row("k", "x", "x", "x", "x") * 300_000).encode(),
    }
    for name, content in texts.items():
        yield Kind(f"csv: {name}", in_file("k.csv", content))
    guessed = ("10,000 more columns", "NULs", "huge numbers", "lines of delimiters", "100,000 columns alone")
    for name in (*guessed, "duplicate columns", "quotes only", "60 lines of 1 MB", "times beyond range"):
        yield Kind(f"csv, undeclared: {name}", in_file("k.csv", texts[name]), declares=False)
    for name in ("10,000 more columns", "30,000 more columns"):
        yield Kind(f"csv, ignoring: {name}", in_file("k.csv", texts[name]), {"extra_columns": "ignore"})
    for name in ("utf-16", "random bytes", "latin-1"):
        yield Kind(f"csv as utf-16: {name}", in_file("k.csv", texts[name]), {"encoding": "utf-16"})
    for count in (100_000, 2_000_000):
        yield Kind(f"csv: {count:,} rows set aside", in_file("k.csv", partial(_many_bad, count)))
    yield Kind("csv as JSON Lines", in_file("k.csv", good.encode()), {"path": "k.csv", "format": "jsonl"})
    yield Kind("csv as Parquet", in_file("k.csv", good.encode()), {"path": "k.csv", "format": "parquet"})
    yield Kind("csv as Avro", in_file("k.csv", good.encode()), {"path": "k.csv", "format": "avro"})


def _many_bad(count: int) -> bytes:
    return (HEADER + "".join(row(f"k{n}", litres=f"x{n}") for n in range(count))).encode()


def _wide(columns: int) -> str:
    names = ",".join(f"extra_{i}" for i in range(columns))
    return HEADER.strip() + f",{names}\n" + row("k").strip() + "," * columns + "\n"


def _jsonl() -> Iterator[Kind]:
    good = jsonl_text()
    line = good.partition("\n")[0]
    inner = line.removesuffix("}")
    keys = ", ".join(f'"key_{i}": {i}' for i in range(50_000))
    texts: dict[str, bytes] = {
        "empty": b"",
        "blank lines only": b"\n \n\t\n" * 1000,
        "an array": b"[" + ",".join(good.splitlines()).encode() + b"]",
        "arrays": b"[1, 2, 3]\n" * 1000,
        "scalars": b'1\n"a"\nnull\ntrue\n',
        "one object over lines": json.dumps({"rows": [json.loads(line)] * 50}, indent=1).encode(),
        "commas at the ends": good.replace("\n", ",\n").encode(),
        "single quotes": good.replace('"', "'").encode(),
        "comments": ("// rows\n" + good).encode(),
        "byte order mark": b"\xef\xbb\xbf" + good.encode(),
        "utf-16": good.encode("utf-16"),
        "invalid utf-8": good.encode().replace(b"k1", b"\xc3\x28"),
        "NULs": good.replace("k1", "k\0").encode(),
        "escaped NULs and surrogates": good.replace("k1", "\\u0000\\ud800").encode(),
        "carriage returns": good.replace("\n", "\r").encode(),
        "duplicate keys": "".join(f'{inner}, "age": 4}}\n' for _ in range(500)).encode(),
        "keys that differ by case": "".join(f'{inner}, "AGE": 4}}\n' for _ in range(500)).encode(),
        "an empty key": "".join(f'{inner}, "": 4}}\n' for _ in range(500)).encode(),
        "a huge key": f'{inner}, "{"k" * 3_000_000}": 4}}\n'.encode(),
        "50,000 keys": "".join(f"{{{keys}}}\n" for _ in range(2)).encode(),
        "50,000 keys beside the columns": f"{inner}, {keys}}}\n{good}".encode(),
        "another key in each line": "".join(f'{inner}, "key_{i}": 1}}\n' for i in range(60_000)).encode(),
        "a million keys": ("{" + ",".join(f'"{i:x}":1' for i in range(1_000_000)) + "}\n").encode(),
        "the same key 300,000 times": ("{" + ",".join(['"id":1'] * 300_000) + "}\n").encode(),
        "1,000 deep": _deep("[", "]", 1_000),
        "100,000 deep": _deep("[", "]", 100_000),
        "objects 100,000 deep": _deep('{"a":', "}", 100_000, "1"),
        "5,000,000 deep and not closed": f'{inner}, "deep": {"[" * 5_000_000}'.encode(),
        "many lines 5,000 deep": _deep("[", "]", 5_000) * 300,
        "a column 100,000 deep": (line.replace("1.5", "[" * 100_000 + "]" * 100_000) + "\n").encode(),
        "a list of 2,000,000": (line.replace("1.5", "[" + "0," * 2_000_000 + "0]") + "\n").encode(),
        "huge numbers": (line.replace("1.5", "9" * 100_000) + "\n" + line.replace("1.5", "1e99999") + "\n").encode(),
        "NaN and Infinity": (line.replace("1.5", "NaN") + "\n" + line.replace("1.5", "-Infinity") + "\n").encode(),
        "times beyond range": (line.replace("2024", "999999") + "\n" + line.replace(AT, "infinity") + "\n").encode(),
        "values of other types": (
            line.replace('"k0"', "7")
            + "\n"
            + line.replace('"k0"', '{"a": 1}')
            + "\n"
            + line.replace("true", "2")
            + "\n"
        ).encode(),
        "a line of 20 MB": (line.replace("k0", "x" * (20 * MB)) + "\n" + good).encode(),
        "a line of 100 MB": ("{" + "x" * (100 * MB)).encode(),
        "40 lines of 1 MB": ((line.replace("k0", "x" * 1_000_000) + "\n") * 40).encode(),
        "an open string": good.replace('"k1', '"k1\n').encode(),
        "random bytes": random.Random(3).randbytes(2 * MB),
        "braces": b"{}\n" * 300_000,
        "open braces": b"{\n" * 1_000_000,
        "300,000 rows, each value bad": (line.replace("1.5", '"x"') + "\n").encode() * 300_000,
        "escapes only": (line.replace("k0", "\\u0041" * 500_000) + "\n").encode(),
    }
    for name, content in texts.items():
        yield Kind(f"jsonl: {name}", in_file("k.jsonl", content))
    guessed = ("50,000 keys", "another key in each line", "a million keys", "100,000 deep", "huge numbers", "braces")
    for name in (*guessed, "a huge key", "keys that differ by case", "a column 100,000 deep"):
        yield Kind(f"jsonl, undeclared: {name}", in_file("k.jsonl", texts[name]), declares=False)
    for name in ("50,000 keys beside the columns", "another key in each line", "1,000 deep"):
        yield Kind(f"jsonl, ignoring: {name}", in_file("k.jsonl", texts[name]), {"extra_columns": "ignore"})
    yield Kind("jsonl as CSV", in_file("k.jsonl", good.encode()), {"path": "k.jsonl", "format": "csv"})


def _deep(opening: str, closing: str, depth: int, middle: str = "") -> bytes:
    inner = jsonl_text(1).strip().removesuffix("}")
    return f'{inner}, "deep": {opening * depth}{middle}{closing * depth}}}\n'.encode()


def _bombs() -> Iterator[Kind]:
    """Packed files that are much larger than they look, or that say so."""
    yield Kind("csv.gz: 2 GB of zeros", in_file("k.csv.gz", lambda: _gzip_of(b"\0" * MB, 2_000)))
    yield Kind("csv.gz: 2 GB of one line", in_file("k.csv.gz", lambda: _gzip_of(b"x" * MB, 2_000, HEADER.encode())))
    yield Kind("csv.gz: 2 GB of rows", in_file("k.csv.gz", lambda: _gzip_of(_rows(), 2_000, HEADER.encode())))
    yield Kind("csv.gz: 2 GB of line ends", in_file("k.csv.gz", lambda: _gzip_of(b"\n" * MB, 2_000, HEADER.encode())))
    yield Kind(
        "jsonl.gz: 2 GB of rows", in_file("k.jsonl.gz", lambda: _gzip_of(jsonl_text(1).encode() * 10_000, 2_000))
    )
    yield Kind("jsonl.gz: 2 GB of one line", in_file("k.jsonl.gz", lambda: _gzip_of(b"x" * MB, 2_000, b"{")))
    yield Kind("csv.zip: 2 GB of rows", in_file("k.csv.zip", lambda: _zip_of(_rows(), 2_000)))
    yield Kind("csv.zip: 1 GB by bzip2", in_file("k.csv.zip", lambda: _zip_of(b"x" * MB, 1_000, zipfile.ZIP_BZIP2)))
    yield Kind("csv.zip: 1 GB by lzma", in_file("k.csv.zip", lambda: _zip_of(b"x" * MB, 1_000, zipfile.ZIP_LZMA)))
    yield Kind("csv.zip: a dictionary of 4 GB", in_file("k.csv.zip", lambda: _lzma_claim()))
    yield Kind("csv.gz: in itself", in_file("k.csv.gz", gzip.compress(gzip.compress(csv_text().encode()))))
    yield Kind("csv.gz: 200,000 empty members", in_file("k.csv.gz", gzip.compress(b"") * 200_000))
    name = b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * (5 * MB)
    yield Kind("csv.gz: a name of 5 MB", in_file("k.csv.gz", name))
    yield Kind("csv.gz: rubbish behind", in_file("k.csv.gz", gzip.compress(csv_text().encode()) + b"rubbish" * 100))
    yield Kind(
        "csv.zip: two members", in_file("k.csv.zip", lambda: _members({"a.csv": csv_text(), "b.csv": csv_text()}))
    )
    yield Kind("csv.zip: no member", in_file("k.csv.zip", lambda: _members({})))
    yield Kind(
        "csv.zip: 100,000 members", in_file("k.csv.zip", lambda: _members({f"{i}.csv": "" for i in range(100_000)}))
    )
    yield Kind(
        "csv.zip: a member above the folder", in_file("k.csv.zip", lambda: _members({"../../k.csv": csv_text()}))
    )
    yield Kind("csv.zip: with a password", in_file("k.csv.zip", lambda: _patched_zip(6, b"\1\0")))
    yield Kind("csv.zip: a method unknown", in_file("k.csv.zip", lambda: _patched_zip(8, b"\x63\0")))
    yield Kind("csv.zip: wrong checksum", in_file("k.csv.zip", lambda: _patched_zip(14, b"\1\2\3\4")))
    yield Kind(
        "csv.zip: sizes that lie", in_file("k.csv.zip", lambda: _patched_zip(18, b"\xff\xff\xff\x7f\xff\xff\xff\x7f"))
    )
    yield Kind("csv.zip: in itself", in_file("k.csv.zip", zipped("k.csv", zipped("k.csv", csv_text().encode()))))
    broken = zlib.compress(csv_text().encode())
    yield Kind("csv.gz: zlib without gzip", in_file("k.csv.gz", broken))
    yield Kind("csv.gz: xz", in_file("k.csv.gz", lzma.compress(csv_text().encode())))
    yield Kind("csv.gz: wrong checksum", in_file("k.csv.gz", gzip.compress(csv_text().encode())[:-8] + bytes(8)))


def _rows() -> bytes:
    return row("k").encode() * (MB // len(row("k")))


def _gzip_of(piece: bytes, times: int, start: bytes = b"") -> bytes:
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=1, mtime=0) as packing:
        packing.write(start)
    # Deflated text may be put together: what a piece becomes is made once.
    once = gzip.compress(piece, 6, mtime=0)
    return sink.getvalue() + once * times


def _zip_of(piece: bytes, times: int, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with (
        zipfile.ZipFile(sink, "w", method, compresslevel=1) as archive,
        archive.open("k.csv", "w", force_zip64=True) as member,
    ):
        member.write(HEADER.encode())
        for _ in range(times):
            member.write(piece)
    return sink.getvalue()


def _members(members: dict[str, str]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return sink.getvalue()


def _patched_zip(offset: int, content: bytes) -> bytes:
    """A zip whose member's header says something else, at its start and in the directory."""
    data = bytearray(zipped("k.csv", csv_text().encode()))
    directory = data.rindex(b"PK\1\2")
    data[offset : offset + len(content)] = content
    data[directory + offset + 2 : directory + offset + 2 + len(content)] = content
    return bytes(data)


def _lzma_claim() -> bytes:
    """A zip by LZMA that asks for a dictionary of 4 GB."""
    data = bytearray(zipped("k.csv", csv_text().encode(), zipfile.ZIP_LZMA))
    start = 30 + len("k.csv")  # two bytes of version, two of size, one of lc, lp and pb, four of the dictionary
    data[start + 5 : start + 9] = struct.pack("<I", 0xFFFFFFFF)
    return bytes(data)
