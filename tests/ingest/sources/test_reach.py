"""How far sources of each kind reach, learnt from what is read of them anyway."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from benchmarks.postgres import Postgres
from pipelines.handoffs.ingestion import Reach
from pipelines.ingest.sources import opened
from pipelines.ingest.sources.reach import marks
from pipelines.problem import Problem
from tests.ingest.conftest import SourceProblem
from tests.ingest.test_sources import COLUMNS, FILES, SCHEMA

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
HOURS = (5, 30, 53, 100)
ROWS: list[dict[str, Any]] = [
    {"id": f"k{hour}", "litres": 1.5, "age": 3, "is_hot": True, "at": FIRST + timedelta(hours=hour)} for hour in HOURS
]
ROWS.append({"id": "none", "litres": None, "age": None, "is_hot": None, "at": None})
BY_TIME = {"columns": COLUMNS, "time_column": "at"}


def reach(problem: Problem, first: str = "2024-01-01", last: str = "2024-01-03") -> Reach:
    asked = marks(problem, problem.partitions.between(first, last), datetime.now(UTC))
    with opened(problem, first, last, asked=asked) as sources:
        rows = sources.database.sql("SELECT count(*) FROM kettles").fetchall()[0][0]
        assert sources.counts["kettles"].rows == rows
        return sources.reach["kettles"]


def newest(told: Reach) -> list[float | None]:
    """Hours since FIRST, of each reading."""
    return [None if each.newest is None else (each.newest - FIRST) / timedelta(hours=1) for each in told.readings]


@pytest.mark.parametrize("is_by_time", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_files(kettles: SourceProblem, tmp_path: Path, name: str, is_by_time: bool) -> None:
    (tmp_path / name).write_bytes(FILES[name](ROWS))
    told = reach(kettles(path=name, **BY_TIME) if is_by_time else kettles(path=name, columns=COLUMNS))
    from_footer = name == "k.parquet" and not is_by_time
    assert newest(told) == ([72] if from_footer else [5, 30, 53]), "what lies beyond the end does not count"
    assert told.columns == "at" and [each.partition for each in told.readings][-1] == "2024-01-03"
    written = datetime.fromtimestamp((tmp_path / name).stat().st_mtime, UTC)
    assert told.arrived is not None and abs(told.arrived - written) < timedelta(seconds=1)


def test_a_delta_table(kettles: SourceProblem, tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS, SCHEMA)
    for part in (table.slice(0, 2), table.slice(2)):
        write_deltalake(tmp_path / "delta", part, mode="append")
    assert newest(reach(kettles(path="delta", format="delta", **BY_TIME))) == [5, 30, 53]
    whole = kettles(path="delta", format="delta")
    assert newest(reach(whole)) == [72] and newest(reach(whole, "2024-01-09", "2024-01-09")) == [100]


def test_databases(kettles: SourceProblem, tmp_path: Path, postgres: Postgres) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database, database:
        database.execute("CREATE TABLE kettles (id TEXT, at TEXT)")
        rows = [(row["id"], str(row["at"]) if row["at"] else None) for row in ROWS]
        database.executemany("INSERT INTO kettles VALUES (?, ?)", rows)
    postgres.execute("DROP TABLE IF EXISTS reached")
    postgres.execute("CREATE TABLE reached (id text, at timestamptz)")
    values = ", ".join(f"('{row['id']}', {repr(str(row['at'])) if row['at'] else 'NULL'})" for row in ROWS)
    postgres.execute(f"INSERT INTO reached VALUES {values}")
    for source in (
        {"database": "sqlite:///shop.db", "table": "kettles"},
        {"database": postgres.uri, "table": "reached"},
    ):
        told = reach(kettles(**source, columns={"id": "string", "at": "timestamp"}, time_column="at"))
        assert (newest(told), told.arrived) == ([5, 30, 53], None)


def test_of_several_columns_the_newest_counts_and_of_none_nothing(kettles: SourceProblem, tmp_path: Path) -> None:
    (tmp_path / "k.csv").write_text("id,born,day\n1,2023-05-01T10:00:00,2024-01-01\n2,2024-01-02 03:30:00,2030-01-01\n")
    told = reach(kettles(path="k.csv"))
    assert (told.columns, newest(told)) == ("born, day", [0, 27.5, 27.5])
    assert reach(kettles(path="k.csv", columns={"id": "string", "born": "string", "day": "string"})) == Reach(
        None, [], told.arrived
    )


def test_times_without_a_zone_are_on_the_clock_of_the_problem(kettles: SourceProblem, tmp_path: Path) -> None:
    (tmp_path / "k.csv").write_text("id,at\n1,2024-01-01 20:00:00\n2,2024-01-02 10:00:00\n")
    naive = pa.table({"id": ["1", "2"], "at": pa.array([datetime(2024, 1, 1, 20), datetime(2024, 1, 2, 10)])})
    pq.write_table(naive, tmp_path / "k.parquet")
    for name in ("k.csv", "k.parquet"):
        problem = kettles(path=name)
        there = problem.model_copy(
            update={"partitions": problem.partitions.model_copy(update={"timezone": "America/New_York"})}
        )
        assert newest(reach(there, "2024-01-02", "2024-01-03"))[-1] == 39, name


def test_files_whose_footers_say_nothing_are_told_of_as_such(kettles: SourceProblem, tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS, SCHEMA)
    pq.write_table(table, tmp_path / "a.parquet", write_statistics=False)
    assert reach(kettles(path="a.parquet")).columns is None
    pq.write_table(table.slice(4), tmp_path / "b.parquet")  # no row has a time: they say nothing against the others
    pq.write_table(table, tmp_path / "a.parquet")
    assert newest(reach(kettles(path="*.parquet"), "2024-01-09", "2024-01-09")) == [100]


def test_of_a_bulk_history_the_newest_partitions_count(kettles: SourceProblem, tmp_path: Path) -> None:
    (tmp_path / "k.csv").write_bytes(FILES["k.csv"](ROWS))
    told = reach(kettles(path="k.csv", columns=COLUMNS), "2024-01-01", "2024-03-01")
    assert len(told.readings) == 26 and set(newest(told)) == {100}
    assert told.readings[-1].partition == "2024-03-01"
