"""The data plane end to end, from Parquet sources to a table of features: Evergreen against SQL written by hand.

    python -m benchmarks.etl [rows]

The default problem's flights, repeated with jitter, a few of them bad. Ours: the stages of ingest, and the features of
every event. The reference is DuckDB alone and knows what the stages may not: the types, that nothing is ever
corrected, that many flights share a cut-off. It keeps the same rules and writes the same four tables as Parquet files.
Each runs in a process of its own (ours in one for each task, as Airflow runs them), with 2 threads and, for
DuckDB, 1 GB (ours: pipelines.sql.MEMORY_LIMIT); CPU seconds are of all threads, the peak that of the largest process.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import yaml

from benchmarks.arguments import one_number
from benchmarks.etl_reference import reference
from pipelines.ingest.sources import opened
from pipelines.problem import ROOT, load_problem

PROBLEM = "flight_delay"
YEAR = ("2012-12-31", "2013-12-30")
BOUNDS = {"memory_limit": "1GB", "threads": 2}


def make_sources(folder: Path, rows: int) -> None:
    """Write the year's sources, its flights repeated, and a copy of the problem that reads them."""
    problem = load_problem(PROBLEM)
    with opened(problem, *YEAR) as sources:
        database = sources.database
        (year,) = database.sql("SELECT count(*) FROM flights").fetchall()[0]
        copies = -(-rows // year)
        # A copy has its own flight numbers, minutes and distances; one row in a thousand is bad, or comes twice.
        database.execute(f"""
            COPY (
                SELECT * EXCLUDE (number, copy, twice) REPLACE (
                    flight + 10000 * copy AS flight,
                    (minute + 7 * copy) % 60 AS minute,
                    hour * 100 + (minute + 7 * copy) % 60 AS sched_dep_time,
                    CASE WHEN hash(number, copy) % 2000 = 0 THEN 9999 ELSE distance + copy % 5 END AS distance)
                FROM (SELECT *, row_number() OVER () AS number FROM flights), range({copies}) AS c(copy),
                    range(1 + CAST(hash(number, copy) % 2000 = 1 AS INTEGER)) AS t(twice)
                WHERE hash(copy, number) % {year * copies} < {rows}
            ) TO '{folder}/flights.parquet' (ROW_GROUP_SIZE 100000);
            COPY planes TO '{folder}/planes.parquet';
            COPY (SELECT * REPLACE (temp + hash(time_hour) % 7 / 10 AS temp) FROM weather) TO '{folder}/weather.parquet'
        """)
    copy = folder / "problems" / PROBLEM
    # The reference is written for its columns and features: it stays as it is when the default problem changes.
    shutil.copytree(ROOT / "benchmarks" / "gauntlet" / "problem", copy)
    raw = yaml.safe_load((copy / "problem.yaml").read_text())
    del raw["validation"]["expectation_rows"]
    raw["validation"]["shape"] = {"accepted": [YEAR[1]]}  # the year's last two days, the second without weather
    raw["sources"] = {name: {"path": f"{folder}/{name}.parquet"} for name in ("flights", "planes", "weather")}
    (copy / "problem.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def ours(folder: Path) -> None:
    """What the DAGs do: ingest the year at once, then compute every event's features; each task is a process."""
    for task in ("extract", "validate", "publish", "features"):
        subprocess.run([sys.executable, "-m", "benchmarks.etl", task, str(folder)], check=True)


def run_task(task: str, folder: Path) -> None:
    """One of them, on what the one before has left."""
    from pipelines import store
    from pipelines.dataset import training_sets
    from pipelines.handoffs.base import to_json
    from pipelines.handoffs.training import Moment
    from pipelines.stages import stage

    handed_on = folder / "handed_on.json"
    given: Any = json.loads(handed_on.read_text()) if handed_on.exists() else {}
    match task:
        case "extract":
            given = stage("ingest.extract")(PROBLEM, *YEAR)
        case "validate":
            given = stage("ingest.validate")(PROBLEM, given)
        case "publish":
            given = stage("ingest.publish")(PROBLEM, given)
        case "features":
            problem = load_problem(PROBLEM)
            pins = Moment(
                as_of=datetime.now(UTC).isoformat(),
                events_version=given["events_version"],
                labels_version=store.table_version(problem, "labels"),
            )
            training_sets.write_features(problem, pins, problem.partitions.between(*YEAR))
    handed_on.write_text(json.dumps(to_json(given)))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"    {task}: {used.ru_utime + used.ru_stime:.1f} CPU s, peak {used.ru_maxrss / 1024:.0f} MB")


def by_hand(folder: Path) -> None:
    reference(folder, BOUNDS)


def _measure(who: str, folder: Path) -> dict[str, float]:
    """Run one side in a process of its own; its CPU seconds, its peak memory in MB."""
    environment = os.environ | {
        "EVERGREEN_PROBLEMS": f"{folder}/problems",
        "EVERGREEN_STORE_URI": f"file://{folder}/store",
        "OMP_NUM_THREADS": str(BOUNDS["threads"]),
    }
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.etl", who, str(folder)], env=environment)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{who} failed")
    found = {"cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / 1024, "wall": time.monotonic() - start}
    print(f"  {who}: {found['cpu']:.1f} CPU s, {found['wall']:.1f} s, peak {found['peak']:.0f} MB")
    return found


def _results(files: dict[str, list[str]], history: list[str]) -> dict[str, Any]:
    """Rows of each table, and the sum and count of each history feature, to nine digits."""
    measures = ", ".join(f"round(sum({name}), 4), count({name})" for name in history)
    with duckdb.connect() as database:
        rows = {name: database.read_parquet(paths).count("*").fetchall()[0][0] for name, paths in files.items()}
        means = database.read_parquet(files["features"]).aggregate(measures).fetchall()[0]
    return rows | {"features": [rows["features"], *means]}


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory(prefix="evergreen-etl-") as name:
        folder = Path(name)
        # In a process of its own: a process starts with the peak memory of the one that made it.
        subprocess.run([sys.executable, "-m", "benchmarks.etl", "sources", str(folder), str(rows)], check=True)
        print(f"{rows:,} flights, sources to features")
        found = {who: _measure(who, folder) for who in ("reference", "ours")}
        settings = yaml.safe_load((folder / "problems" / PROBLEM / "problem.yaml").read_text())
        history = list(settings["features"]["history"])
        tables = ("events", "labels", "quarantine", "features")
        here = _results({one: [f"{folder}/by_hand/{one}/**/*.parquet"] for one in tables}, history)
        there = _results({one: [f"{folder}/store/{PROBLEM}/{one}/**/*.parquet"] for one in tables}, history)
        if here != there:
            raise SystemExit(f"the two differ:\n  reference {json.dumps(here)}\n  ours      {json.dumps(there)}")
        ratio = found["ours"]["cpu"] / found["reference"]["cpu"]
        print(f"ratio of CPU seconds {ratio:.2f}; same rows, same features: {json.dumps(here)}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["sources", folder, rows]:
            make_sources(Path(folder), int(rows))
        case ["ours", folder]:
            ours(Path(folder))
        case ["reference", folder]:
            by_hand(Path(folder))
        case [task, folder]:
            run_task(task, Path(folder))
        case _:
            main(one_number(__doc__, "rows", 10_000_000))
