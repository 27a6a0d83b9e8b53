"""The full stack, for real: the demo's weeks through Celery on two worker hosts, and days while parts of it fail.

    sudo python -m benchmarks.stack [--parts PART ...] [--keep FOLDER] [--write]

The stack is `evergreen stack`, so each service has a network namespace of its own. Part `demo`: `evergreen replay
flight_delay` in the scheduler's host, as at the top of docker-compose.yaml. Part `failures`: the problem of
`benchmarks.chaos`, with a training every third day; after all failures every row must be there once. `--write` writes
docs/measurements/stack.md, of both parts. Needs root, PostgreSQL and Redis.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Literal

import psutil
import yaml
from pydantic import BaseModel

from benchmarks.chaos import holds, world
from benchmarks.chaos.stages import read_rows
from pipelines.cli import replay
from pipelines.cli.airflow_client import AirflowClient, Run, run_path
from pipelines.embedded.processes.home import load_environment
from pipelines.embedded.processes.supervisor import marked
from pipelines.embedded.stack import Stack
from pipelines.errors import ServiceUnavailable
from pipelines.problem import ROOT, Problem, load_problem

Part = Literal["demo", "failures"]
PARTS: tuple[Part, ...] = ("demo", "failures")
NAME, DEMO = "pots", "flight_delay"
UNTIL = "2013-04-29"  # of the demo: the monitor has asked for a training, whose model has been in shadow for a week
WORKERS = 2
DAGS = ("ingest", "train", "score", "monitor")
DAYS = 3  # played before anything fails
UP_S, MOMENT_S, PATIENCE_S = 400.0, 300.0, 1800.0
UP = "Ctrl-C stops everything"
TRIES = 4  # partitions for one failure, should a task have ended before it was struck


class Failure(BaseModel):
    """What was done to the stack while a partition was on its way, and what came of it."""

    what: str
    partition: str
    seconds: float
    """From the failure until every run of the partition had ended well."""
    tried_again: dict[str, int]
    """Tasks with more than one try, and how many they had."""


class Demo(BaseModel):
    """The demo's weeks."""

    weeks: list[str]
    seconds: float
    """Of the command, from the history to the last week."""
    runs: dict[str, int]
    """Of all DAGs, by their state."""
    tasks: dict[str, int]
    """By the host that they ran on."""
    trainings: list[str]
    """Weeks after which the monitor asked for one."""
    versions: list[str]
    """In MLflow's registry."""
    champion: str | None
    challenger: str | None
    rows: int
    """Events of the weeks; as many predictions."""
    broken: list[str]
    """Rules that did not hold."""


class Measured(BaseModel):
    """What the page says."""

    up_s: float = 0.0
    demo: Demo | None = None
    partitions: list[str] = []
    trainings: list[str] = []
    """Partitions after which the monitor asked for one."""
    tasks: dict[str, int] = {}
    """Tasks by the host that they ran on, before anything failed."""
    failures: list[Failure] = []
    broken: list[str] = []
    """Rules that did not hold at the end."""
    rows: int = 0
    """Events of the partitions that were scored; as many predictions."""


def write_problems(problems: Path) -> None:
    """The demo's problem, and the small one, trained every third day and promoted at once."""
    shutil.copytree(ROOT / "include" / "problems" / DEMO, problems / DEMO)
    world.write_problem(problems, NAME)
    path = problems / NAME / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    del raw["release"]
    raw["monitoring"]["policy"] = {"updates": "scheduled", "every_partitions": 3, "cool_down_partitions": 1}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


@contextmanager
def running(home: Path, problems: Path) -> Iterator[float]:
    """The stack, as its command starts it; gives the seconds until it was up. This process is then its client."""
    foreign = ("AWS_", "MLFLOW_", "AIRFLOW", "EVERGREEN_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment |= {"EVERGREEN_HOME": str(home), "EVERGREEN_PROBLEMS": str(problems)}
    start = time.monotonic()
    with (home / "stack.log").open("wb") as log:
        command = [sys.executable, "-m", "pipelines.cli.app", "stack", "--hosts", str(WORKERS)]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT)
    try:
        while UP not in (text := (home / "stack.log").read_text()):
            if process.poll() is not None or time.monotonic() - start > UP_S:
                raise SystemExit(f"the stack did not come up:\n{text[-3000:]}")
            time.sleep(0.2)
        took = time.monotonic() - start
        for name in [name for name in os.environ if name.startswith(foreign)]:
            del os.environ[name]
        os.environ |= {"EVERGREEN_HOME": str(home / "stack"), "EVERGREEN_PROBLEMS": str(problems)}
        load_environment()
        yield took
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


def inside(home: Path, service: str, *command: str) -> int:
    """Run a command in a service's host, with its environment, as `docker compose exec` does; its exit status."""
    first = min(marked(home, service), key=lambda process: process.pid)
    into = ["nsenter", f"--target={first.pid}", "--net", "--mount", "--uts", f"--wd={ROOT}", "--"]
    return subprocess.run([*into, *command], check=False, env=first.environ()).returncode


def play_demo(home: Path) -> Demo:
    """The demo's weeks, and what there is of them afterwards."""
    start = time.monotonic()
    if inside(home / "stack", "scheduler", "evergreen", "replay", DEMO, "--until", UNTIL):
        raise SystemExit(f"{DEMO} was not played to its end; with --keep it goes on")
    seconds = time.monotonic() - start
    problem, client = load_problem(DEMO), AirflowClient()
    assert problem.replay is not None
    partitions = problem.partitions
    first = partitions.shift(partitions.last_of(problem.replay.history_until), 1)
    weeks = partitions.between(first, partitions.last_of(date.fromisoformat(UNTIL)))
    state = holds.look(DEMO, {})
    return Demo(
        weeks=weeks,
        seconds=seconds,
        runs=dict(Counter(run["state"] for run in runs_of(client, DEMO))),
        tasks=tasks_by_host(client, DEMO),
        trainings=[str(run["partition_key"]) for run in client.runs(f"{DEMO}.train")][1:],
        versions=sorted(state.registered, key=int),
        champion=state.champion,
        challenger=state.challenger,
        rows=sum(len(state.predictions[week]) for week in weeks),
        broken=[f"{breach.rule}: {breach.what}" for breach in holds.breaches(state, [], weeks)],
    )


def runs_of(client: AirflowClient, problem: str) -> list[Run]:
    """Of all its DAGs."""
    return [run for dag in sorted(client.dag_ids(problem)) for run in client.runs(dag)]


def tasks_of(client: AirflowClient, run: Run) -> list[dict[str, Any]]:
    return list(client._call("GET", f"{run_path(run)}/taskInstances", params={"limit": 100})["task_instances"])


def tasks_by_host(client: AirflowClient, problem: str) -> dict[str, int]:
    """All tasks that ran, by where."""
    tasks = [task for run in runs_of(client, problem) for task in tasks_of(client, run)]
    return dict(Counter(task["hostname"] for task in tasks if task["hostname"]))


class Loop:
    """The small problem on the stack."""

    def __init__(self, home: Path, problems: Path, partitions: list[str], save: Callable[[], None]) -> None:
        self.stack = Stack(home / "stack", WORKERS)
        self.client = AirflowClient()
        self.problem: Problem = load_problem(NAME)
        self.rows = read_rows(problems, NAME)
        self.partitions = partitions
        self._save = save

    def begin(self) -> None:
        replay.prepare(self.client, self.problem)
        replay.start(self.client, self.problem, _tell)

    def next_partition(self) -> str:
        before = self.partitions[-1] if self.partitions else world.HISTORY[1]
        self.partitions.append(self.problem.partitions.shift(before, 1))
        self._save()
        return self.partitions[-1]

    def play(self, key: str) -> None:
        """As `evergreen replay`, which is called again where Airflow did not answer, and then goes on."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                replay.play(self.client, self.problem, [key], _tell)
                return
            except ServiceUnavailable as error:
                print(f"  {key}: {error.what}", flush=True)
                if time.monotonic() > end:
                    raise
                time.sleep(2)

    def ingest(self, key: str) -> None:
        self.client.trigger(f"{NAME}.ingest", f"replay__{key}", partition=key)

    def tried_again(self, key: str) -> dict[str, int]:
        """Of a partition's tasks those with more than one try, and how many."""
        tries: dict[str, int] = {}
        for dag in DAGS:
            run = self.client.run_of(f"{NAME}.{dag}", key)
            for task in tasks_of(self.client, run) if run else []:
                if task["try_number"] > 1:
                    name = f"{dag}.{task['task_id']}"
                    tries[name] = max(tries.get(name, 0), int(task["try_number"]))
        return tries

    def trainings(self) -> list[str]:
        return [str(run["partition_key"]) for run in self.client.runs(f"{NAME}.train")][1:]

    def moment(self, dag: str, task: str, key: str) -> dict[str, Any]:
        """The task as it is, once it runs."""
        end = time.monotonic() + MOMENT_S
        while time.monotonic() < end:
            run = self.client.run_of(f"{NAME}.{dag}", key)
            for each in tasks_of(self.client, run) if run else []:
                if each["task_id"] == task and each["state"] == "running" and each["hostname"]:
                    return each
            time.sleep(0.1)
        raise SystemExit(f"{dag}.{task} of {key} did not run within {MOMENT_S:.0f} s")


Strike = Callable[[Loop, str], AbstractContextManager[None]]
"""Does something to the stack while a partition is on its way; what it holds is until the partition is through."""


def kill(loop: Loop, host: str) -> None:
    """SIGKILL to all processes of a host; the stack starts the service again, as Docker would."""
    for process in marked(loop.stack.home, host):
        process.kill()


def restart(loop: Loop, service: str) -> None:
    """End a service as `docker compose restart` does, by the signal that its image names."""
    first = min(marked(loop.stack.home, service), key=lambda process: process.pid)
    first.send_signal(signal.SIGINT if service == "postgres" else signal.SIGTERM)
    psutil.wait_procs([first], timeout=30)


@contextmanager
def worker_killed(loop: Loop, key: str) -> Iterator[None]:
    kill(loop, loop.moment("score", "score", key)["hostname"])
    yield


@contextmanager
def worker_cut_off(loop: Loop, key: str) -> Iterator[None]:
    host = loop.moment("score", "score", key)["hostname"]
    loop.stack.cut_off(host, is_down=True)
    try:
        yield
    finally:
        loop.stack.cut_off(host, is_down=False)


def during_score(strike: Callable[[Loop, str], None], service: str) -> Strike:
    """Of a service, while tasks score."""

    @contextmanager
    def struck(loop: Loop, key: str) -> Iterator[None]:
        loop.moment("score", "score", key)
        strike(loop, service)
        yield

    return struck


FAILURES: dict[str, tuple[Strike, bool]] = {
    # Whether a task has to be hit.
    "all processes of a worker host killed, which scored": (worker_killed, True),
    "the links of a worker host down, which scored": (worker_cut_off, True),
    "PostgreSQL restarted": (during_score(restart, "postgres"), False),
    "PostgreSQL killed": (during_score(kill, "postgres"), False),
    "Redis restarted": (during_score(restart, "redis"), False),
    "Redis killed": (during_score(kill, "redis"), False),
}


def fail(loop: Loop, what: str, strike: Strike, *, hits_a_task: bool) -> Failure:
    """Play a partition while something fails; another one where the task had just ended that was to be hit."""
    for _ in range(TRIES):
        key = loop.next_partition()
        loop.ingest(key)
        with strike(loop, key):
            start = time.monotonic()
            loop.play(key)
        seconds = time.monotonic() - start
        again = loop.tried_again(key)
        print(f"{what}, {key}: {seconds:.0f} s, {again}", flush=True)
        if again or not hits_a_task:
            return Failure(what=what, partition=key, seconds=seconds, tried_again=again)
    raise SystemExit(f"{what}: no task was hit in {TRIES} partitions")


def measure(keep: Path, parts: Sequence[Part]) -> Measured:
    """These parts, from where an earlier run in the same folder was broken off."""
    home, problems, path = keep / "home", keep / "problems", keep / "measured.json"
    home.mkdir(parents=True, exist_ok=True)
    if not problems.exists():
        write_problems(problems)
    measured = Measured.model_validate_json(path.read_text()) if path.exists() else Measured()

    def save() -> None:
        path.write_text(measured.model_dump_json(indent=1))

    with running(home, problems) as up_s:
        measured.up_s = measured.up_s or up_s
        if "demo" in parts and measured.demo is None:
            measured.demo = play_demo(home)
            save()
        if "failures" in parts:
            play_failures(Loop(home, problems, measured.partitions, save), measured, save)
    return measured


def play_failures(loop: Loop, measured: Measured, save: Callable[[], None]) -> None:
    """Days of the small problem: some undisturbed, then one for each failure."""
    loop.begin()
    for key in measured.partitions:
        loop.play(key)
    while len(measured.partitions) < DAYS:
        loop.play(loop.next_partition())
    measured.tasks = measured.tasks or tasks_by_host(loop.client, NAME)
    for what, (strike, hits_a_task) in FAILURES.items():
        if what not in {failure.what for failure in measured.failures}:
            measured.failures.append(fail(loop, what, strike, hits_a_task=hits_a_task))
            save()
    state = holds.look(NAME, loop.rows)
    ingested = [key for key in loop.rows if key <= loop.partitions[-1]]
    broken = holds.breaches(state, ingested, loop.partitions)
    measured.broken = [f"{breach.rule}: {breach.what}" for breach in broken]
    measured.rows = sum(len(state.predictions[key]) for key in loop.partitions)
    measured.trainings = loop.trainings()


def page(measured: Measured) -> str:
    """docs/measurements/stack.md, of both parts."""
    assert measured.demo is not None
    failures = "\n".join(
        f"| {each.what} | {each.seconds:.0f} s | "
        f"{', '.join(f'{task} ({tries})' for task, tries in sorted(each.tried_again.items())) or 'none'} |"
        for each in measured.failures
    )
    hosts = by_host(measured.tasks)
    broken = "".join(f"\n- {line}" for line in measured.broken) or " nothing."
    return f"""# The full stack

`sudo python -m benchmarks.stack --write` (`make stack-bench`) starts the stack (`evergreen stack`,
[several machines](../howto/machines.md)) with {WORKERS} worker hosts. Each service is in a network namespace of its
own. The stack was up after {measured.up_s:.0f} s; on a machine that others use, as that of these runs, all takes
longer. `make stack-test` runs the end-to-end tests on it, too.

{section(measured.demo)}

## When parts of it fail

`--parts failures` plays days of 150 rows through Celery. The problem is that of [reliability](../reliability.md),
trained every third day by the monitor's request. The history, the first training and {DAYS} days were
{sum(measured.tasks.values())} tasks: {hosts}. On all
{len(measured.partitions)} days the monitor asked for {len(measured.trainings)} trainings.

On the days after those something failed while a day was scored. The time is from then until all runs of the day had
ended well. A lost task is noticed after two minutes (`task_instance_heartbeat_timeout`), and tried again half a minute
later. Services that end are started again by the stack, as Docker would; a host that was cut off got its links back
when the day was through.

| what failed | until the day was through | tasks with more than one try (tries) |
| --- | --- | --- |
{failures}

`evergreen replay` was called again where Airflow did not answer it. At the end the {measured.rows:,} predictions of
these days, ledger, registry and files were held against the rules of the reliability benchmark: one prediction an
event, each manifest as its table, each decision once. What did not hold:{broken}
"""


def section(demo: Demo) -> str:
    """Of the page, about the demo's weeks."""
    runs = ", ".join(f"{number} {state}" for state, number in sorted(demo.runs.items()))
    asked = " and ".join(demo.trainings) or "no week"
    beside = f", and version {demo.challenger} scored beside it in shadow" if demo.challenger else ""
    broken = "".join(f"\n- {line}" for line in demo.broken) or " nothing."
    return f"""## The demo's weeks

`--parts demo` runs what the head of docker-compose.yaml says in the scheduler's host:
`evergreen replay {DEMO} --until {UNTIL}`. The history, the first model and {len(demo.weeks)} weeks with
{demo.rows:,} flights took {demo.seconds / 60:.0f} minutes.

- Runs of all DAGs: {runs}.
- Tasks: {by_host(demo.tasks)}.
- The monitor asked for a training after {asked}. MLflow has version {" and ".join(demo.versions)};
  at the end version {demo.champion} served{beside}.

The rules of [reliability](../reliability.md) were held against it all: one prediction a flight, each manifest as its
table, aliases as the ledger, no run of MLflow left open, nothing left in staging. What did not hold:{broken}"""


def by_host(tasks: dict[str, int]) -> str:
    return ", ".join(f"{number} on {host}" for host, number in sorted(tasks.items()))


def _tell(done: replay.Finished) -> None:
    print(f"  {done.partition} {done.stage} {done.state} {done.seconds:.1f} s  {done.facts}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.stack")
    options.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    options.add_argument("--keep", type=Path, help="folder that stays")
    options.add_argument("--write", action="store_true", help="write docs/measurements/stack.md")
    chosen = options.parse_args()
    if chosen.write and {*chosen.parts} != {*PARTS}:
        options.error("--write writes of all parts; leave --parts out, and --keep as it was where some have run")
    with ExitStack() as stack:
        keep = chosen.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evergreen-stack-")))
        measured = measure(keep.resolve(), chosen.parts)
    print(measured.model_dump_json(indent=1))
    if chosen.write:
        (ROOT / "docs" / "measurements" / "stack.md").write_text(page(measured))
    if measured.broken or (measured.demo and measured.demo.broken):
        sys.exit(1)


if __name__ == "__main__":
    main()
