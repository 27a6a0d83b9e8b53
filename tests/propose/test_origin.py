"""Where a table lies and how it is written."""

from __future__ import annotations

import os
import sqlite3
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import ConfigError
from pipelines.propose.origin import identifier, identifiers, origin, shown
from pipelines.propose.table import read


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_sign_between_values_is_told(tmp_path: Path, delimiter: str) -> None:
    lines = [delimiter.join(["a b", "c", "text"]), *(delimiter.join([str(i), f"{i}.5", "so it is"]) for i in range(30))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    found = origin(str(tmp_path / "t.csv"), None, tmp_path)
    assert found.names == ["a b", "c", "text"]
    assert found.settings.get("delimiter", ",") == delimiter


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_the_encoding_is_told_and_read(tmp_path: Path, encoding: str) -> None:
    text = "id,Größe\n" + "".join(f"{i},schön {i}\n" for i in range(50))
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    found = origin(str(tmp_path / "t.csv"), None, tmp_path)
    with read(found, tmp_path) as table:
        assert [column.name for column in table.columns] == ["id", "groesse"]
        assert table.database.execute("SELECT groesse FROM rows").fetchall()[0] == ("schön 0",)


def test_a_column_without_a_name_and_two_of_one_name_are_not_read_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(",a,b,B\n0,1,2,3\n1,2,3,4\n")
    found = origin(str(tmp_path / "t.csv"), None, tmp_path)
    assert found.names == ["a"]
    assert found.settings["extra_columns"] == "ignore"
    assert "without a name" in found.notes[0]
    assert "same name: b" in found.notes[1]


def test_a_folder_is_read_as_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "data" / "one.parquet")
    assert origin(str(tmp_path / "data"), None, tmp_path).settings["format"] == "parquet"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no file of a known kind"):
        origin(str(tmp_path / "empty"), None, tmp_path)


def test_an_archive_is_read_as_what_it_holds_and_a_spreadsheet_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "orders.zip", "w") as archive:
        archive.writestr("orders.csv", "id,paid\n" + "".join(f"{i},{i}.5\n" for i in range(30)))
    found = origin(str(tmp_path / "orders.zip"), None, tmp_path)
    assert (found.settings["format"], found.names) == ("csv", ["id", "paid"])
    (tmp_path / "orders.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(ConfigError, match="does not tell what kind") as error:
        origin(str(tmp_path / "orders.xlsx"), None, tmp_path)
    assert "saved as CSV" in error.value.cure


def test_types_that_no_event_has_are_told_by_name(tmp_path: Path) -> None:
    rows = {
        "took": pa.array([1, 2, 3], pa.duration("s")),
        "u": pa.array([1, 2, 3], pa.uint64()),
        "hash": pa.array([1, 2, 2**60], pa.uint64()),
        "at": pa.array([1, 2, 3], pa.time64("us")),
        "wind": pa.array([1.5, float("nan"), float("inf")]),
    }
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    with read(origin(str(tmp_path / "t.parquet"), None, tmp_path), tmp_path) as table:
        kinds = {column.name: column.kind for column in table.columns}
        wind = table.database.execute("SELECT wind FROM rows ORDER BY 1").fetchall()
    assert kinds == {"took": "other", "u": "integer", "hash": "other", "at": "other", "wind": "float"}
    assert wind == [(1.5,), (None,), (None,)], "what is not finite is missing, as for an ingest"


def test_a_database_needs_a_table_and_a_file_takes_none(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as shop:
        shop.execute("CREATE TABLE Orders (id INTEGER, paid REAL)")
        shop.executemany("INSERT INTO Orders VALUES (?, ?)", [(1, 2.5), (2, 3.5)])
    uri = f"sqlite:///{tmp_path / 'shop.db'}"
    found = origin(uri, "Orders", tmp_path)
    assert found.name == "orders"
    with read(found, tmp_path) as table:
        assert [(column.name, column.kind) for column in table.columns] == [("id", "integer"), ("paid", "float")]
    with pytest.raises(ConfigError, match="which table"):
        origin(uri, None, tmp_path)
    with pytest.raises(ConfigError, match="for databases"):
        origin(str(tmp_path / "shop.db"), "Orders", tmp_path)
    with pytest.raises(ConfigError, match="nothing there"):
        origin(str(tmp_path / "shop.csv"), None, tmp_path)


def test_each_column_gets_a_name_of_its_own() -> None:
    names = ["Price", "price", "PRICE ", "Unit-Price", "unit price", "score", "7"]
    given = identifiers(names)
    assert given["price"] == "price"
    assert len(set(given.values())) == len(names)
    assert identifier("score") == "score_value", "a name that Evergreen gives itself"


@pytest.mark.parametrize(
    ("uri", "written", "password"),
    [
        ("postgresql://me:se%40cret%2F@db/shop", "postgresql://me:${ORDERS_PASSWORD}@db/shop", "se@cret/"),
        ("postgresql://me:a@b:c@db/shop", "postgresql://me:${ORDERS_PASSWORD}@db/shop", "a@b:c"),
        ("postgres://db/shop?user=me&password=xyz", "postgres://db/shop?user=me&password=${ORDERS_PASSWORD}", "xyz"),
        ("postgresql://me:${SECRET}@db/shop", "postgresql://me:${SECRET}@db/shop", None),
        ("postgresql://me@db/shop", "postgresql://me@db/shop", None),
    ],
)
def test_a_password_goes_to_the_environment_and_not_into_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, written: str, password: str | None
) -> None:
    monkeypatch.setenv("ORDERS_PASSWORD", "what was there before")
    found = origin(uri, "public.orders", tmp_path / "orders")
    assert found.settings["database"] == written
    if password is None:
        assert found.notes == ()
        return
    assert os.environ["ORDERS_PASSWORD"] == password
    assert "ORDERS_PASSWORD" in found.notes[0]
    assert password not in shown(uri) and "***" in shown(uri)
