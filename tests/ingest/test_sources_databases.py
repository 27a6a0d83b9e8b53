"""Databases: what they are asked for, which types come, and what they say when they refuse."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import AccessError, ConfigError, DataError, EvergreenError, SchemaError, ServiceUnavailable
from pipelines.ingest.sources import Count, described, opened
from pipelines.ingest.sources.postgres import _redacted
from pipelines.problem import Problem

Kettles = Callable[..., Problem]
COLUMNS = {"id": "string", "litres": "float", "age": "integer", "is_hot": "boolean", "at": "timestamp"}
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
DAY = ("2024-01-01", "2024-01-01")


@pytest.fixture
def table(postgres: Any) -> str:
    postgres.execute(
        "DROP SCHEMA IF EXISTS shop CASCADE",
        "CREATE SCHEMA shop",
        "CREATE TYPE shop.mood AS ENUM ('calm', 'cross')",
        """CREATE TABLE shop."Kettles" (id text, litres numeric, age int2, is_hot boolean, at timestamptz, day date,
            naive timestamp, mood shop.mood, whole numeric(9, 0), price money, tags text[], more jsonb, uid uuid)""",
        """INSERT INTO shop."Kettles" VALUES
            ('k1', 1.5, 3, true, '2024-01-01 12:00+00', '2024-01-01', '2024-01-01 12:00', 'calm', 7, '2.5', '{a}', '{}',
                '00000000-0000-0000-0000-000000000001'),
            ('k2', 'NaN', null, null, null, null, null, null, null, null, null, null, null),
            ('k3', 0, 1, false, '2024-01-05', '2024-01-05', '2024-01-05', 'cross', 8, '1', '{}', '[]', null)""",
    )
    return "shop.Kettles"


def rows_of(problem: Problem, query: str = "FROM kettles ORDER BY 1") -> list[tuple[Any, ...]]:
    with opened(problem, *DAY) as sources:
        rows: list[tuple[Any, ...]] = sources.database.sql(query).fetchall()
        counts = sources.counts["kettles"]
        assert counts.rows - counts.rejected == sources.database.sql("FROM kettles").to_arrow_table().num_rows
    return rows


def test_postgres_gives_the_declared_types(kettles: Kettles, postgres: Any, table: str) -> None:
    columns = {
        "id": "string",
        "litres": "float",
        "age": "integer",
        "is_hot": "boolean",
        "at": "timestamp",
        "mood": "string",
        "whole": "integer",
        "price": "float",
        "day": "timestamp",
        "uid": "string",
    }
    problem = kettles(database=postgres.uri, table=table, columns=columns, extra_columns="ignore")
    first = rows_of(problem)[0]
    assert first[:8] == ("k1", 1.5, 3, True, NOON, "calm", 7, 2.5)
    assert first[9] == "00000000-0000-0000-0000-000000000001"
    with described(problem) as database:
        assert [row[0] for row in database.sql("DESCRIBE kettles").fetchall()] == list(columns)
        assert database.sql("FROM kettles").fetchall() == []


def test_postgres_columns_come_as_they_are(kettles: Kettles, postgres: Any, table: str) -> None:
    problem = kettles(database=postgres.uri, query=f'SELECT * FROM shop."Kettles" -- {table}\n;')
    kinds = dict(rows_of(problem, "SELECT column_name, column_type FROM (DESCRIBE kettles)"))
    assert kinds["litres"] == "DOUBLE"
    assert kinds["at"] == "TIMESTAMP WITH TIME ZONE"
    assert kinds["mood"] == kinds["tags"] == kinds["more"] == "VARCHAR"


@pytest.mark.parametrize(("column", "wanted"), [("at", ["k1", "k2"]), ("naive", ["k1", "k2"]), ("day", ["k1", "k2"])])
def test_postgres_itself_leaves_out_other_times(
    kettles: Kettles, postgres: Any, table: str, column: str, wanted: list[str]
) -> None:
    # The last row would fail in the database, were it read.
    query = f"SELECT *, 1 / (CASE WHEN id = 'k3' THEN 0 ELSE 1 END + 0 * length(id)) AS trap FROM shop.\"{table[5:]}\""
    problem = kettles(database=postgres.uri, query=query, time_column=column)
    assert [row[0] for row in rows_of(problem, "SELECT id FROM kettles ORDER BY 1")] == wanted


def test_postgres_infinite_times_are_rejected_and_told(kettles: Kettles, postgres: Any) -> None:
    query = (
        "SELECT * FROM (VALUES ('a', 'infinity'::timestamptz, '-infinity'::date), ('b', now(), now())) AS v(id, at, d)"
    )
    with opened(kettles(database=postgres.uri, query=query), *DAY) as sources:
        rejected = sources.rejected().read_all().to_pylist()
        assert sources.counts["kettles"] == Count(2, 1)
    assert rejected[0]["rules"] == ["at: not of type timestamp: 'infinity'", "d: not of type timestamp: '-infinity'"]
    assert rejected[0]["source"] == "kettles"
    assert '"id":"a"' in rejected[0]["row"]


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"database": "postgresql://kitchen:wr0ngPassw0rd@127.0.0.1:{port}/postgres"}, AccessError, "authentication"),
        ({"database": "postgresql://nobody:wr0ngPassw0rd@127.0.0.1:{port}/postgres"}, AccessError, "refused"),
        ({"database": "postgresql://kitchen@127.0.0.1:{port}/postgres"}, AccessError, "password"),
        ({"database": "postgresql://kitchen:wr0ng/Passw0rd@127.0.0.1:{port}/postgres"}, ConfigError, "invalid"),
        ({"database": "postgresql://kitchen:wr0ng@Passw0rd@127.0.0.1:{port}/postgres"}, EvergreenError, "database"),
        ({"database": "postgresql://kitchen:wr0ngPassw0rd@127.0.0.1:1/postgres"}, ServiceUnavailable, "not answer"),
        ({"database": "postgresql://kitchen:wr0ngPassw0rd@no.invalid/postgres"}, ServiceUnavailable, "not answer"),
        ({"database": "postgresql://kitchen:${{KETTLE_PASSWORD}}@127.0.0.1:{port}/none"}, ConfigError, "not exist"),
        ({"database": "${{NO_SUCH_DATABASE}}"}, ConfigError, "NO_SUCH_DATABASE is not set"),
        ({"table": "shop.nothing"}, ConfigError, "does not exist"),
        ({"table": None, "query": "SELEC"}, ConfigError, "syntax error"),
        ({"table": None, "query": "SELECT nothing FROM pg_class"}, ConfigError, "does not exist"),
        ({"table": None, "query": "SELECT 1 / (i - 1) AS x FROM generate_series(1, 9) AS i"}, DataError, "division"),
        ({"table": None, "query": "SELECT 1 AS a, 2 AS a"}, DataError, "two columns"),
        ({"columns": {"age": "float"}}, SchemaError, "not declared"),
        ({"columns": {"id": "integer"}, "extra_columns": "ignore"}, SchemaError, r"found string; first values: 'k1'"),
        ({"time_column": "id"}, SchemaError, "time_column"),
        ({"time_column": "nothing"}, SchemaError, "time_column"),
    ],
)
def test_what_postgres_refuses_is_told_without_the_password(
    kettles: Kettles, postgres: Any, table: str, change: dict[str, Any], error: type[EvergreenError], told: str
) -> None:
    source = {"database": postgres.uri, "table": table} | change
    source = {
        name: value.format(port=postgres.port) if name == "database" and name in change else value
        for name, value in source.items()
    }
    with pytest.raises(error, match=told) as caught, opened(kettles(**source), *DAY):
        pass
    assert "sources.kettles" in str(caught.value) or "127.0.0.1" in str(caught.value)
    assert "Passw0rd" not in str(caught.value)
    assert caught.value.__cause__ is None, "the driver's own words may hold a password"


@pytest.mark.parametrize("uri", ["postgresql://u:se/cr@et@h/d", "postgresql://h/d?user=u&password=se/cr%40et"])
def test_no_part_of_a_password_is_shown(uri: str) -> None:
    text = _redacted(f"cannot parse cr@et in {uri}", uri)
    assert "cr@et" not in text
    assert "cr%40et" not in text


# SQLite ---------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A table whose columns hold what SQLite lets them hold."""
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE kettles (id TEXT, litres REAL, age INTEGER, is_hot, at TIMESTAMP)")
        database.executemany(
            "INSERT INTO kettles VALUES (?, ?, ?, ?, ?)",
            [
                ("007", 0.1, 2**62, 1, "2024-01-01T12:00:00Z"),
                (None, None, None, None, None),
                ("late", 5, 1, 0, "2024-01-05 00:00:00"),
                ("odd", "much", "3.7", "maybe", "yesterday"),
                ("blob", b"\xff", 1, 1, "2024-01-01"),
            ],
        )
    database.close()
    return tmp_path / "shop.db"


@pytest.mark.parametrize("uri", ["sqlite:///shop.db", "sqlite:///{shop}"])
def test_sqlite_rejects_values_of_another_type(kettles: Kettles, shop: Path, uri: str) -> None:
    problem = kettles(database=uri.format(shop=shop), table="kettles", columns=COLUMNS)
    with opened(problem, *DAY) as sources:
        rows = sources.database.sql("FROM kettles").fetchall()
        rejected = sources.rejected().read_all().to_pylist()
        assert sources.counts["kettles"] == Count(5, 2)
    assert rows[:2] == [("007", 0.1, 2**62, True, NOON), (None,) * 5]
    assert rejected[0]["rules"] == [
        "litres: not of type float: 'much'",
        "age: not of type integer: '3.7'",
        "is_hot: not of type boolean: 'maybe'",
        "at: not of type timestamp: 'yesterday'",
    ]
    assert rejected[1]["rules"] == ["litres: not of type float: '\\xFF'"]


def test_sqlite_reads_the_wanted_times_and_those_it_cannot_tell(kettles: Kettles, shop: Path) -> None:
    problem = kettles(database=f"sqlite:///{shop}", table="kettles", columns=COLUMNS, time_column="at")
    with opened(problem, *DAY) as sources:
        assert {row[0] for row in sources.database.sql("FROM kettles").fetchall()} == {"007", None}
        assert sources.counts["kettles"] == Count(4, 2)


def test_sqlite_types_are_those_of_all_values(kettles: Kettles, shop: Path) -> None:
    problem = kettles(database=f"sqlite:///{shop}", query="SELECT * FROM kettles WHERE id IN ('007', 'late')")
    for kinds in (rows_of(problem, "DESCRIBE kettles"),):
        assert [kind[1] for kind in kinds] == ["VARCHAR", "DOUBLE", "BIGINT", "BIGINT", "TIMESTAMP WITH TIME ZONE"]
    with described(problem) as database:
        assert database.sql("DESCRIBE kettles").fetchall() == kinds


def test_sqlite_text_that_is_no_text_is_rejected(kettles: Kettles, shop: Path) -> None:
    with sqlite3.connect(shop) as database:
        database.execute("CREATE TABLE bad AS SELECT CAST(x'ff61' AS TEXT) AS id UNION ALL SELECT 'fine'")
    database.close()
    with opened(kettles(database=f"sqlite:///{shop}", table="bad"), *DAY) as sources:
        assert sources.database.sql("FROM kettles").fetchall() == [("fine",)]
        assert sources.rejected().read_all()["rules"].to_pylist() == [["not readable: not valid utf-8 (shop.db)"]]


@pytest.mark.parametrize(
    ("source", "error", "told"),
    [
        ({"database": "sqlite:///none.db", "table": "kettles"}, DataError, "no such file"),
        ({"database": "sqlite:///junk.db", "table": "kettles"}, DataError, "not a database"),
        ({"database": "sqlite:///shop.db", "table": "nothing"}, ConfigError, "no such table"),
        ({"database": "sqlite:///shop.db", "query": "SELEC 1"}, ConfigError, "syntax error"),
        ({"database": "sqlite:///shop.db", "table": "kettles", "columns": {"Age": "integer"}}, SchemaError, "capitals"),
    ],
)
def test_what_is_wrong_with_sqlite_is_told_with_the_file(
    kettles: Kettles, shop: Path, source: dict[str, Any], error: type[EvergreenError], told: str
) -> None:
    (shop.parent / "junk.db").write_bytes(b"no database" * 1000)
    with pytest.raises(error, match=told) as caught, opened(kettles(**source), *DAY):
        pass
    assert source["database"].rpartition("/")[2] in str(caught.value)
    assert not (shop.parent / "none.db").exists()


def test_a_truncated_sqlite_file_fails_and_is_named(kettles: Kettles, shop: Path) -> None:
    with sqlite3.connect(shop) as database:
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9999)"
        database.execute(f"CREATE TABLE many AS {numbers} SELECT i, hex(randomblob(50)) AS h FROM n")
    database.close()
    shop.write_bytes(shop.read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"shop\.db"), opened(kettles(database=f"sqlite:///{shop}", table="many"), *DAY):
        pass
