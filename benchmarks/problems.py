"""Hundreds of problems on one embedded Airflow: how soon their DAGs are there, what that costs, and how they run.

    python -m benchmarks.problems [--problems 200] [--played 50] [--partitions 2] [--write]

Made-up problems of five DAGs each, by ten teams, in two folders. Measured are: the time from a start until Airflow has
all DAGs, and how long each file's parse took; the memory of each service; the time until a changed, a new and a
removed problem are seen, and which other files were parsed for it; the time of the pages that list them. Then
`--played` of them are trained in this process, and so many partitions of each go through ingest and score: errors are
counted. In the end one problem trains for long, and another's ingest, score and training are timed beside it.

Tables and models lie in a folder. `--write` makes docs/measurements/problems.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sqlite3
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.loop.usage import Memory, Usage
from pipelines import local_run
from pipelines.cli.airflow_client import AirflowClient
from pipelines.embedded import Embedded, orchestrator
from pipelines.problem import ROOT

KINDS = ("ingest", "train", "score", "monitor", "release")
ROWS, HISTORY, DAYS, TEAMS = 60, 20, 90, 10
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
PATIENCE_S = 600.0
VISITS = 5
LONG, SHORT = 40_000, 10  # trees
PROBLEM: dict[str, Any] = {
    "description": "Will the kettle boil over?",
    "owner": "kitchen",
    "key": "kettle_id",
    "partitions": {"every": "day", "first": "2024-01-01", "last": "2024-03-30"},
    "sources": {"kettles": {"path": "kettles.parquet", "time_column": "filled"}},
    "columns": {
        "litres": {"type": "float", "available": "cutoff"},
        "watts": {"type": "float", "available": "cutoff"},
        "shelf": {"type": "string", "available": "cutoff"},
    },
    "features": {
        "columns": ["litres", "watts", "shelf"],
        "history": {"shelf_rate_7d": {"by": ["shelf"], "function": "mean", "window_days": 7}},
    },
    "labels": {"delay_days": 1},
    "training": {
        "threads": 1,
        "baselines": ["prior"],
        "candidates": {
            "prior": {"model": "prior"},
            "xgboost": {"model": "xgboost", "parameters": {"n_estimators": SHORT, "max_depth": 3}},
        },
    },
    "gate": {
        "limits": {"auc": {"min": 0.4}},
        "gain_over_baselines": {"auc": -0.5, "log_loss": -9},
        "gain_over_champion": {"auc": -0.6, "log_loss": -9},
        "max_champion_fall": None,
        "max_forgotten": 1,
        "max_prediction_shift": None,
        "min_rows": 30,
    },
    "validation": {"shape": None},
    "monitoring": {"report_rows": None},
    "release": {"path": ["canary", "full"]},
}
REST_S = 60.0
PAGE = """# Hundreds of problems

`{command}`: made-up problems of five
DAGs each in two folders, on one embedded Airflow. `parsed`: seconds from the start until Airflow has parsed and stored
all DAGs. {machine}, {day}.

```text
{lines}
```
"""
QUERIES = {
    "events.sql": "SELECT kettle_id, filled AS event_time, litres, watts, shelf FROM kettles",
    "labels.sql": "SELECT kettle_id, filled AS event_time, filled AS known_time, label FROM kettles",
}


class World:
    """The folders of the problems; the first half of them lies in the first."""

    def __init__(self, root: Path, count: int) -> None:
        self.names = [f"kettle_{number:03}" for number in range(count)]
        self.folders = [root / "problems" / "one", root / "problems" / "two"]
        self._rows = root / "kettles.parquet"
        pq.write_table(kettles(), self._rows)
        for number, name in enumerate(self.names):
            self.write(name, f"team_{number % TEAMS}")

    def folder(self, name: str) -> Path:
        is_first = self.names.index(name) < len(self.names) / 2 if name in self.names else True
        return self.folders[0 if is_first else 1] / name

    def write(self, name: str, owner: str, trees: int = SHORT) -> None:
        folder = self.folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        settings = {**PROBLEM, "owner": owner, "tags": [owner]}
        settings["training"] = yaml.safe_load(yaml.safe_dump(settings["training"]))
        settings["training"]["candidates"]["xgboost"]["parameters"]["n_estimators"] = trees
        for file, text in QUERIES.items():
            (folder / file).write_text(text)
        if not (folder / "kettles.parquet").exists():
            shutil.copy(self._rows, folder)
        (folder / "problem.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


def kettles() -> pa.Table:
    """DAYS days of ROWS rows each, from FIRST on."""
    random, count = np.random.default_rng(7), DAYS * ROWS
    litres, watts, shelf = random.normal(size=count), random.normal(size=count), random.choice(["top", "low"], count)
    boils = litres + watts**2 + 2 * (shelf == "top") + random.normal(size=count) > 2
    filled = [FIRST + timedelta(days=row // ROWS, minutes=row % ROWS) for row in range(count)]
    return pa.table(
        {
            "kettle_id": [f"k{row}" for row in range(count)],
            "filled": pa.array(filled, pa.timestamp("us", "UTC")),
            "litres": litres,
            "watts": watts,
            "shelf": shelf,
            "label": boils.astype(np.int8),
        }
    )


def key(day: int) -> str:
    return (FIRST + timedelta(days=day)).date().isoformat()


class Database:
    """Airflow's database, read beside Airflow."""

    def __init__(self, home: Path) -> None:
        self._path = orchestrator.database(home)

    def rows(self, query: str, *values: Any) -> list[Any]:
        if not self._path.exists():
            return []
        try:
            with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=30)) as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.OperationalError:  # no tables yet
            return []

    def parsed(self) -> dict[str, str]:
        """When each DAG that is there was parsed last."""
        return dict(self.rows("SELECT dag_id, last_parsed_time FROM dag WHERE NOT is_stale"))

    def serialized(self) -> set[str]:
        return {dag_id for (dag_id,) in self.rows("SELECT DISTINCT dag_id FROM serialized_dag")}


def waited(is_so: Callable[[], bool], patience_s: float = PATIENCE_S, every_s: float = 0.2) -> float:
    """Seconds until it is so.

    Raises:
        TimeoutError: it has not become so.
    """
    began = time.monotonic()
    while not is_so():
        if time.monotonic() - began > patience_s:
            raise TimeoutError(f"not within {patience_s:.0f} s")
        time.sleep(every_s)
    return time.monotonic() - began


class Start(NamedTuple):
    """Seconds since the start: `healthy`, and `parsed`, when all DAGs were; `cpu`: of all services until then."""

    healthy: float
    parsed: float
    cpu: float
    processor_cpu: float
    peak_mib: float

    def __str__(self) -> str:
        return (
            f"healthy after {self.healthy:.0f} s, all DAGs parsed after {self.parsed:.0f} s; {self.cpu:.0f} CPU s, of "
            f"which the DAG processor {self.processor_cpu:.0f}; {self.peak_mib:,.0f} MiB at most"
        )


class Seen(NamedTuple):
    """Seconds until a change was seen, and how many DAGs of other problems were parsed for it."""

    seconds: float
    others: int


@contextmanager
def started(home: Path, expected: set[str], database: Database) -> Iterator[tuple[Embedded, Start]]:
    began, moment = time.monotonic(), datetime.now(UTC).replace(tzinfo=None).isoformat(sep=" ")
    with Embedded(home) as services, Memory().watched() as memory:
        services.start(lambda line: None)
        healthy = time.monotonic() - began
        fresh: dict[str, str] = {}

        def all_there() -> bool:
            nonlocal fresh
            fresh = {dag_id: at for dag_id, at in database.parsed().items() if at >= moment}
            return expected <= set(fresh) and expected <= database.serialized()

        waited(all_there)
        used = Usage.now().seconds
        parsed = time.monotonic() - began
        yield (
            services,
            Start(healthy, parsed, sum(used.values()), used.get("airflow_dag_processor", 0.0), memory.peak),
        )


def seen(database: Database, problem: str, change: Callable[[], None], is_seen: Callable[[], bool]) -> Seen:
    before = database.parsed()
    change()
    seconds = waited(is_seen, every_s=0.1)
    time.sleep(12)  # others that would be parsed for it are
    after = database.parsed()
    others = sum(after.get(dag_id) != at for dag_id, at in before.items() if not dag_id.startswith(f"{problem}."))
    return Seen(seconds, others)


def visits(client: AirflowClient) -> dict[str, float]:
    """Milliseconds of a page, the median of VISITS."""
    client.dag_ids()  # logs in
    http = httpx.Client(base_url=client.url, timeout=60, trust_env=False, headers=dict(client._http.headers))
    http.cookies.set("_token", client._http.headers["Authorization"].removeprefix("Bearer "))
    pages = {
        "the list of DAGs, 50 of them": "/ui/dags?limit=50&dag_runs_limit=14",
        "the list of DAGs, of a tag": "/ui/dags?limit=50&dag_runs_limit=14&tags=team_3",
        "all DAGs by REST, 100 at a time": "/api/v2/dags?limit=100",
        "Health": "/evergreen/health",
    }
    taken = {}
    for name, path in pages.items():
        times = []
        for _ in range(VISITS):
            began = time.monotonic()
            answer = http.get(path)
            answer.raise_for_status()
            times.append(1000 * (time.monotonic() - began))
        taken[name] = statistics.median(times)
    return taken


class Played(NamedTuple):
    """Runs by DAG kind and state, tasks by state, seconds and CPU seconds of all of it."""

    runs: Counter[tuple[str, str]]
    tasks: Counter[str]
    seconds: float
    cpu: float
    peak_mib: float

    def __str__(self) -> str:
        runs = ", ".join(f"{kind} {state} {count}" for (kind, state), count in sorted(self.runs.items()))
        tasks = ", ".join(f"{state} {count}" for state, count in sorted(self.tasks.items()))
        used = f"{self.seconds:.0f} s, {self.cpu:.0f} CPU s, {self.peak_mib:,.0f} MiB at most"
        return f"runs: {runs}; tasks: {tasks}; {used}"


def train_here(names: Sequence[str]) -> None:
    """History and a first model of each, in this process."""
    for name in names:
        local_run.ingest(name, key(0), key(HISTORY - 1))
        local_run.train(name, key(HISTORY - 1))


def play(client: AirflowClient, database: Database, names: Sequence[str], partitions: int) -> Played:
    for name in names:
        for kind in ("score", "ingest"):
            client.unpause(f"{name}.{kind}")
    began, before = time.monotonic(), Usage.now()
    keys = [key(HISTORY + day) for day in range(partitions)]
    with Memory().watched() as memory:
        for at in keys:
            for name in names:
                client.trigger(f"{name}.ingest", f"played__{at}", partition=at)
        wanted = len(names) * partitions
        of_tasks = "SELECT state FROM task_instance WHERE dag_id LIKE '%.ingest' OR dag_id LIKE '%.score'"
        query = (
            "SELECT dag_id, state FROM dag_run WHERE partition_key IN (%s)" % ",".join("?" * len(keys))  # noqa: UP031
        )

        def is_over() -> bool:
            states = database.rows(query, *keys)
            of_score = [state for dag_id, state in states if dag_id.endswith(".score")]
            failed = sum(state == "failed" for dag_id, state in states if dag_id.endswith(".ingest"))
            is_done = all(state in ("success", "failed") for _, state in states)
            return is_done and len(of_score) + failed >= wanted

        waited(is_over, patience_s=60 + 60 * wanted, every_s=1.0)
        used = sum(Usage.now().since(before).values())
        runs = Counter((dag_id.rpartition(".")[2], str(state)) for dag_id, state in database.rows(query, *keys))
        tasks = Counter(str(state) for (state,) in database.rows(of_tasks))
        return Played(runs, tasks, time.monotonic() - began, used, memory.peak)


def beside(client: AirflowClient, database: Database, world: World, names: Sequence[str]) -> str:
    """When one problem was ingested, scored and trained, begun while another trains for long."""
    slow, quick = names[0], names[1]
    world.write(slow, "team_0", trees=LONG)
    for dag_id in (f"{slow}.train", f"{quick}.train", f"{quick}.score", f"{quick}.ingest"):
        client.unpause(dag_id)
    client.trigger(f"{slow}.train", "long")
    training = "SELECT 1 FROM task_instance WHERE dag_id = ? AND task_id = 'train' AND state = 'running'"
    waited(lambda: bool(database.rows(training, f"{slow}.train")))
    began, at = time.monotonic(), key(HISTORY + 60)
    client.trigger(f"{quick}.ingest", "beside", partition=at)
    client.trigger(f"{quick}.train", "beside")

    def has_run(kind: str) -> bool:
        query = "SELECT 1 FROM dag_run WHERE dag_id = ? AND partition_key = ? AND state IN ('success', 'failed')"
        return bool(database.rows(query, f"{quick}.{kind}", at))

    def is_trained() -> bool:
        """All candidates are fitted; what the gate says of them does not matter here."""
        query = "SELECT 1 FROM task_instance WHERE dag_id = ? AND task_id = 'evaluate' AND state = 'success'"
        return bool(database.rows(query, f"{quick}.train"))

    taken = []
    for what, is_over in (
        ("ingested", lambda: has_run("ingest")),
        ("scored", lambda: has_run("score")),
        ("trained", is_trained),
    ):
        waited(is_over)
        taken.append(f"{what} after {time.monotonic() - began:.0f} s")
    state = client.runs(f"{slow}.train")[-1]["state"]
    world.write(slow, "team_0")
    return f"{', '.join(taken)}; the long one is then {state}"


class Report:
    """What was measured, line by line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, line: str) -> None:
        print(line, flush=True)
        self.lines.append(line)

    def page(self, command: str) -> str:
        day = f"{datetime.now(UTC):%Y-%m-%d}"
        return PAGE.format(command=command, machine=machine(), day=day, lines="\n".join(self.lines))


def machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def shares(amounts: Mapping[str, float], form: str) -> str:
    largest = sorted(amounts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name.removeprefix('airflow_')} {amount:{form}}" for name, amount in largest)


def memory_held() -> str:
    held = Memory.now()
    return f"{sum(held.values()):,.0f} MiB: {shares(held, ',.0f')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--played", type=int, default=50)
    parser.add_argument("--partitions", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write docs/measurements/problems.md")
    arguments = parser.parse_args()
    if arguments.played < 2:
        parser.error("--played: at least 2, of which one trains for long and another runs beside it")
    report = Report()
    with TemporaryDirectory() as scratch:
        root = Path(scratch)
        world = World(root, arguments.problems)
        os.environ |= {
            "EVERGREEN_PROBLEMS": os.pathsep.join(str(folder) for folder in world.folders),
            "EVERGREEN_STORE_URI": (root / "store").as_uri(),
        }
        measure(report, root / "home", world, arguments.played, arguments.partitions)
    if arguments.write:
        asked = f"--problems {arguments.problems} --played {arguments.played} --partitions {arguments.partitions}"
        command = f"python -m benchmarks.problems {asked} --write"
        (ROOT / "docs" / "measurements" / "problems.md").write_text(report.page(command))


def measure(report: Report, home: Path, world: World, played: int, partitions: int) -> None:
    database = Database(home)
    expected = {f"{name}.{kind}" for name in world.names for kind in KINDS}
    report.tell(f"{len(world.names)} problems, {len(expected):,} DAGs; load {os.getloadavg()[0]:.1f}")
    with started(home, expected, database) as (_, start):
        report.tell(f"first start:  {start}")
    with started(home, expected, database) as (services, start):
        report.tell(f"second start: {start}")
        os.environ.update(services.environment())
        client = AirflowClient()
        durations = [seconds for (seconds,) in database.rows("SELECT last_parse_duration FROM dag")]
        longest = max(durations)
        report.tell(f"a file is parsed in {statistics.median(durations):.2f} s (median), {longest:.2f} s at most")
        report.tell(f"import errors: {len(client.import_errors())}")
        seen_changes(report, world, database)
        for name, taken in visits(client).items():
            report.tell(f"{name}: {taken:.0f} ms")
        before = Usage.now()
        time.sleep(REST_S)
        used = {name: seconds / REST_S for name, seconds in Usage.now().since(before).items()}
        report.tell(f"memory at rest: {memory_held()}")
        report.tell(f"cores at rest: {sum(used.values()):.3f}: {shares(used, '.3f')}")
        if played:
            names = world.names[:played]
            train_here(names)
            report.tell(f"beside a long training: {beside(client, database, world, names)}")
            report.tell(f"{played} problems, {partitions} partitions: {play(client, database, names, partitions)}")
            report.tell(f"memory then: {memory_held()}")


def seen_changes(report: Report, world: World, database: Database) -> None:
    name, new = world.names[-1], "new_kettle"

    def has_new_owner() -> bool:
        owners = database.rows("SELECT owners FROM dag WHERE dag_id = ?", f"{name}.train")
        return owners == [("somebody_else",)]

    changes: list[tuple[str, str, Callable[[], None], Callable[[], bool]]] = [
        ("a changed problem.yaml", name, lambda: world.write(name, "somebody_else"), has_new_owner),
        ("a new problem", new, lambda: world.write(new, "kitchen"), lambda: f"{new}.train" in database.parsed()),
        (
            "a removed problem",
            new,
            lambda: shutil.rmtree(world.folder(new)),
            lambda: f"{new}.train" not in database.parsed(),
        ),
    ]
    for what, problem, change, is_seen in changes:
        found = seen(database, problem, change, is_seen)
        report.tell(
            f"{what} is seen after {found.seconds:.1f} s; DAGs of others that were parsed for it: {found.others}"
        )


if __name__ == "__main__":
    main()
