"""Damaged sources: each row is served, or rejected with its reasons, or the run fails and names the file."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import DataError, EvergreenError, SchemaError
from pipelines.ingest.sources import Opened, opened
from pipelines.ingest.sources.lines import line_ends
from pipelines.ingest.sources.records import Dialect, cut_text, cuts
from pipelines.problem import Problem

Kettles = Callable[..., Problem]
COLUMNS = {"id": "string", "litres": "float", "age": "integer", "is_hot": "boolean", "at": "timestamp"}
NAMES = list(COLUMNS)
GOOD = ["k", "1.5", "3", "true", "2024-01-01T12:00:00Z"]
ROWS = 20
CSV = "\n".join([",".join(NAMES), *(",".join([f"k{n}", *GOOD[1:]]) for n in range(ROWS))]) + "\n"
JSONL = "".join(
    json.dumps({"id": f"k{n}", "litres": 1.5, "age": 3, "is_hot": True, "at": GOOD[4]}) + "\n" for n in range(ROWS)
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("litres", pa.float64()),
        ("age", pa.int64()),
        ("is_hot", pa.bool_()),
        ("at", pa.timestamp("us", "UTC")),
    ]
)
RECORDS = [
    {
        "id": f"k{n}",
        "litres": 1.5,
        "age": n,
        "is_hot": True,
        "at": datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=n),
    }
    for n in range(500)
]


@contextmanager
def read(problem: Problem) -> Iterator[Opened]:
    with opened(problem, "2024-01-01", "2024-01-01") as sources:
        yield sources


def outcome(problem: Problem, order: str = "id") -> tuple[list[tuple[Any, ...]], list[dict[str, Any]]]:
    """Served rows, and rejected ones; the counts agree with them."""
    with read(problem) as sources:
        rows = sources.database.sql(f"FROM kettles ORDER BY {order}").fetchall()
        rejected = sources.rejected().read_all().to_pylist()
        counts = sources.counts["kettles"]
    assert (counts.rows, counts.rejected) == (len(rows) + len(rejected), len(rejected))
    for row in rejected:
        assert row["source"] == "kettles"
        assert row["rules"]
        assert isinstance(json.loads(row["row"]), dict)
    return rows, rejected


def survives(problem: Problem, name: str, written: int) -> None:
    """All rows are there, good or bad, or an error names the file."""
    try:
        rows, rejected = outcome(problem)
    except EvergreenError as error:
        assert name in str(error)
        assert error.cure
    else:
        assert len(rows) + len(rejected) == written


# Values ---------------------------------------------------------------------------------------------------

BAD_VALUES = {
    "litres": [
        "abc",
        "1,5",
        "1.5.2",
        "inf",
        "-inf",
        "Infinity",
        "1e400",
        "1_000",
        "0x1F",
        "1e",
        "--1",
        "1 5",
        "$3",
        "٣",
    ],
    "age": [
        "3.7",
        "abc",
        "1e3",
        "9223372036854775808",
        "-9223372036854775809",
        "1_000",
        "0x1F",
        "3,",
        "+-3",
        "true",
        "NaN",
        "inf",
        "1 000",
        ".5",
    ],
    "is_hot": ["maybe", "2", "-1", "truee", "0.5", "yess", "None", "on"],
    "at": [
        "01/02/2024",
        "2024-13-01",
        "2024-02-30",
        "20240101",
        "yesterday",
        "2024-1-5",
        "2024/01/05",
        "infinity",
        "epoch",
        "1704067200",
        "2024-01-01T25:00:00Z",
        "2024-01-01 10:00:00 Europe/Paris",
        "12:00",
        "2024-01-01T10:61Z",
        "Jan 1 2024",
        "2024-01-01T10:00:00+99:99x",
    ],
}
GOOD_VALUES = {
    "litres": [
        ("1.5", 1.5),
        ("-.5", -0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("+2", 2.0),
        (" 2 ", 2.0),
        ("NaN", None),
        ("NA", None),
        ("", None),
        ("007.5", 7.5),
        ("1E-3", 0.001),
        ("-nan", None),
    ],
    "age": [
        ("3", 3),
        ("-3", -3),
        ("+3", 3),
        ("003", 3),
        ("3.0", 3),
        ("3.", 3),
        (" 3 ", 3),
        ("NA", None),
        ("", None),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9007199254740993.0", 2**53 + 1),
    ],
    "is_hot": [
        ("true", True),
        ("FALSE", False),
        ("T", True),
        ("no", False),
        ("1", True),
        ("0", False),
        ("", None),
        ("NA", None),
    ],
    "at": [
        (text, datetime(2024, 1, 5, 10, tzinfo=UTC))
        for text in (
            "2024-01-05T10:00:00Z",
            "2024-01-05 10:00:00",
            "2024-01-05T10:00",
            "2024-01-05T11:00:00+01:00",
            "2024-01-05 15:30:00.000000+0530",
            "2024-01-05T08:00:00.000-02",
        )
    ]
    + [("2024-01-05", datetime(2024, 1, 5, tzinfo=UTC)), ("", None), ("NA", None)],
    "id": [("", None), ("NA", None), ("na", "na"), (" ", " "), ("0", "0"), ("ü𝄞", "ü𝄞")],
}


@pytest.mark.parametrize("name", ["k.csv", "k.jsonl"])
@pytest.mark.parametrize("column", BAD_VALUES)
def test_a_value_of_another_type_rejects_its_row_and_no_other(
    kettles: Kettles, tmp_path: Path, name: str, column: str
) -> None:
    lines = (CSV if name == "k.csv" else JSONL).splitlines()
    for number, value in enumerate(BAD_VALUES[column]):
        cells = dict(zip(NAMES, [f"bad{number:02}", *GOOD[1:]], strict=True)) | {column: value}
        quoted = ",".join(f'"{cell}"' if "," in cell else cell for cell in cells.values())
        lines.insert(1 + 2 * number % ROWS, quoted if name == "k.csv" else json.dumps(cells))
    (tmp_path / name).write_text("\n".join(lines))
    rows, rejected = outcome(kettles(path=name, columns=COLUMNS))
    assert len(rows) == ROWS
    told = {json.loads(row["row"])["id"]: row["rules"] for row in rejected}
    assert told == {
        f"bad{number:02}": [f"{column}: not of type {COLUMNS[column]}: '{value}'"]
        for number, value in enumerate(BAD_VALUES[column])
    }


@pytest.mark.parametrize("column", GOOD_VALUES)
def test_values_that_are_of_the_type_are_served(kettles: Kettles, tmp_path: Path, column: str) -> None:
    cells = [
        dict.fromkeys(NAMES, "") | {"id": f"k{n:02}"} | {column: text}
        for n, (text, _) in enumerate(GOOD_VALUES[column])
    ]
    (tmp_path / "k.csv").write_text("\n".join([",".join(NAMES), *(",".join(cell.values()) for cell in cells)]))
    with read(kettles(path="k.csv", columns=COLUMNS)) as sources:
        assert sources.rejected().read_all().num_rows == 0
        found = sources.database.sql("FROM kettles").to_arrow_table()[column].to_pylist()
    assert found == [value for _, value in GOOD_VALUES[column]]


def test_all_reasons_are_told_and_long_values_cut(kettles: Kettles, tmp_path: Path) -> None:
    (tmp_path / "k.csv").write_text(f"{','.join(NAMES)}\nk,it's,{'9' * 500},?,2024\n")
    _, rejected = outcome(kettles(path="k.csv", columns=COLUMNS))
    assert rejected[0]["rules"] == [
        "litres: not of type float: 'it's'",
        f"age: not of type integer: '{'9' * 100}...'",
        "is_hot: not of type boolean: '?'",
        "at: not of type timestamp: '2024'",
    ]
    assert json.loads(rejected[0]["row"])["age"] == "9" * 500


# Rows -----------------------------------------------------------------------------------------------------

BAD_LINES = {
    b"k,1.5,3\n": "3 fields where 5 were expected",
    b"k,1.5,3,true,2024-01-01,more\n": "6 fields where 5 were expected",
    b"k\n": "1 fields where 5 were expected",
    b",,,,,,,,\n": "9 fields where 5 were expected",
    b'"k,1.5,3,true,2024-01-01\n': "a quote that is not closed",
    b'k,1.5,3,"true,2024-01-01\n': "a quote that is not closed",
    b'"k"x,1.5,3,true,2024-01-01\n': "a quote that is not closed",
    b'"k""x,1.5,3,true,2024-01-01\n': "a quote that is not closed",
    b"k\xff,1.5,3,true,2024-01-01\n": "not valid text",
    b"\xc3(,1.5,3,true,2024-01-01\n": "not valid text",
    b"k\0,1.5,3,true,2024-01-01\n": "not valid text",
    b"\0\0\0\0\n": "not valid text",
}
BAD_JSON = {
    b'{"id": "k", "litres": 1.5\n': "not a JSON object",
    b"{'id': 'k'}\n": "not a JSON object",
    b'{"id": "k"} {"id": "l"}\n': "not a JSON object",
    b'["k", 1.5]\n': "not a JSON object",
    b'"k"\n': "not a JSON object",
    b"null\n": "not a JSON object",
    b"k,1.5,3\n": "not a JSON object",
    b'{"id": "k", "id": "l"}\n': "a key comes twice",
    b'{"id": "k\xff"}\n': "not valid utf-8",
    b'{"id": "k\0"}\n': "not valid utf-8",
}


@pytest.mark.parametrize("place", [1, ROWS // 2, ROWS])
@pytest.mark.parametrize(
    ("name", "line"), [*(("k.csv", line) for line in BAD_LINES), *(("k.jsonl", line) for line in BAD_JSON)]
)
def test_a_line_that_is_no_row_is_rejected_alone(
    kettles: Kettles, tmp_path: Path, name: str, line: bytes, place: int
) -> None:
    lines = (CSV if name == "k.csv" else JSONL).encode().splitlines(keepends=True)
    lines.insert(place, line)
    (tmp_path / name).write_bytes(b"".join(lines))
    rows, rejected = outcome(kettles(path=name, columns=COLUMNS))
    assert [row[0] for row in rows] == sorted(f"k{n}" for n in range(ROWS))
    assert len(rejected) == 1
    reason = (BAD_LINES if name == "k.csv" else BAD_JSON)[line]
    told = rejected[0]["rules"][0]
    assert re.fullmatch(rf"not readable: {reason}.* \({re.escape(name)}, line {place + 1}\)", told)
    assert json.loads(rejected[0]["row"])["line"]


def test_without_declared_columns_rows_that_are_none_are_rejected_too(kettles: Kettles, tmp_path: Path) -> None:
    (tmp_path / "k.csv").write_bytes(CSV.encode() + b"".join(BAD_LINES))
    rows, rejected = outcome(kettles(path="k.csv"))
    assert (len(rows), len(rejected)) == (ROWS, len(BAD_LINES))
    assert rows[0][1:4] == (1.5, 3, True)


@pytest.mark.parametrize(
    ("value", "wanted"), [("NaN", None), ("2.50", 2.5), ('"2.5"', 2.5), ('"NA"', "bad"), ("-Infinity", "bad")]
)
def test_json_numbers(kettles: Kettles, tmp_path: Path, value: str, wanted: Any) -> None:
    (tmp_path / "k.jsonl").write_text(f'{{"id": "k", "litres": {value}}}\n')
    rows, rejected = outcome(kettles(path="k.jsonl", columns={"id": "string", "litres": "float"}))
    assert (rows or rejected[0]["rules"][0][:6]) == ("litres" if wanted == "bad" else [("k", wanted)])


@pytest.mark.parametrize(
    ("line", "first"),
    [
        ('5" pipe,1.5,3,true,2024-01-01', '5" pipe'),
        ('say "hi" now,1.5,3,true,2024-01-01', 'say "hi" now'),
        ('"a, ""b""\n\nc",1.5,3,true,2024-01-01', 'a, "b"\n\nc'),
        ('"a\r\nb\rc",1.5,3,true,2024-01-01', "a\r\nb\rc"),
        ('"k","1.5","3","true","2024-01-01"', "k"),
        ('"prose, of\nsome, lines, with, commas",1.5,3,true,2024-01-01', "prose, of\nsome, lines, with, commas"),
    ],
)
def test_quotes_that_mean_something_are_read(kettles: Kettles, tmp_path: Path, line: str, first: str) -> None:
    (tmp_path / "k.csv").write_bytes((CSV + line + "\n" + CSV.partition("\n")[2]).encode())
    rows, rejected = outcome(kettles(path="k.csv", columns=COLUMNS))
    assert rejected == []
    assert sum(row[0] == first for row in rows) == 1
    assert len(rows) == 2 * ROWS + 1


@pytest.mark.parametrize("value", ["a\nb", "see:\n1, 2, 3, 4, 5\nk, l", "one, two\nthree, four, five, six, seven"])
def test_prose_over_several_lines_is_served(kettles: Kettles, tmp_path: Path, value: str) -> None:
    (tmp_path / "k.csv").write_text(CSV + f'"{value}",1.5,3,true,2024-01-01\n')
    rows, rejected = outcome(kettles(path="k.csv", columns=COLUMNS))
    assert rejected == []
    assert value in [row[0] for row in rows]


def test_a_row_within_a_text_is_no_prose(kettles: Kettles, tmp_path: Path) -> None:
    lines = CSV.splitlines(keepends=True)
    lines[2], lines[6] = lines[2].replace("k1,", '"""'), lines[6].replace("k5", 'k"')
    (tmp_path / "k.csv").write_text("".join(lines))
    rows, rejected = outcome(kettles(path="k.csv", columns=COLUMNS))
    assert len(rows) + len(rejected) == ROWS


@pytest.mark.parametrize("last", [2, 3, 10])
def test_a_quote_that_swallows_rows_in_due_form_is_seen(kettles: Kettles, tmp_path: Path, last: int) -> None:
    lines = CSV.splitlines(keepends=True)
    lines[1] = lines[1].replace("k0", '"k0', 1)
    lines[last] = lines[last].replace(",true", '",true', 1)
    (tmp_path / "k.csv").write_text("".join(lines))
    rows, rejected = outcome(kettles(path="k.csv", columns=COLUMNS))
    assert len(rows) + len(rejected) == ROWS
    assert 1 <= len(rejected) <= last


# Encodings, empty files, formats ---------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["k.csv", "k.jsonl"])
def test_utf_16_that_is_not_declared_fails(kettles: Kettles, tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_bytes((CSV if name == "k.csv" else JSONL).encode(encoding))
    with pytest.raises(DataError, match="encoding") as caught, read(kettles(path=name, columns=COLUMNS)):
        pass
    assert name in caught.value.where


@pytest.mark.parametrize(("written", "declared"), [("utf-8", "utf-16"), ("utf-16", "latin-1"), ("latin-1", "utf-8")])
def test_a_wrong_encoding_is_seen(kettles: Kettles, tmp_path: Path, written: str, declared: str) -> None:
    text = CSV.replace("k1,", "kü,")
    (tmp_path / "k.csv").write_bytes(text.encode(written))
    survives(kettles(path="k.csv", columns=COLUMNS, encoding=declared), "k.csv", ROWS)


@pytest.mark.parametrize("name", ["k.csv", "k.csv.gz", "k.csv.zip", "k.jsonl", "k.parquet", "k.avro"])
def test_a_file_without_a_byte_fails(kettles: Kettles, tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match="empty") as caught, read(kettles(path=name, columns=COLUMNS)):
        pass
    assert name in caught.value.where


@pytest.mark.parametrize("content", [b"\n\n", b"\xef\xbb\xbf", b'"id', b"\xff,age\n", b"id\0,age\n", b"\r"])
@pytest.mark.parametrize("declared", [True, False])
def test_a_header_that_is_none_fails(kettles: Kettles, tmp_path: Path, content: bytes, declared: bool) -> None:
    (tmp_path / "k.csv").write_bytes(content)
    with (
        pytest.raises(EvergreenError, match=r"k\.csv"),
        read(kettles(path="k.csv", columns=COLUMNS if declared else {})),
    ):
        pass


@pytest.mark.parametrize("header", ["id,id", "id,ID", "id,,age", ""])
def test_columns_that_sql_cannot_tell_apart_fail(kettles: Kettles, tmp_path: Path, header: str) -> None:
    (tmp_path / "k.csv").write_text(f"{header}\n1,2\n")
    with pytest.raises(EvergreenError, match=r"k\.csv|\d fields"), read(kettles(path="k.csv")) as sources:
        raise DataError(str(sources.rejected().read_all()["rules"].to_pylist()), where="k.csv")


@pytest.mark.parametrize("text", [",".join(NAMES), ",".join(NAMES) + "\n", ",".join(NAMES) + "\r\n\n"])
@pytest.mark.parametrize("declared", [True, False])
def test_a_header_without_rows_is_no_rows(kettles: Kettles, tmp_path: Path, text: str, declared: bool) -> None:
    (tmp_path / "k.csv").write_text(text)
    assert outcome(kettles(path="k.csv", columns=COLUMNS if declared else {})) == ([], [])


@pytest.mark.parametrize("path", ["none.csv", "none/*.csv", "*.csv", "none/**/k.parquet", "folder"])
def test_nothing_there_fails_and_tells_where(kettles: Kettles, tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"no \w+ file matches") as caught, read(kettles(path=path, format="csv")):
        pass
    assert path in caught.value.where
    assert "sources.kettles" in str(caught.value)


@pytest.mark.parametrize("name", ["k.csv", "k.csv.gz", "k.csv.zip", "k.jsonl", "k.parquet", "k.avro"])
@pytest.mark.parametrize(
    "content", [CSV.encode(), b"\x89PNG\r\n\x1a\n\0\0", b"PK\3\4", b"PAR1PAR1", b"Obj\1", b"[1, 2]", b"{}"]
)
def test_a_file_of_another_format_is_named(kettles: Kettles, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    try:
        rows, rejected = outcome(kettles(path=name, columns=COLUMNS))
    except EvergreenError as error:
        assert name in str(error)
    else:
        assert rejected or (len(rows) == ROWS and name == "k.csv")


@pytest.mark.parametrize("members", [["a/"], ["a.csv", "b.csv"]])
def test_a_zip_holds_one_file(kettles: Kettles, tmp_path: Path, members: list[str]) -> None:
    with zipfile.ZipFile(tmp_path / "k.csv.zip", "w") as archive:
        for member in members:
            archive.writestr(member, CSV)
    with pytest.raises(
        DataError, match=f"{sum(not one.endswith('/') for one in members)} files where the zip has to hold one"
    ):
        outcome(kettles(path="k.csv.zip"))


def test_a_json_array_is_no_json_lines(kettles: Kettles, tmp_path: Path) -> None:
    (tmp_path / "k.json").write_text("[\n" + ",\n".join(JSONL.splitlines()) + "\n]")
    with pytest.raises(DataError, match="JSON array"), read(kettles(path="k.json", columns=COLUMNS)):
        pass


# Columns --------------------------------------------------------------------------------------------------


def write(path: Path, columns: dict[str, Any]) -> None:
    """One row of these columns, in the format that the name says."""
    if path.name.endswith(".csv"):
        path.write_text(",".join(columns) + "\n" + ",".join(map(str, columns.values())) + "\n")
    elif path.name.endswith(".jsonl"):
        path.write_text(json.dumps(columns, default=str) + "\n")
    elif path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist([columns]), path)
    elif path.name.endswith(".avro"):
        kinds = {str: "string", int: "long", float: "double", bool: "boolean"}
        fields = [{"name": name, "type": kinds[type(value)]} for name, value in columns.items()]
        with path.open("wb") as sink:
            fastavro.writer(sink, {"type": "record", "name": "kettle", "fields": fields}, [columns])
    else:
        write_deltalake(str(path), pa.Table.from_pylist([columns]))


WRITTEN = {"id": "k", "litres": 1.5, "age": 3}
DECLARED = {"id": "string", "litres": "float", "age": "integer"}


@pytest.mark.parametrize("name", ["k.csv", "k.jsonl", "k.parquet", "k.avro", "k_delta"])
@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (
            {"id": "k", "liters": 1.5, "age": 3},
            [r"- litres \(float\) is declared and missing", r"\+ liters", "did you mean"],
        ),
        ({"id": "k", "age": 3}, [r"- litres \(float\) is declared and missing"]),
        (WRITTEN | {"more": 1}, [r"\+ more.* is not declared"]),
        ({"id": "k", "Litres": 1.5, "age": 3}, ["- litres", r"\+ Litres", "only capitals differ"]),
        ({"x": 1}, ["- id", "- litres", "- age", r"\+ x"]),
    ],
)
def test_other_columns_are_one_error_with_all_differences(
    kettles: Kettles, tmp_path: Path, name: str, columns: dict[str, Any], told: list[str]
) -> None:
    write(tmp_path / name, columns)
    problem = kettles(path=name, columns=DECLARED, format="delta" if "delta" in name else None)
    with pytest.raises(SchemaError) as caught, read(problem):
        pass
    for part in told:
        assert re.search(part, str(caught.value))
    assert name in caught.value.where


@pytest.mark.parametrize("name", ["k.parquet", "k.avro", "k_delta"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"litres": "1.5"}, r"litres: declared float, found (large_)?string(_view)?; first values: '1\.5' \(row 1\)"),
        ({"age": 3.5}, r"age: declared integer, found double; first values: 3\.5 \(row 1\)"),
        ({"age": True}, r"age: declared integer, found bool; first values: True \(row 1\)"),
        ({"id": 7}, r"id: declared string, found int64; first values: 7 \(row 1\)"),
    ],
)
def test_another_type_is_told_with_values(
    kettles: Kettles, tmp_path: Path, name: str, change: dict[str, Any], told: str
) -> None:
    write(tmp_path / name, WRITTEN | change)
    problem = kettles(path=name, columns=DECLARED, format="delta" if "delta" in name else None)
    with pytest.raises(SchemaError, match=told) as caught, read(problem):
        pass
    assert name in caught.value.where


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "avro"])
@pytest.mark.parametrize(
    "columns", [{"id": "k", "liters": 1.5, "age": 3}, {"id": "k", "age": 3}, WRITTEN | {"more": 1}]
)
def test_of_many_files_the_one_that_differs_is_named(
    kettles: Kettles, tmp_path: Path, suffix: str, columns: dict[str, Any], declared: bool
) -> None:
    for number in range(4):
        write(tmp_path / f"k{number}.{suffix}", columns if number == 2 else WRITTEN)
    with pytest.raises(SchemaError) as caught, read(kettles(path=f"*.{suffix}", columns=DECLARED if declared else {})):
        pass
    assert f"k2.{suffix}" in caught.value.where


# Bytes ----------------------------------------------------------------------------------------------------


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(RECORDS, schema=SCHEMA), sink, row_group_size=100)
    return sink.getvalue()


def avro() -> bytes:
    kinds: list[Any] = ["string", "double", "long", "boolean", {"type": "long", "logicalType": "timestamp-micros"}]
    fields = [{"name": name, "type": kind} for name, kind in zip(NAMES, kinds, strict=True)]
    sink = io.BytesIO()
    fastavro.writer(sink, {"type": "record", "name": "kettle", "fields": fields}, RECORDS, codec="deflate")
    return sink.getvalue()


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("k.csv", CSV)
    return sink.getvalue()


PACKED = {
    "k.parquet": parquet(),
    "k.avro": avro(),
    "k.csv.gz": gzip.compress(CSV.encode()),
    "k.csv.zip": zipped(),
    "k.jsonl.gz": gzip.compress(JSONL.encode()),
}


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("name", PACKED)
def test_a_truncated_file_fails_and_is_named(kettles: Kettles, tmp_path: Path, name: str, share: float) -> None:
    content = PACKED[name]
    (tmp_path / name).write_bytes(content[: max(1, min(len(content) - 1, int(len(content) * share)))])
    with pytest.raises(DataError) as caught, read(kettles(path=name, columns=COLUMNS)):
        pass
    assert name in str(caught.value)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", PACKED)
def test_flipped_bytes_lose_no_row_in_silence(kettles: Kettles, tmp_path: Path, name: str, seed: int) -> None:
    content = bytearray(PACKED[name])
    dice = random.Random(seed)
    for _ in range(1 + seed % 3):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    (tmp_path / name).write_bytes(bytes(content))
    survives(kettles(path=name, columns=COLUMNS), name, ROWS if "csv" in name or "json" in name else len(RECORDS))


def test_a_corrupt_page_below_a_sound_footer_is_named(kettles: Kettles, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"k{number}.parquet").write_bytes(PACKED["k.parquet"])
    content = bytearray(PACKED["k.parquet"])
    content[4:400] = b"\xff" * 396
    (tmp_path / "k1.parquet").write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"k1\.parquet"), read(kettles(path="*.parquet", columns=COLUMNS)) as sources:
        sources.database.sql("FROM kettles").fetchall()


def physical_rows(text: bytes) -> int:
    """Lines that are not blank, without the header: where no value has a line end, the records."""
    ends = [0, *line_ends(text, is_last=True).tolist(), len(text)]
    return sum(bool(text[a:b].strip(b"\r\n")) for a, b in itertools.pairwise(ends)) - 1


SETTINGS = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(cut=st.integers(len(CSV.partition("\n")[0]) + 1, len(CSV)))
def test_a_truncated_csv_has_the_rows_of_its_lines(kettles: Kettles, tmp_path: Path, cut: int) -> None:
    text = CSV.encode()[:cut]
    (tmp_path / "k.csv").write_bytes(text)
    rows, rejected = outcome(kettles(path="k.csv", columns=COLUMNS))
    assert len(rows) + len(rejected) == physical_rows(text)
    assert len(rejected) <= 1


@SETTINGS
@given(cut=st.integers(1, len(JSONL)))
def test_a_truncated_jsonl_has_the_rows_of_its_lines(kettles: Kettles, tmp_path: Path, cut: int) -> None:
    text = JSONL.encode()[:cut]
    (tmp_path / "k.jsonl").write_bytes(text)
    rows, rejected = outcome(kettles(path="k.jsonl", columns=COLUMNS))
    assert len(rows) + len(rejected) == physical_rows(text) + 1
    assert len(rejected) <= 1


PLACES = st.integers(len(CSV.partition("\n")[0]) + 1, len(CSV) - 1)
QUOTES = [b'"', b'""', b'",', b',"', b'"\n', b'\n"']
JUNK = [b",", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"x", b",,", b"\n\n"]


def damaged(edits: dict[int, bytes]) -> bytes:
    text = bytearray(CSV.encode())
    for place in sorted(edits, reverse=True):
        text[place : place + 1] = edits[place]
    return bytes(text)


@SETTINGS
@given(
    edits=st.dictionaries(PLACES, st.sampled_from(JUNK), min_size=1, max_size=8)
    | st.dictionaries(PLACES, st.sampled_from(QUOTES), min_size=1, max_size=1)
)
def test_a_csv_with_junk_in_it_has_the_rows_of_its_lines(
    kettles: Kettles, tmp_path: Path, edits: dict[int, bytes]
) -> None:
    (tmp_path / "k.csv").write_bytes(damaged(edits))
    rows, rejected = outcome(kettles(path="k.csv", columns=COLUMNS))
    assert len(rows) + len(rejected) == physical_rows(damaged(edits))


@SETTINGS
@given(edits=st.dictionaries(PLACES, st.sampled_from(QUOTES), min_size=2, max_size=8))
def test_whatever_quotes_do_no_line_disappears(kettles: Kettles, tmp_path: Path, edits: dict[int, bytes]) -> None:
    """Two quotes in text columns can make one value of many lines, in due form: then it has those lines."""
    text = damaged(edits)
    (tmp_path / "k.csv").write_bytes(text)
    rows, rejected = outcome(kettles(path="k.csv", columns=COLUMNS))
    kept = "\n".join([*(row[0] or "" for row in rows), *(row["row"] for row in rejected)])
    whole = re.findall(rb"(?m)^(k\d+),1.5,3,true,2024-01-01T12:00:00Z$", text)
    assert all(re.search(rf"(?<![\w]){name.decode()}(?!\d)|n{name.decode()}(?!\d)", kept) for name in whole)


# Records ----------------------------------------------------------------------------------------------------

DIALECT = Dialect(",", 3, (0,), lambda values: values[0].isdigit())
TEXT = st.lists(
    st.sampled_from([b'"', b'"', b",", b",", b"\n", b"\n", b"\r", b"\r\n", b"a", b"1", b"\xff", b"\0"]), max_size=60
)


@settings(max_examples=150)
@given(parts=TEXT, size=st.integers(1, 20))
def test_records_do_not_depend_on_how_the_text_is_cut_into_blocks(parts: list[bytes], size: int) -> None:
    text = b"".join(parts)
    whole = cut_text(text, 1, DIALECT, is_last=True)
    blocks = iter([text[start : start + size] for start in range(0, len(text), size)])
    pieces = list(cuts(blocks, b"", 1, DIALECT, "k.csv"))
    assert sum(cut.count for cut in pieces) == whole.count
    assert sorted((bad.line, bad.text) for cut in pieces for bad in cut.bad) == sorted(
        (b.line, b.text) for b in whole.bad
    )


@settings(max_examples=150)
@given(parts=TEXT)
def test_every_byte_of_a_text_is_in_one_record(parts: list[bytes]) -> None:
    text = b"".join(parts)
    cut = cut_text(text, 1, DIALECT, is_last=True)
    assert cut.taken == len(text)
    good = b"".join(cut.good)
    for code in (b"a", b"1"):
        assert good.count(code) + sum(bad.text.count(code) for bad in cut.bad) == text.count(code)
