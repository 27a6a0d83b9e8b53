"""Columns are taken by their names: the order in which a file has them changes no value."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from pipelines.errors import SchemaError
from pipelines.ingest.sources import files, opened
from pipelines.problem import Problem

Kettles = Callable[..., Problem]
SETTINGS = settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Values that any of the other columns could hold: only their names tell them apart.
ROWS = [{"low": n, "high": 100 + n, "top": 200 + n, "mean": 300 + n} for n in range(4)]
NAMES = list(ROWS[0])


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]).encode()


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def as_avro(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    fields = [{"name": name, "type": "long"} for name in rows[0]]
    fastavro.writer(sink, {"type": "record", "name": "kettle", "fields": fields}, rows)
    return sink.getvalue()


FORMATS = {"csv": as_csv, "jsonl": as_jsonl, "parquet": as_parquet, "avro": as_avro}


def ordered(row: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: row[name] for name in names}


def served(problem: Problem) -> list[dict[str, Any]]:
    with opened(problem, "2024-01-01", "2024-01-01") as sources:
        assert sources.rejected().read_all().num_rows == 0
        rows: list[dict[str, Any]] = sources.database.sql("FROM kettles ORDER BY low").to_arrow_table().to_pylist()
    return rows


@pytest.mark.parametrize("kind", FORMATS)
@SETTINGS
@given(orders=st.lists(st.permutations(NAMES), min_size=2, max_size=4), declared=st.booleans(), is_remote=st.booleans())
def test_any_order_of_columns_in_any_file_gives_the_same_rows(
    kettles: Kettles, tmp_path: Path, kind: str, orders: list[list[str]], declared: bool, is_remote: bool
) -> None:
    for old in tmp_path.glob("k*"):
        old.unlink()
    for number, names in enumerate(orders):
        (tmp_path / f"k{number}.{kind}").write_bytes(FORMATS[kind]([ordered(ROWS[number], names)]))
    columns = dict.fromkeys(NAMES, "integer") if declared else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "object_store", lambda: SubTreeFileSystem(str(tmp_path.parent), LocalFileSystem()))
        path = f"s3://{tmp_path.name}/*.{kind}" if is_remote else f"*.{kind}"
        assert served(kettles(path=path, columns=columns)) == ROWS[: len(orders)]


@pytest.mark.parametrize("declared", [False, True])
def test_a_delta_table_whose_files_have_other_orders_gives_the_same_rows(
    kettles: Kettles, tmp_path: Path, declared: bool
) -> None:
    for row, names in zip(ROWS, (NAMES, NAMES[::-1], NAMES[1:] + NAMES[:1], NAMES), strict=True):
        write_deltalake(str(tmp_path / "k"), pa.Table.from_pylist([ordered(row, names)]), mode="append")
    columns = dict.fromkeys(NAMES[::-1], "integer") if declared else {}
    assert served(kettles(path="k", format="delta", columns=columns)) == ROWS


def test_a_query_may_give_its_columns_in_any_order(kettles: Kettles, postgres: Any, tmp_path: Path) -> None:
    columns = dict.fromkeys(NAMES, "integer")
    values = ", ".join("(" + ", ".join(map(str, ordered(row, NAMES[::-1]).values())) + ")" for row in ROWS)
    selected = ", ".join(f"column{n + 1} AS {name}" for n, name in enumerate(NAMES[::-1]))
    query = f"SELECT {selected} FROM (VALUES {values}) AS v"
    assert served(kettles(database=postgres.uri, query=query, columns=columns)) == ROWS
    (tmp_path / "shop.db").touch()
    assert served(kettles(database="sqlite:///shop.db", query=query, columns=columns)) == ROWS


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["mean", "high", "low"], r"- top( \(.*\))? is in the first file and missing"),
        (["mean", "more", "top", "high", "low"], r"\+ more( \(.*\))? is not in the first file"),
        (["mean", "Top", "high", "low"], "only capitals differ in top"),
    ],
)
def test_a_file_with_other_columns_is_named_with_them(
    kettles: Kettles, tmp_path: Path, kind: str, names: list[str], told: str
) -> None:
    (tmp_path / f"k0.{kind}").write_bytes(FORMATS[kind](ROWS))
    (tmp_path / f"k1.{kind}").write_bytes(FORMATS[kind]([dict.fromkeys(names, 1)]))
    with (
        pytest.raises(SchemaError, match=told) as caught,
        opened(kettles(path=f"*.{kind}"), "2024-01-01", "2024-01-01"),
    ):
        pass
    assert f"k1.{kind}" in caught.value.where
    assert "sources.kettles.columns" in caught.value.cure


def test_a_file_with_other_types_is_named_and_types_that_are_one_are_read(kettles: Kettles, tmp_path: Path) -> None:
    names = pa.array(["a", "b"])
    tables = [
        pa.table({"low": [1, 2], "name": pa.nulls(2)}),
        pa.table({"name": names, "low": [3, 4]}),
        pa.table({"name": names.cast(pa.large_string()), "low": [5, 6]}),
        pa.table({"low": [7, 8], "name": names.dictionary_encode()}),
    ]
    for number, table in enumerate(tables):
        pq.write_table(table, tmp_path / f"{number}.parquet")
    found = served(kettles(path="*.parquet"))
    assert [row["low"] for row in found] == list(range(1, 9))
    assert [row["name"] for row in found] == [None, None, *["a", "b"] * 3]
    pq.write_table(pa.table({"name": [1], "low": [9]}), tmp_path / "4.parquet")
    with pytest.raises(SchemaError, match="name: in the first file string, found int64; first values: 1") as caught:
        served(kettles(path="*.parquet"))
    assert "4.parquet" in caught.value.where
