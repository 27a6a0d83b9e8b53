"""A stretch of the default problem's year: its sources, its config, and the states of its chain, kept and copied.

A state is a folder: the problem, its store, MLflow's database and files. It always runs at the same path, as MLflow
keeps absolute ones, and is kept under another; what never changes in place (Parquet and Arrow files) is linked.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import yaml

from pipelines.problem import load_problem

PROBLEM = "flight_delay"
FIRST_MONDAY = date(2012, 12, 31)
HISTORY_WEEKS, NEW_WEEKS, LATER_WEEKS = 10, 3, 2
LAST_START = 52 - HISTORY_WEEKS - NEW_WEEKS - LATER_WEEKS  # the year's 52 whole weeks
TABLES = ("flights", "weather", "planes")

HERE = Path(__file__).parent / "problem"


@dataclass(frozen=True)
class Stretch:
    """`start` counts weeks from the year's first; `seed` is of the training, the resamples and the faults."""

    seed: int
    start: int

    def week(self, number: int) -> str:
        return (FIRST_MONDAY + timedelta(weeks=self.start + number)).isoformat()

    @property
    def history(self) -> tuple[str, str]:
        return self.week(0), self.week(HISTORY_WEEKS - 1)

    @property
    def new(self) -> tuple[str, str]:
        return self.week(HISTORY_WEEKS), self.week(HISTORY_WEEKS + NEW_WEEKS - 1)

    @property
    def later(self) -> tuple[str, str]:
        first = HISTORY_WEEKS + NEW_WEEKS
        return self.week(first), self.week(first + LATER_WEEKS - 1)


def settings() -> dict[str, Any]:
    """What the gauntlet's problem.yaml holds."""
    raw: dict[str, Any] = yaml.safe_load((HERE / "problem.yaml").read_text())
    return raw


def read_sources(folder: Path) -> None:
    """The package's tables as Parquet files, once for all stretches; and an MLflow database without a run."""
    from pipelines.ingest.sources import opened

    folder.mkdir(parents=True, exist_ok=True)
    with opened(load_problem(PROBLEM), "2012-12-31", "2013-12-30") as sources:
        for name in TABLES:
            sources.database.execute(f"COPY (FROM {name}) TO '{folder / name}.parquet'")


def empty_mlflow(database: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(f"sqlite:///{database}", (database.parent / "unused").as_uri())


def raise_world(run: Path, sources: Path, stretch: Stretch) -> None:
    """The problem of a stretch with all its weeks, and nothing ingested yet."""
    folder = run / "problems" / PROBLEM
    folder.mkdir(parents=True)
    for name in ("events.sql", "labels.sql"):
        shutil.copyfile(HERE / name, folder / name)
    raw = settings()
    raw["training"]["seed"] = raw["evaluation"]["bootstrap"]["seed"] = stretch.seed
    (folder / "problem.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    first, last = FIRST_MONDAY + timedelta(weeks=stretch.start), stretch.later[1]
    inside = f"make_date(year, month, day) BETWEEN '{first}' AND DATE '{last}' + 6"
    for name in TABLES:
        text = f"FROM '{sources / name}.parquet'" + (f" WHERE {inside}" if name != "planes" else "")
        duckdb.execute(f"COPY ({text}) TO '{folder / name}.parquet'")
    shutil.copyfile(sources / "mlflow.db", run / "mlflow.db")
    write_pins(run, {})


@contextmanager
def editing(run: Path, stretch: Stretch) -> Iterator[duckdb.DuckDBPyConnection]:
    """The sources as DuckDB tables that may be changed; `is_new` marks the rows of the new weeks."""
    folder = run / "problems" / PROBLEM
    begin, end = stretch.new[0], stretch.later[0]
    with duckdb.connect() as database:
        database.execute("SET threads = 1; SET TimeZone = 'UTC'")
        for name in TABLES[:2]:
            is_new = f"make_date(year, month, day) BETWEEN '{begin}' AND DATE '{end}' - 1"
            marked = f"SELECT row_number() OVER () AS row, {is_new} AS is_new, * FROM '{folder / name}.parquet'"
            database.execute(f"CREATE TABLE {name} AS {marked}")
        yield database
        for name in TABLES[:2]:
            path = folder / f"{name}.parquet"
            path.unlink()  # it may be linked
            database.execute(f"COPY (SELECT * EXCLUDE (row, is_new) FROM {name} ORDER BY row) TO '{path}'")


def configure(run: Path, change: Any) -> None:
    """Change problem.yaml: `change` is given what it holds."""
    path = run / "problems" / PROBLEM / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    change(raw)
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


def copy_state(source: Path, target: Path) -> None:
    def place(one: str, other: str) -> None:
        if one.endswith((".parquet", ".arrow")):
            os.link(one, other)
        else:
            shutil.copyfile(one, other)

    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target, copy_function=place)


def enter(run: Path) -> None:
    """Work in the state at `run`: for a process of its own."""
    os.environ |= {
        "EVERGREEN_PROBLEMS": str(run / "problems"),
        "EVERGREEN_STORE_URI": (run / "store").as_uri(),
        "MLFLOW_TRACKING_URI": f"sqlite:///{run}/mlflow.db",
    }
    os.chdir(run)  # MLflow keeps its files below


def pins(run: Path) -> dict[str, Any]:
    """What the stages so far have given, by stage."""
    found: dict[str, Any] = json.loads((run / "pins.json").read_text())
    return found


def write_pins(run: Path, found: dict[str, Any]) -> None:
    (run / "pins.json").write_text(json.dumps(found))
