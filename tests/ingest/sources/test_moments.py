"""Times without a zone are times of the problem's own zone, wherever they come from."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import sql
from pipelines.ingest.extract import extract, extracted_schema
from pipelines.ingest.sources import described, opened
from pipelines.ingest.sources.moments import moment
from pipelines.problem import Problem, parse_problem

ToyProblem = Callable[..., Problem]
NEW_YORK = "America/New_York"
# Both changes of the clock; a day that was left out (Apia), changes at midnight (Havana), by half an hour (Lord Howe).
LOCAL_TIMES = {
    NEW_YORK: ["2024-03-10 02:30", "2024-11-03 01:30", "2024-07-01 00:00"],
    "Europe/Lisbon": ["2024-03-31 01:15", "2024-10-27 01:15", "2024-10-27 00:59", "2024-10-27 02:00"],
    "Asia/Kathmandu": ["2024-03-10 02:30", "1985-12-31 23:50", "1986-01-01 00:10"],
    "Australia/Lord_Howe": ["2024-10-06 02:15", "2024-04-07 01:45", "2024-04-07 02:00"],
    "Pacific/Apia": ["2011-12-29 23:00", "2011-12-30 12:00", "2011-12-31 00:00"],
    "America/Havana": ["2024-03-10 00:30", "2024-11-03 00:30", "2024-11-03 01:00"],
}
KINDS = ["TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "VARCHAR"]


def as_moment(local: datetime, zone: str) -> datetime:
    """What Python makes of it: the first of two, as much later as the clock was set forward."""
    return local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def moments(values: list[str], kind: str, zone: str) -> list[datetime]:
    with sql.connection({"given": pa.table({"placed": values})}) as database:
        rows = database.sql(
            f"SELECT {moment('placed', kind, zone)} FROM (SELECT CAST(placed AS {kind}) AS placed FROM given)"
        )
        return [row[0] for row in rows.fetchall()]


@pytest.mark.parametrize("zone", LOCAL_TIMES)
def test_a_time_of_a_zone_is_the_first_of_two_and_later_where_an_hour_is_skipped(zone: str) -> None:
    texts = LOCAL_TIMES[zone]
    wanted = [as_moment(datetime.fromisoformat(text), zone) for text in texts]
    for kind in KINDS:
        assert moments([f"{text}:00" for text in texts], kind, zone) == wanted


def test_the_hours_that_come_twice_and_never_have_these_moments() -> None:
    assert moments(["2024-11-03 01:30", "2024-03-10 02:30", "2024-03-10"], "VARCHAR", NEW_YORK) == [
        datetime(2024, 11, 3, 5, 30, tzinfo=UTC),
        datetime(2024, 3, 10, 7, 30, tzinfo=UTC),
        datetime(2024, 3, 10, 5, 0, tzinfo=UTC),
    ]
    assert moments(["2011-12-30 12:00"], "TIMESTAMP", "Pacific/Apia") == [datetime(2011, 12, 30, 22, tzinfo=UTC)]
    assert moments(["2024-11-03"], "DATE", "America/Havana") == [datetime(2024, 11, 3, 4, tzinfo=UTC)]


@settings(max_examples=60)
@given(
    zone=st.sampled_from(["America/Nuuk", "Africa/Casablanca", "Asia/Gaza", "Australia/Adelaide", *LOCAL_TIMES]),
    local=st.datetimes(datetime(1990, 1, 1), datetime(2023, 12, 31)),
)
def test_any_time_of_any_zone_is_the_moment_that_python_knows(zone: str, local: datetime) -> None:
    assert moments([str(local)], "TIMESTAMP", zone) == [as_moment(local, zone)]


def test_an_offset_of_its_own_beats_the_zone_and_no_rounding_moves_a_day() -> None:
    texts = ["2024-11-03 01:30:00-05:00", "2024-11-03T01:30Z", "2024-11-03 23:59:59.999999999"]
    assert moments(texts, "VARCHAR", NEW_YORK) == [
        datetime(2024, 11, 3, 6, 30, tzinfo=UTC),
        datetime(2024, 11, 3, 1, 30, tzinfo=UTC),
        datetime(2024, 11, 4, 4, 59, 59, 999999, tzinfo=UTC),
    ]
    for kind in ("TIMESTAMP_NS", "TIMESTAMPTZ_NS"):
        assert moments(["2024-11-03 23:59:59.999999999", "1969-12-31 23:59:59.999999999"], kind, "UTC") == [
            datetime(2024, 11, 3, 23, 59, 59, 999999, tzinfo=UTC),
            datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        ]


# Through sources and SQL -------------------------------------------------------------------------------------


EVENTS = "SELECT kettle_id, placed AS event_time, shelf, litres, age FROM kettles"
DAYS = [date(2024, 3, 9) + timedelta(days=n) for n in range(3)]  # the second one has 23 hours
LOCALS = [datetime.combine(day, time(hour, 30)) for day in DAYS for hour in (0, 2, 23)]


def local_problem(toy: ToyProblem, folder: Path, zone: str = NEW_YORK, events: str = EVENTS, **source: Any) -> Problem:
    raw = toy(**{"partitions.timezone": zone}).model_dump(mode="json") | {"sources": {"kettles": source}}
    (folder / "events.sql").write_text(events)
    (folder / "labels.sql").write_text(
        "SELECT kettle_id, placed AS event_time, placed AS known_time, 1 AS label FROM kettles"
    )
    return parse_problem(raw, folder)


def extracted(problem: Problem, first: date, last: date, query: Any = "events") -> dict[datetime, str]:
    """Partition by event time."""
    with opened(problem, str(first), str(last)) as sources:
        batches = extract(problem, query, sources.database, str(first), str(last))
        rows = pa.Table.from_batches(batches, extracted_schema(problem, query)).to_pylist()
        assert sources.rejected().read_all().num_rows == 0
    assert [row["faults"] for row in rows] == [[]] * len(rows)
    return {row["event_time"]: row["partition"] for row in rows}


def write(path: Path, times: list[Any]) -> dict[str, Any]:
    """The times as rows of a file or a database; gives the source's settings."""
    columns: dict[str, list[Any]] = {
        "kettle_id": [f"k{n}" for n in range(len(times))],
        "placed": times,
        "shelf": ["top"] * len(times),
        "litres": [1.5] * len(times),
        "age": [3] * len(times),
    }
    table = pa.table(columns)
    rows = table.to_pylist()
    match path.suffix:
        case ".csv":
            lines = [",".join(columns), *(",".join(map(str, row.values())) for row in rows)]
            path.write_text("\n".join(lines))
        case ".parquet":
            pq.write_table(table, path)
        case ".avro":
            logical = {"type": "long", "logicalType": "local-timestamp-micros"}
            if not isinstance(times[0], datetime):
                logical = {"type": "int", "logicalType": "date"}
            kinds = ["string", logical, "string", "double", "long"]
            fields = [{"name": name, "type": kind} for name, kind in zip(columns, kinds, strict=True)]
            with path.open("wb") as sink:
                fastavro.writer(sink, {"type": "record", "name": "kettle", "fields": fields}, rows)
        case ".db":
            with sqlite3.connect(path) as database:
                database.execute(f"CREATE TABLE kettles ({', '.join(columns)})")
                values = [tuple((row | {"placed": str(row["placed"])}).values()) for row in rows]
                database.executemany("INSERT INTO kettles VALUES (?, ?, ?, ?, ?)", values)
            database.close()
            return {"database": f"sqlite:///{path}", "table": "kettles"}
    return {"path": path.name}


DECLARED = {"kettle_id": "string", "placed": "timestamp", "shelf": "string", "litres": "float", "age": "integer"}


@pytest.mark.parametrize("name", ["k.csv", "k.parquet", "k.avro", "k.db"])
@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("time_column", [None, "placed"])
def test_a_local_time_of_any_source_lies_in_the_partition_of_its_own_day(
    toy: ToyProblem, tmp_path: Path, name: str, declared: bool, time_column: str | None
) -> None:
    source = write(tmp_path / name, LOCALS) | {"columns": DECLARED if declared else {}, "time_column": time_column}
    problem = local_problem(toy, tmp_path, **source)
    for query in ("events", "labels"):
        assert extracted(problem, DAYS[0], DAYS[2], query) == {
            as_moment(local, NEW_YORK): local.date().isoformat() for local in LOCALS
        }
    (second,) = {extracted(problem, DAYS[1], DAYS[1])[as_moment(local, NEW_YORK)] for local in LOCALS[3:6]}
    assert second == "2024-03-10"
    assert len(extracted(problem, DAYS[1], DAYS[1])) == 3


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        *((name, NEW_YORK) for name in ("k.csv", "k.parquet", "k.avro", "k.db")),
        *(("k.parquet", zone) for zone in ("Europe/Lisbon", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia")),
    ],
)
def test_a_date_is_the_beginning_of_its_day(toy: ToyProblem, tmp_path: Path, name: str, zone: str) -> None:
    source = write(tmp_path / name, DAYS) | {"time_column": "placed"}
    problem = local_problem(toy, tmp_path, zone, **source)
    for day in DAYS:
        start = problem.partitions.start(str(day)).astimezone(UTC)
        assert extracted(problem, day, day) == {start: str(day)}


def test_postgres_times_without_a_zone_are_the_problems_too(toy: ToyProblem, tmp_path: Path, postgres: Any) -> None:
    values = ", ".join(f"('k{n}', timestamp '{local}')" for n, local in enumerate(LOCALS))
    columns = "kettle_id, {at} AS placed, 'top'::text AS shelf, 1.5::float8 AS litres, 3 AS age"
    for at, wanted in (
        ("placed", {as_moment(local, NEW_YORK): "2024-03-10" for local in LOCALS[3:6]}),
        ("placed::date", {as_moment(datetime(2024, 3, 10), NEW_YORK): "2024-03-10"}),
        ("placed::timestamptz", {as_moment(local, NEW_YORK): "2024-03-10" for local in LOCALS[3:6]}),
    ):
        query = f"SELECT {columns.format(at=at)} FROM (VALUES {values}) AS v(kettle_id, placed)"
        for time_column in (None, "placed"):
            problem = local_problem(toy, tmp_path, database=postgres.uri, query=query, time_column=time_column)
            assert extracted(problem, DAYS[1], DAYS[1]) == wanted


@pytest.mark.parametrize(
    "made",
    [
        "placed",
        "placed::DATE",
        "placed::TIMESTAMPTZ",
        "placed::VARCHAR",
        "coalesce(placed, TIMESTAMPTZ '2024-01-01 00:00+00')",
    ],
)
def test_what_the_sql_makes_of_a_local_time_is_of_the_same_zone(toy: ToyProblem, tmp_path: Path, made: str) -> None:
    source = write(tmp_path / "k.parquet", [LOCALS[3], LOCALS[5]])
    problem = local_problem(toy, tmp_path, events=EVENTS.replace("placed AS", f"{made} AS"), **source)
    found = extracted(problem, DAYS[0], DAYS[2])
    assert set(found.values()) == {"2024-03-10"}
    wanted = {as_moment(local, NEW_YORK) for local in (LOCALS[3], LOCALS[5])}
    assert set(found) == ({as_moment(datetime(2024, 3, 10), NEW_YORK)} if "DATE" in made else wanted)


def test_a_time_with_a_zone_keeps_its_moment_and_the_default_problem_its_own(toy: ToyProblem, tmp_path: Path) -> None:
    source = write(tmp_path / "k.csv", ["2024-03-10T02:30:00Z", "2024-03-10T02:30:00+05:45"])
    problem = local_problem(toy, tmp_path, columns=DECLARED, **source)
    assert extracted(problem, DAYS[0], DAYS[2]) == {
        datetime(2024, 3, 10, 2, 30, tzinfo=UTC): "2024-03-09",
        datetime(2024, 3, 9, 20, 45, tzinfo=UTC): "2024-03-09",
    }


def test_described_and_opened_sources_agree_on_local_times(toy: ToyProblem, tmp_path: Path) -> None:
    for name, kind in (("k.csv", "TIMESTAMP"), ("k.parquet", "TIMESTAMP"), ("k.avro", "TIMESTAMP")):
        problem = local_problem(toy, tmp_path, **write(tmp_path / name, LOCALS))
        with described(problem) as database, opened(problem, "2024-03-09", "2024-03-09") as sources:
            for one in (database, sources.database):
                assert (
                    dict(one.sql("SELECT column_name, column_type FROM (DESCRIBE kettles)").fetchall())["placed"]
                    == kind
                )
