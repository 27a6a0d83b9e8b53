"""Types that a column may have in Parquet and Avro: each is read as it is, or refused for what it is."""

from __future__ import annotations

import io
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

from pipelines.errors import DataError, SchemaError
from pipelines.ingest.extract import extract
from pipelines.ingest.sources import described, files, opened
from pipelines.problem import Problem

Kettles = Callable[..., Problem]
DAY = ("2024-01-01", "2024-01-01")
NOON = datetime(2024, 1, 1, 12)
YEAR_10000_S = 253_402_300_800
LONG = Decimal("1" * 45)


def read(problem: Problem) -> list[Any]:
    """The column x, which described and opened sources know alike."""
    with described(problem) as database, opened(problem, *DAY) as sources:
        kinds = sources.database.sql("DESCRIBE kettles").fetchall()
        assert database.sql("DESCRIBE kettles").fetchall() == kinds
        rows: list[Any] = sources.database.sql("SELECT x FROM kettles").to_arrow_table()["x"].to_pylist()
        assert sources.counts["kettles"].rows == len(rows)
    return rows


TIMES = [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Asia/Tokyo", "+02:00")]


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("kind", TIMES, ids=str)
def test_a_time_column_of_any_resolution_and_zone_is_read(
    kettles: Kettles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: pa.DataType, remote: bool
) -> None:
    times = pa.array([NOON - timedelta(days=1), NOON, None, NOON + timedelta(days=1)], kind)
    pq.write_table(pa.table({"id": ["a", "b", "c", "d"], "x": times}), tmp_path / "k.parquet")
    monkeypatch.setattr(files, "object_store", lambda: SubTreeFileSystem(str(tmp_path.parent), LocalFileSystem()))
    path = f"s3://{tmp_path.name}/k.parquet" if remote else "k.parquet"
    wanted = NOON if kind.tz is None else NOON.replace(tzinfo=UTC)
    assert read(kettles(path=path, time_column="x")) == [wanted, None]


def test_a_delta_table_and_old_timestamps_have_time_columns_too(kettles: Kettles, tmp_path: Path) -> None:
    table = pa.table({"x": pa.array([NOON, NOON + timedelta(days=1)], pa.timestamp("ns", "UTC"))})
    write_deltalake(str(tmp_path / "k"), table)
    assert read(kettles(path="k", format="delta", time_column="x")) == [NOON.replace(tzinfo=UTC)]
    pq.write_table(table, tmp_path / "k.parquet", use_deprecated_int96_timestamps=True)
    assert read(kettles(path="k.parquet", time_column="x")) == [NOON]


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (pa.array([1.5], pa.float16()), 1.5),
        (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
        (pa.array([Decimal("1.50")], pa.decimal128(38, 2)), Decimal("1.50")),
        (pa.array([Decimal("1.50")], pa.decimal256(38, 2)), Decimal("1.50")),
        (pa.array([timedelta(hours=1)], pa.duration("ns")), timedelta(hours=1)),
        (pa.array([b"\xff"], pa.large_binary()), b"\xff"),
        (pa.array(["k"]).dictionary_encode(), "k"),
        (pa.array(["k"], pa.string_view()), "k"),
        (pa.array([[1, None]]), [1, None]),
        (pa.array([{"a": 1}]), {"a": 1}),
        (pa.array([date(2024, 1, 1)], pa.date64()), date(2024, 1, 1)),
        (pa.nulls(1), None),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_a_column_of_any_type_is_read_on_disk_as_in_a_store(
    kettles: Kettles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: pa.Array, wanted: Any, remote: bool
) -> None:
    pq.write_table(pa.table({"x": values}), tmp_path / "k.parquet")
    monkeypatch.setattr(files, "object_store", lambda: SubTreeFileSystem(str(tmp_path.parent), LocalFileSystem()))
    (found,) = read(kettles(path=f"s3://{tmp_path.name}/k.parquet" if remote else "k.parquet"))
    if isinstance(wanted, timedelta):
        found = timedelta(days=found.days, microseconds=found.nanoseconds // 1000)
    assert found == wanted


def avro(path: Path, *kinds: Any, rows: list[list[Any]]) -> None:
    """Columns x0, x1 ... of these types; values of times are the numbers that stand for them."""
    fields = [{"name": f"x{n}", "type": kind} for n, kind in enumerate(kinds)]
    plain = [field | {"type": _plain(field["type"])} for field in fields]
    sink, schema = io.BytesIO(), {"type": "record", "name": "kettle", "fields": fields}
    records = [{f"x{n}": value for n, value in enumerate(row)} for row in rows]
    fastavro.writer(sink, schema | {"fields": plain}, records, metadata={"note": "numbers that stand for times"})
    body = io.BytesIO()
    fastavro.writer(body, schema, [])
    # The rows of the one file behind the header of the other, which says what their numbers mean.
    header, rest = body.getvalue()[:-16], sink.getvalue()
    sync = rest[-16:]
    path.write_bytes(header + sync + rest[rest.index(sync) + 16 :])


def _plain(kind: Any) -> Any:
    return [_plain(one) for one in kind] if isinstance(kind, list) else kind["type"] if isinstance(kind, dict) else kind


TIME_KINDS = {
    "timestamp-millis": 10**3,
    "timestamp-micros": 10**6,
    "local-timestamp-millis": 10**3,
    "local-timestamp-micros": 10**6,
}


@pytest.mark.parametrize("logical", TIME_KINDS)
def test_an_avro_time_of_the_year_10000_costs_its_own_row_alone(kettles: Kettles, tmp_path: Path, logical: str) -> None:
    seconds = [int(NOON.replace(tzinfo=UTC).timestamp()), YEAR_10000_S + 5, -(2**40), None]
    rows = [[None if one is None else one * TIME_KINDS[logical], f"k{n}"] for n, one in enumerate(seconds)]
    rows.append([2**63 - 1, "k4"])
    avro(tmp_path / "k.avro", ["null", {"type": "long", "logicalType": logical}], "string", rows=rows)
    (tmp_path / "events.sql").write_text(
        "SELECT x1 AS kettle_id, coalesce(x0, TIMESTAMPTZ '2024-01-01 00:00+00') AS event_time, 'top' AS shelf, "
        "1.5 AS litres, 3 AS age FROM kettles"
    )
    problem = kettles(path="k.avro")
    with opened(problem, *DAY) as sources:
        found = [row for batch in extract(problem, "events", sources.database, *DAY) for row in batch.to_pylist()]
    told = {row["kettle_id"]: (row["event_time"], [fault[:33] for fault in row["faults"][:1]]) for row in found}
    fault = (None, ["event_time: not of type timestamp"])
    assert told == {
        "k0": (NOON.replace(tzinfo=UTC), []),
        "k1": fault,
        "k2": fault,
        "k3": (datetime(2024, 1, 1, tzinfo=UTC), []),
        "k4": fault,
    }


def test_avro_dates_and_times_of_day_are_what_their_numbers_say(kettles: Kettles, tmp_path: Path) -> None:
    logicals = [("int", "date"), ("int", "time-millis"), ("long", "time-micros"), ("long", "timestamp-nanos")]
    kinds = [{"type": kind, "logicalType": logical} for kind, logical in logicals]
    rows = [[19_723, 45_000_000, 45_000_000_000, 1_704_110_400_000_000_001], [2_932_897, 0, 0, 0]]
    avro(tmp_path / "k.avro", *kinds, rows=rows)
    with opened(kettles(path="k.avro"), *DAY) as sources:
        rows = sources.database.sql("SELECT x0::VARCHAR, x1::VARCHAR, x2::VARCHAR, epoch(x3) FROM kettles").fetchall()
    assert rows == [("2024-01-01", "12:30:00", "12:30:00", 1_704_110_400), ("10000-01-01", "00:00:00", "00:00:00", 0)]


def decimal_type(precision: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": 0}


def as_bytes(number: Decimal) -> bytes:
    return int(number).to_bytes(32, "big", signed=True)


@pytest.mark.parametrize("name", ["k.parquet", "k.avro"])
def test_a_decimal_of_too_many_digits_is_refused_for_what_it_is(kettles: Kettles, tmp_path: Path, name: str) -> None:
    if name == "k.parquet":
        pq.write_table(pa.table({"x0": pa.array([LONG], pa.decimal256(50, 0)), "x1": ["k"]}), tmp_path / name)
    else:
        avro(tmp_path / name, decimal_type(50), "string", rows=[[as_bytes(LONG), "k"]])
    with pytest.raises(SchemaError, match="at most 38 digits can be read") as caught, opened(kettles(path=name), *DAY):
        pass
    assert "x0" in str(caught.value)
    for columns, wanted in (
        ({"x0": "float", "x1": "string"}, {"x0": float(LONG), "x1": "k"}),
        ({"x1": "string"}, {"x1": "k"}),
    ):
        with opened(kettles(path=name, columns=columns, extra_columns="ignore"), *DAY) as sources:
            assert sources.database.sql("FROM kettles").to_arrow_table().to_pylist() == [wanted]


def test_an_avro_number_that_its_union_cannot_hold_is_no_damage(kettles: Kettles, tmp_path: Path) -> None:
    avro(tmp_path / "k.avro", ["null", "long", "double"], "string", rows=[[2**53 + 1, "a"], [0.5, "b"], [None, "c"]])
    told = r"x0: a value is not of its column's type, double: .*9007199254740993"
    with pytest.raises(DataError, match=told) as caught, opened(kettles(path="k.avro"), *DAY):
        pass
    assert caught.value.where.endswith("k.avro")
    assert "copy" not in caught.value.cure
    with opened(kettles(path="k.avro", columns={"x0": "float", "x1": "string"}), *DAY) as sources:
        assert sources.database.sql("FROM kettles").fetchall() == [(2.0**53, "a"), (0.5, "b"), (None, "c")]
    avro(tmp_path / "k.avro", ["long", "double"], "string", rows=[[2**53, "a"], [0.5, "b"]])
    with opened(kettles(path="k.avro"), *DAY) as sources:
        assert sources.database.sql("FROM kettles").fetchall() == [(2.0**53, "a"), (0.5, "b")]
