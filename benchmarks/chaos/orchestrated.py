"""The layer with Airflow: the embedded services play the loop, while their processes are killed."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from pydantic import BaseModel

from benchmarks.chaos import holds, world
from benchmarks.chaos.holds import Breach, State
from benchmarks.chaos.stages import read_rows
from benchmarks.chaos.worker import heard, in_child
from pipelines.cli import replay
from pipelines.cli.airflow_client import AirflowClient, Run
from pipelines.embedded.processes.home import load_environment, read_environment
from pipelines.embedded.processes.supervisor import end, marked
from pipelines.errors import DataError, EvergreenError
from pipelines.problem import Problem, load_problem
from pipelines.stage_names import STAGES

NAME = "pots"
SERVICES = ("object_store", "mlflow", "airflow_api_server", "airflow_dag_processor", "airflow_scheduler")
TARGETS = ("task", "task", "task", "task", *SERVICES, "supervisor", "metadata database")
"""What is killed, in each round once; the database is locked for a while instead."""
BETWEEN_S = (15.0, 45.0)
LOCKED_S = (5.0, 40.0)
PATIENCE_S = 900.0  # a run that has not ended by then hangs
READY_S = 240.0
UP = "Ctrl-C stops everything"  # what `evergreen up` says last


class Strike(BaseModel):
    """What was done to a process while the loop went on."""

    target: str
    during: str
    """Partition, and the stages that ran."""
    seconds: float
    """Since the services were started."""


class Played(BaseModel):
    """What came of the loop through Airflow."""

    seed: int
    seconds: float = 0.0
    strikes: list[Strike] = []
    partitions: list[str] = []
    later: list[str] = []
    """Partitions of what was done afterwards."""
    broken: list[Breach] = []
    restarted: list[str] = []
    """Ends of what `evergreen up` said where it gave up."""
    cleared: list[str] = []
    """Runs that a person had to clear, with what they said."""
    hung: list[str] = []
    scenarios: dict[str, str] = {}
    """What else was done, and how it ended; empty: as it should."""


class Services:
    """The embedded services, started by the command, and started again where that was killed."""

    def __init__(self, keep: Path) -> None:
        self.home = keep / "airflow_home"
        self.problems = keep / "airflow_problems"
        self._log = keep / "up.log"
        self._up: subprocess.Popen[bytes] | None = None
        self.restarted: list[str] = []
        """What `evergreen up` said each time that it gave up; a person started it again."""
        venv = self.home / "object_store" / "venv"
        if not venv.exists():
            venv.parent.mkdir(parents=True, exist_ok=True)
            venv.symlink_to(keep / "home" / "object_store" / "venv")

    def start(self) -> None:
        environment = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_", "AIRFLOW"))
            },
            "EVERGREEN_HOME": str(self.home),
            "EVERGREEN_PROBLEMS": str(self.problems),
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        }
        environment.pop("EVERGREEN_STORE_URI", None)
        with self._log.open("wb") as log:
            command = [sys.executable, "-m", "pipelines.cli.app", "up"]
            self._up = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=world.ROOT)
        self.ready()

    def ready(self) -> None:
        """Return when all are up, and Airflow answers. Where they have given up they are started again.

        Raises:
            RuntimeError: they did not come up in READY_S.
        """
        start = time.monotonic()
        while time.monotonic() - start < READY_S:
            if self._up is not None and self._up.poll() is not None:
                self.restarted.append(self._log.read_text()[-1500:])
                self.start()
                return
            with suppress(EvergreenError, OSError, ValueError):
                if UP in self._log.read_text() and read_environment(self.home):
                    os.environ["EVERGREEN_HOME"] = str(self.home)
                    load_environment(self.home)
                    AirflowClient().dag_ids()
                    return
            time.sleep(1)
        raise RuntimeError(f"the services did not come up: {self._log.read_text()[-2000:]}")

    def kill_supervisor(self) -> None:
        """Kill it alone, and start another, which finds what it has left."""
        assert self._up is not None
        self._up.kill()
        self._up.wait()
        self.start()

    def stop(self) -> None:
        if self._up is not None:
            self._up.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._up.wait(90)
            self._up.kill()
        end(marked(self.home))


def tasks(home: Path) -> list[psutil.Process]:
    """The processes that run a task's code: each is a child of the one that watches it."""
    found = []
    for process in marked(home, "airflow_scheduler"):
        with suppress(psutil.Error):
            if "task" in process.name() or "airflow worker" in " ".join(process.cmdline()):
                found.append(process)
    with_parents = {process.ppid() for process in found}
    return [process for process in found if process.pid not in with_parents]


class Killer:
    """Strikes at random moments, until it is stopped."""

    def __init__(self, services: Services, seed: int, strikes: list[Strike], doing: Callable[[], str]) -> None:
        self._services = services
        self._draws = random.Random(seed)  # noqa: S311 - a plan, no secret
        self._strikes = strikes
        self._doing = doing
        self._stopped = threading.Event()
        self._paused = threading.Event()
        self._start = time.monotonic()
        self._deck: list[str] = []
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(READY_S)

    @contextmanager
    def resting(self) -> Iterator[None]:
        self._paused.set()
        try:
            yield
        finally:
            self._paused.clear()

    def _work(self) -> None:
        while not self._stopped.wait(self._draws.uniform(*BETWEEN_S)):
            if self._paused.is_set():
                continue
            if not self._deck:
                self._deck = self._draws.sample(TARGETS, len(TARGETS))
            target = self._deck.pop()
            during = self._doing()
            with suppress(psutil.Error):
                if self._strike(target):
                    seconds = round(time.monotonic() - self._start, 1)
                    self._strikes.append(Strike(target=target, during=during, seconds=seconds))
                    print(f"  {seconds:7.1f} s  {target}, during {during}", flush=True)

    def _strike(self, target: str) -> bool:
        if target == "task":
            for _ in range(200):
                running = tasks(self._services.home)
                if running:
                    self._draws.choice(running).kill()
                    return True
                if self._stopped.wait(0.1):
                    break
            return False
        if target == "supervisor":
            self._services.kill_supervisor()
            return True
        if target == "metadata database":
            with sqlite3.connect(self._services.home / "airflow" / "airflow.db", timeout=30) as database:
                database.execute("BEGIN EXCLUSIVE")
                time.sleep(self._draws.uniform(*LOCKED_S))
                database.rollback()
            return True
        running = marked(self._services.home, target)
        for process in running:
            process.kill()
        return bool(running)


def play(keep: Path, seed: int, partitions: int) -> Played:
    """Play the loop's history, its first model and so many partitions, while everything is killed now and then."""
    services = Services(keep)
    world.write_problem(services.problems, NAME)
    os.environ["EVERGREEN_PROBLEMS"] = str(services.problems)
    problem = load_problem(NAME)
    played, start = Played(seed=seed), time.monotonic()
    here = ["start"]
    rows = read_rows(services.problems, NAME)
    try:
        services.start()
        killer = Killer(services, seed, played.strikes, lambda: here[0])
        killer.start()
        _persist(services, played, "history", lambda client: _begin(client, problem, here))
        for step in range(partitions):
            key = problem.partitions.shift(world.HISTORY[1], step + 1)
            here[0] = key
            _persist(services, played, key, partial(_play_one, problem=problem, key=key))
            if step == 1:
                world.learn(services.problems, NAME, 24)
                _persist(services, played, "second training", partial(_train, key=key))
            played.partitions.append(key)
            with killer.resting():
                services.ready()
                played.broken += _look(keep, rows, played.partitions, played)
            print(f"{key}: {len(played.strikes)} strikes, {played.broken}, {played.cleared}, {played.hung}", flush=True)
        killer.stop()
    finally:
        played.seconds = time.monotonic() - start
        played.restarted = services.restarted
        services.stop()
    return played


def then(keep: Path, played: Played) -> None:
    """What else may be done to it, on what was left; each is noted in `played.scenarios`, and done once."""
    services = Services(keep)
    os.environ["EVERGREEN_PROBLEMS"] = str(services.problems)
    problem, rows = load_problem(NAME), read_rows(services.problems, NAME)
    try:
        services.start()
        client, partitions = AirflowClient(), [*played.partitions, *played.later]
        for name, scenario in SCENARIOS.items():
            if name in played.scenarios:
                continue
            try:
                outcome = scenario(client, problem, partitions)
            except EvergreenError as error:
                outcome = f"{type(error).__name__}: {error}"
            played.later = partitions[len(played.partitions) :]
            broken = _look(keep, rows, partitions, played)
            played.broken += broken
            played.scenarios[name] = "; ".join(filter(None, [outcome, *map(str, broken)]))
            print(f"{name}: {played.scenarios[name] or 'as it should'}", flush=True)
    finally:
        services.stop()


def _begin(client: AirflowClient, problem: Problem, here: list[str]) -> None:
    replay.prepare(client, problem)
    here[0] = "history and first training"
    replay.start(client, problem, lambda _: None)


def _play_one(client: AirflowClient, problem: Problem, key: str) -> None:
    replay.play(client, problem, [key], lambda _: None)


def _train(client: AirflowClient, key: str) -> None:
    run = client.follow(client.trigger(f"{NAME}.train", f"second__{key}", partition=key), lambda *_: None, PATIENCE_S)
    if run["state"] != "success":
        raise RunFailed(run)


class RunFailed(Exception):
    """A run ended badly."""

    def __init__(self, run: Run) -> None:
        super().__init__(f"{run['dag_id']} {run['dag_run_id']}")
        self.run = run


def _persist(services: Services, played: Played, what: str, step: Callable[[AirflowClient], Any]) -> None:
    """Do a step until it is done: whoever plays goes on where it was, as a second `evergreen replay` does; what failed
    for good is cleared, as people do."""
    start = time.monotonic()
    while True:
        try:
            step(AirflowClient())
            return
        except (EvergreenError, RunFailed) as error:
            if time.monotonic() - start > PATIENCE_S:
                played.hung.append(f"{what}: {error}")
                return
            time.sleep(3)
            services.ready()
            with suppress(EvergreenError):
                _clear_failed(played)


def _clear_failed(played: Played) -> None:
    """Clear what has failed for good, and keep what it said."""
    client = AirflowClient()
    for dag in STAGES:
        with suppress(EvergreenError):
            for run in client.runs(f"{NAME}.{dag}"):
                if run["state"] == "failed":
                    played.cleared.append(_said(client, run))
                    client.resume(run)


def _look(keep: Path, rows: dict[str, int], partitions: list[str], played: Played) -> list[Breach]:
    pipe, child = in_child(holds.look, NAME, rows, log=keep / "look.log")
    ended, state = heard(pipe, 120)
    child.join(20)
    if ended != "done":
        return [Breach("the state can be read", f"{ended}: {state}")]
    assert isinstance(state, State)
    known = {(breach.rule, breach.what) for breach in played.broken}
    ingested = [*(key for key in rows if key <= world.HISTORY[1]), *partitions]
    return [breach for breach in holds.breaches(state, ingested, partitions) if tuple(breach) not in known]


def _wait_all(client: AirflowClient, timeout_s: float = PATIENCE_S) -> dict[str, Run]:
    """Wait until no run is under way; those that have failed, by what they said."""
    deadline = time.monotonic() + timeout_s
    while True:
        runs = [
            run for dag in ("ingest", "score", "monitor", "release", "train") for run in client.runs(f"{NAME}.{dag}")
        ]
        going = [run for run in runs if run["state"] in ("queued", "running")]
        if not going:
            return {_said(client, run): run for run in runs if run["state"] == "failed"}
        if time.monotonic() > deadline:
            raise DataError(f"goes on: {[run['dag_run_id'] for run in going]}", where=NAME, cure="look at it")
        time.sleep(2)


def _said(client: AirflowClient, run: Run) -> str:
    """The run, and the verdicts of its tasks."""
    dag = run["dag_id"].partition(".")[2]
    words = {task: client.xcom(run, task, "verdict") for task in STAGES[dag]}
    return f"{dag} {run['partition_key']}: " + "; ".join(f"{task}: {word}" for task, word in words.items() if word)


def _clear(client: AirflowClient, run: Run, task: str) -> None:
    """Let a run do it all again from a task on."""
    body = {
        "dry_run": False,
        "dag_run_id": run["dag_run_id"],
        "task_ids": [task],
        "include_downstream": True,
        "only_failed": False,
        "reset_dag_runs": True,
    }
    client._call("POST", f"/api/v2/dags/{run['dag_id']}/clearTaskInstances", json=body)
    time.sleep(3)


def _now() -> int:
    """For ids of runs that are new each time."""
    return int(time.time())


def _pause(client: AirflowClient, dag: str, is_paused: bool) -> None:
    client._call("PATCH", f"/api/v2/dags/{NAME}.{dag}", json={"is_paused": is_paused})


def paused_in_mid_chain(client: AirflowClient, problem: Problem, partitions: list[str]) -> str:
    """A DAG is paused while a partition is on its way to it, and resumed once the one before it has ended."""
    key = problem.partitions.shift(partitions[-1], 1)
    following = problem.partitions.shift(key, 1)
    _pause(client, "score", True)
    run = client.trigger(f"{NAME}.ingest", f"paused__{key}__{_now()}", partition=key)
    client.follow(run, lambda *_: None, PATIENCE_S)
    time.sleep(10)
    _pause(client, "score", False)
    time.sleep(20)
    was_missed = client.run_of(f"{NAME}.score", key) is None
    run = client.trigger(f"{NAME}.ingest", f"resumed__{following}__{_now()}", partition=following)
    client.follow(run, lambda *_: None, PATIENCE_S)
    run = client.follow(client.wait_for(f"{NAME}.score", following, 120), lambda *_: None, PATIENCE_S)
    said = str(client.xcom(run, "publish", "verdict") or "nothing")
    if was_missed and key not in said:
        raise DataError(f"{key} was never scored, and the next scoring says {said}", where=NAME, cure="mend it")
    if was_missed:
        client.follow(
            client.trigger(f"{NAME}.score", f"missed__{key}__{_now()}", partition=key), lambda *_: None, PATIENCE_S
        )
    _require_none(_wait_all(client))
    partitions += [key, following]
    return f"Airflow drops the event; the next scoring says: {said[:130]}...; done by hand" if was_missed else ""


def cleared_from_each_task(client: AirflowClient, problem: Problem, partitions: list[str]) -> str:
    """The runs of a partition are cleared from each of their tasks, and do it all again; where one says that it has to
    be cleared from its first task on, that is done."""
    key, words = partitions[-1], []
    for dag in ("ingest", "score", "monitor"):
        for task in STAGES[dag]:
            run = client.run_of(f"{NAME}.{dag}", key)
            assert run is not None
            _clear(client, run, task)
            for said, failed in _wait_all(client).items():
                words.append(f"from {dag}.{task}: {said}, and cleared from its first task")
                _clear(client, failed, STAGES[failed["dag_id"].partition(".")[2]][0])
            _require_none(_wait_all(client))
    return "; ".join(words)


def events_come_again(client: AirflowClient, problem: Problem, partitions: list[str]) -> str:
    """Asset events are told once more, the newest partition first: late, replayed and out of order."""
    assets = client._call("GET", "/api/v2/assets", params={"limit": 100})["assets"]
    ids = {asset["name"]: asset["id"] for asset in assets}
    for key in reversed(partitions[-2:]):
        for name in ("predictions", "events"):
            body = {"asset_id": ids[f"{NAME}/{name}"], "partition_key": key, "extra": {}}
            client._call("POST", "/api/v2/assets/events", json=body)
    time.sleep(10)
    _require_none(_wait_all(client))
    return ""


def two_at_once(client: AirflowClient, problem: Problem, partitions: list[str]) -> str:
    """A partition is ingested by hand twice, and two trainings are asked for meanwhile."""
    key = problem.partitions.shift(partitions[-1], 1)
    for run_id in ("first", "second"):
        client.trigger(f"{NAME}.ingest", f"{run_id}_of_two__{key}__{_now()}", partition=key)
        client.trigger(f"{NAME}.train", f"{run_id}_of_two__{key}__{_now()}", partition=partitions[-1])
    time.sleep(10)
    words = list(_wait_all(client))
    partitions.append(key)
    return "; ".join(words)


def _require_none(failed: dict[str, Run]) -> None:
    if failed:
        raise DataError("; ".join(failed), where=NAME, cure="clear it")


def two_supervisors(client: AirflowClient, problem: Problem, partitions: list[str]) -> str:
    """A second `evergreen up` on the same folder says in one message that it is up already."""
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli.app", "up"], capture_output=True, text=True, timeout=120, cwd=world.ROOT
    )
    return "" if done.returncode == 1 and "already up" in done.stdout + done.stderr else done.stdout + done.stderr


SCENARIOS: dict[str, Callable[[AirflowClient, Problem, list[str]], str]] = {
    "paused in mid-chain, and resumed": paused_in_mid_chain,
    "events late, replayed and out of order": events_come_again,
    "two ingests and two trainings at once": two_at_once,
    "two supervisors": two_supervisors,
    "cleared from each task": cleared_from_each_task,
}
