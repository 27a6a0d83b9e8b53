"""What a visit of the Health page costs: first byte, and requests to the store.

    python -m benchmarks.health [--problems 50] [--partitions 500] [--visits 20]

A made-up ledger of so many partitions for each problem, with tables for the first of them, and Airflow's database with
its runs. How each stands is derived and kept as after a run; then the page is visited through a server on loopback. A
proxy counts what the store is asked for; the store is the embedded one, started alone in EVERGREEN_HOME. `cold` is the
first visit of a server that has just started. Printed are milliseconds to the first byte, the median and the slowest,
and the CPU's of a visit.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from benchmarks.requests import Requests, counted, embedded_store
from pipelines import ledger, store
from pipelines.artifacts import TableName, table_schema
from pipelines.handoffs.ingestion import Reach, Reading, most_readings
from pipelines.health.kept import keep
from pipelines.monitoring.detect.detection import ColumnDrift, Drift, LabelledPartition, Level
from pipelines.problem import Problem, parse_problem

COLUMNS = 20
EVERY_TRAINING = 60  # partitions
DAGS = ("ingest", "train", "score", "monitor", "release")
SOURCES = {f"source_{number}": {"path": f"{number}.csv", "time_column": "at"} for number in range(5)}
START = datetime(2026, 1, 1, tzinfo=UTC)
PROBLEM: dict[str, Any] = {
    "description": "Will the kettle boil over?",
    "owner": "kitchen",
    "key": "kettle_id",
    "partitions": {"every": "day", "first": "2024-01-01"},
    "sources": {"kettles": {"path": "kettles.parquet"}},
    "columns": {f"reading_{number:02}": {"type": "float", "available": "cutoff"} for number in range(COLUMNS)},
    "features": {"columns": [f"reading_{number:02}" for number in range(COLUMNS)]},
    "training": {"candidates": {"prior": {"model": "prior"}, "xgboost": {"model": "xgboost"}}, "baselines": ["prior"]},
    "gate": {
        "limits": {"auc": {"min": 0.6}},
        "gain_over_baselines": {"auc": 0.0},
        "gain_over_champion": {"auc": 0.0},
    },
}


def reach(problem: Problem, partitions: int) -> dict[str, Reach]:
    """What ingests of the newest partitions have read of each source."""
    keys = [problem.partitions.shift(problem.partitions.first_key, place) for place in range(partitions)]
    ends = [(key, problem.partitions.end(key)) for key in keys[-most_readings("day") :]]
    readings = [Reading(key, end, end - timedelta(minutes=place)) for place, (key, end) in enumerate(ends)]
    return dict.fromkeys(problem.sources, Reach("at", readings, ends[-1][1]))


class Visit(NamedTuple):
    """`first_byte`: milliseconds. `cpu`: those of server and client. `requests`: to the store."""

    first_byte: float
    cpu: float
    bytes: int
    requests: int


def filled(problem: Problem, partitions: int, *, with_tables: bool = True) -> None:
    """A ledger of so many partitions, and the tables that go with it: what labels say comes a partition later."""
    parts = problem.partitions
    keys = parts.between(parts.first_key, parts.shift(parts.first_key, partitions - 1))
    ledger.record_all(problem, _entries(tuple(keys), tuple(problem.features.columns)))
    if with_tables:
        _fill(problem, "events", keys)
        _fill(problem, "predictions", keys)
        _fill(problem, "estimates", keys[-1:], metric="auc", value=0.7, low=0.6, high=0.8, model_version="1")


@cache
def _entries(keys: tuple[str, ...], columns: tuple[str, ...]) -> list[ledger.Entry]:
    random = np.random.default_rng(7)
    return [entry for place in range(len(keys)) for entry in _of_partition(keys, columns, place, random)]


def _of_partition(
    keys: Sequence[str], columns: Sequence[str], place: int, random: np.random.Generator
) -> Iterator[ledger.Entry]:
    key, version = keys[place], str(1 + place // EVERY_TRAINING)
    if place % EVERY_TRAINING == 0:
        yield _entry("gate", f"gate:{key}-0123abcd", key, "passed", "register", None)
        yield _entry("promotion", f"promotion:{key}", key, "passed its gate", "promoted", version)
    if place % EVERY_TRAINING == EVERY_TRAINING // 2:
        yield _entry("gate", f"gate:{key}-0123abcd", key, "failed", "keep champion", None)
    if place == 0:
        return
    drifts = {name: _column(random) for name in columns}
    detected = Drift(rows=1000, columns=drifts, prediction=None, same_as=None)
    auc = 0.7 + 0.05 * float(np.sin(place / 9)) + 0.01 * float(random.normal())
    realised = LabelledPartition(partition=keys[place - 1], version=version, rows=900, auc=auc)
    evidence = {"detected": detected.model_dump(mode="json"), "realised": [realised.model_dump(mode="json")]}
    action = "alert" if place % 7 == 0 else "none"
    verdict = "covariate shift" if place % 7 == 0 else "stable"
    yield _entry("monitoring", f"monitoring:{key}", key, verdict, action, version, evidence)


def _column(random: np.random.Generator) -> ColumnDrift:
    step = float(random.exponential(0.03))
    level = Level(far=step * 2, far_level=0.2, step=step, step_level=0.1)
    return ColumnDrift(psi=step * 3, js=step, mean=1.0, std=1.0, levels={"js": level, "wasserstein": level})


def _entry(
    kind: str,
    decision: str,
    key: str,
    verdict: str,
    action: str,
    version: str | None,
    evidence: dict[str, Any] | None = None,
) -> ledger.Entry:
    return {
        "decision": decision,
        "kind": kind,
        "partition": key,
        "verdict": verdict,
        "action": action,
        "reason": f"{verdict}: as of {key}, 3 of the last 8 labelled partitions are off",
        "model_version": version,
        "evidence": evidence or {},
    }


def _fill(problem: Problem, name: TableName, keys: Sequence[str], **values: Any) -> None:
    """A row of each partition, with `values` where they are named and any where they are not."""
    schema = table_schema(problem, name)
    rows = []
    for key in keys:
        moment = problem.partitions.start(key)
        of_key = {"partition": key, problem.key: f"row of {key}", **values}
        rows.append({field.name: of_key.get(field.name, _any(field, moment)) for field in schema})
    store.write_table(problem, name, pa.Table.from_pylist(rows, schema), keys)


def _any(field: pa.Field, moment: datetime) -> Any:
    if field.nullable:
        return None
    if pa.types.is_timestamp(field.type):
        return moment
    return "any" if pa.types.is_string(field.type) else 1


@contextmanager
def served(engine: Any) -> Iterator[int]:
    """The app that Airflow's api-server mounts, on a port of its own, for a user who may read everything."""
    import uvicorn
    from airflow.api_fastapi.app import create_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.common.db.common import _get_session
    from airflow.api_fastapi.core_api.security import get_user
    from sqlalchemy.orm import Session

    from include.evidence_app import app

    def own_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    create_auth_manager()
    app.dependency_overrides = {
        _get_session: own_session,
        get_user: lambda: SimpleAuthManagerUser(username="ada", role="ADMIN"),
    }
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        app.dependency_overrides = {}


def airflow_database(file: Path, problems: Sequence[str], partitions: int) -> Any:
    """An engine of a database with the DAGs of problems, and a run of each for each partition; the newest goes on."""
    from airflow.models import import_all_models
    from airflow.models.base import Base
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from sqlalchemy import create_engine, insert
    from sqlalchemy.orm import Session

    engine = create_engine(f"sqlite:///{file}", connect_args={"check_same_thread": False})
    import_all_models()
    Base.metadata.create_all(engine)
    ids = [f"{problem}.{dag}" for problem in problems for dag in DAGS]
    with Session(engine) as session:
        session.add(DagBundleModel(name="evergreen"))
        session.flush()
        session.add_all(
            [DagModel(dag_id=dag_id, bundle_name="evergreen", is_stale=False, is_paused=False) for dag_id in ids]
        )
        session.flush()
        session.execute(insert(DagRun), [run for dag_id in ids for run in _runs(dag_id, partitions)])
        session.commit()
    return engine


def _runs(dag_id: str, partitions: int) -> Iterator[dict[str, Any]]:
    for place in range(partitions):
        key = f"{datetime(2024, 1, 1) + timedelta(days=place):%Y-%m-%d}"
        yield {
            "dag_id": dag_id,
            "run_id": f"asset_triggered__{key}",
            "run_type": "asset_triggered",
            "partition_key": key,
            "_state": "running" if place == partitions - 1 and dag_id.endswith("train") else "success",
            "run_after": START + timedelta(minutes=place),
            "start_date": START + timedelta(minutes=place),
        }


def visit(port: int, path: str, requests: Requests) -> Visit:
    before = len(requests.seen())
    connection = http.client.HTTPConnection("127.0.0.1", port)
    start, cpu = time.perf_counter(), time.process_time()
    connection.request("GET", path)
    answer = connection.getresponse()
    first_byte = (time.perf_counter() - start) * 1000
    content = answer.read()
    connection.close()
    cpu = (time.process_time() - cpu) * 1000
    assert answer.status == 200, content
    return Visit(first_byte, cpu, len(content), len(requests.seen()) - before)


def in_words(name: str, visits: Sequence[Visit]) -> str:
    times = [visit.first_byte for visit in visits]
    cpu = statistics.median(visit.cpu for visit in visits)
    requests, size = max(visit.requests for visit in visits), max(visit.bytes for visit in visits)
    return (
        f"{name}: first byte {statistics.median(times):.0f} ms, slowest {max(times):.0f} ms; {cpu:.0f} CPU ms; "
        f"{requests} requests to the store; {size / 1000:,.0f} kB"
    )


def measure(problems: int, partitions: int, visits: int, folder: Path) -> None:
    names = [f"kettle_{number:02}" for number in range(problems)]
    engine = airflow_database(folder / "airflow.db", names, partitions)
    with counted(os.environ["AWS_ENDPOINT_URL"]) as requests:
        os.environ["AWS_ENDPOINT_URL"] = requests.endpoint
        seconds = []
        for place, name in enumerate(names):
            problem_folder = folder / name
            problem_folder.mkdir()
            problem = parse_problem(PROBLEM | {"sources": SOURCES}, problem_folder)
            filled(problem, partitions, with_tables=place == 0)
            read = reach(problem, partitions)
            start = time.process_time()
            keep(problem, read)
            seconds.append(time.process_time() - start)
        start = time.process_time()
        keep(problem)  # it finds what it has kept before
        again = time.process_time() - start
        print(
            f"{problems} problems x {partitions} partitions: how one stands is derived anew in "
            f"{statistics.median(seconds):.2f} CPU s, after one more run in {again:.2f}"
        )
        with served(engine) as port:
            print(in_words("overview, cold", [visit(port, "/health", requests)]))
            print(in_words("overview", [visit(port, "/health", requests) for _ in range(visits)]))
            path = f"/health/{names[0]}"
            print(in_words("problem's page, cold", [visit(port, path, requests)]))
            for window in (26, 520):
                made = [visit(port, f"{path}?window={window}", requests) for _ in range(visits)]
                print(in_words(f"problem's page, {window} partitions drawn", made))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=50)
    parser.add_argument("--partitions", type=int, default=500)
    parser.add_argument("--visits", type=int, default=20)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="evergreen-health-") as name, embedded_store() as variables:
        os.environ |= variables
        measure(chosen.problems, chosen.partitions, chosen.visits, Path(name))


if __name__ == "__main__":
    main()
