"""A week of the default problem through Airflow: where its wall time and its CPU go, and what its work alone takes.

    python -m benchmarks.loop [--weeks 3] [--home FOLDER] [--alone]

Starts the embedded services in a folder of their own, loads the history, trains the first model and plays weeks, as
`evergreen demo` does, and prints each task's seconds and the CPU of each process. Then the same stages run over the
same weeks one after another in one process, on a local folder. `--home` is kept: a second run goes on with the weeks
after those it has. `--alone` leaves Airflow out. An idle machine is wanted; the ratio of the two is what counts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from pipelines.cli import replay
from pipelines.cli.airflow_client import AirflowClient
from pipelines.embedded import Embedded
from pipelines.problem import Problem, load_problem

NAME = "flight_delay"
SCHEDULER = "airflow_scheduler"
REST_S = 60.0
MEMORY_EVERY_S = 1.0

# What one week asks of one process, in the order of the DAGs; each line is printed with its seconds.
ALONE = """
import logging, os, sys, time
from pipelines import local_run
from pipelines.problem import load_problem

class Seconds(logging.Handler):
    def emit(self, record):
        print(time.strftime("%H:%M:%S"), record.getMessage()[:100], file=sys.stderr)

problem = load_problem("{name}")
logging.getLogger("pipelines.local_run").addHandler(Seconds())
logging.getLogger("pipelines.local_run").setLevel(logging.INFO)
first, history = problem.partitions.first.isoformat(), problem.replay.history_until.isoformat()
local_run.ingest(problem.name, first, history)
local_run.train(problem.name, history)
for week in {weeks!r}:
    wall, cpu = time.monotonic(), time.process_time()
    local_run.ingest(problem.name, week, week)
    local_run.score(problem.name, week)
    try:
        local_run.monitor(problem.name, week)
    except local_run.NothingToDo:
        pass
    print("week", week, time.monotonic() - wall, time.process_time() - cpu, flush=True)
"""


class Usage:
    """CPU seconds used so far by each service of a home, and by the tasks that the scheduler runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @classmethod
    def now(cls) -> Usage:
        usage, seconds = cls(), defaultdict(float)
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error, OSError):
                service = process.environ().get("EVERGREEN_SERVICE")
                if service is None:
                    continue
                times = process.cpu_times()
                own, ended = times.user + times.system, times.children_user + times.children_system
                # A task is a child of the scheduler, or a child's child, and has mostly ended when this looks.
                is_scheduler = service == SCHEDULER and process.ppid() == os.getpid()
                seconds[service if is_scheduler or service != SCHEDULER else "tasks"] += own
                seconds["tasks" if service == SCHEDULER else service] += ended
        usage.seconds = dict(seconds)
        return usage

    def since(self, before: Usage) -> dict[str, float]:
        return {name: used - before.seconds.get(name, 0.0) for name, used in self.seconds.items()}


class Memory:
    """The most that all services together held, in MiB: each shared page counted once (PSS)."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._end = threading.Event()

    @contextmanager
    def watched(self) -> Iterator[Memory]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._end.set()
            thread.join()

    @staticmethod
    def now() -> float:
        held = 0.0
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error, OSError):
                held += process.memory_full_info().pss
        return held / 2**20

    def _watch(self) -> None:
        while not self._end.wait(MEMORY_EVERY_S):
            self.peak = max(self.peak, self.now())


def weeks_of(problem: Problem, count: int, after: str) -> list[str]:
    """The `count` partitions that follow `after`."""
    return [problem.partitions.shift(after, steps) for steps in range(1, count + 1)]


def through_airflow(problem: Problem, count: int, home: Path) -> list[str]:
    """Play weeks through the embedded services, and print what each took; gives their keys."""
    assert problem.replay is not None
    began = time.monotonic()
    with Embedded(home) as services:
        services.start(lambda line: None)
        os.environ.update(services.environment())
        print(f"up after {time.monotonic() - began:.1f} s")
        client = AirflowClient()
        replay.prepare(client, problem)
        replay.start(client, problem, _tell)
        print(f"history loaded and first model trained {time.monotonic() - began:.1f} s after the start")
        newest = max(
            (run["partition_key"] for run in client.runs(f"{NAME}.monitor") if run["partition_key"]),
            default=problem.replay.history_until.isoformat(),
        )
        weeks = weeks_of(problem, count, newest)
        for week in weeks:
            _play(client, problem, week)
        print(f"the last of {count} weeks ended {time.monotonic() - began:.1f} s after the start")
        before = Usage.now()
        time.sleep(REST_S)
        used = Usage.now().since(before)
        busy = sum(used.values()) / REST_S
        print(f"\nat rest: {Memory.now():,.0f} MiB, {busy:.3f} of a core: {_shares(used, REST_S)}")
    return weeks


def alone(weeks: list[str], folder: Path) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds of each week's stages in one process, by week."""
    script = ALONE.format(name=NAME, weeks=weeks)
    places = {"EVERGREEN_STORE_URI": folder.as_uri(), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env={**_without_services(os.environ), **places},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("week ")]
    return {week: (float(wall), float(cpu)) for week, wall, cpu in lines}


def _play(client: AirflowClient, problem: Problem, week: str) -> None:
    before, began = Usage.now(), time.monotonic()
    with Memory().watched() as memory:
        replay.play(client, problem, week, _tell)
    wall, used = time.monotonic() - began, Usage.now().since(before)
    print(f"{week}: {wall:.1f} s, {sum(used.values()):.1f} CPU s, {memory.peak:,.0f} MiB at most: {_shares(used, 1)}")


def _tell(finished: replay.Finished) -> None:
    print(f"  {finished.stage:<24} {finished.state:<8} {finished.seconds:6.1f} s", flush=True)


def _shares(used: Mapping[str, float], seconds: float) -> str:
    largest = sorted(used.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {value / seconds:.{1 if seconds == 1 else 3}f}" for name, value in largest)


def _without_services(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what names the embedded services: the stages alone use a folder."""
    foreign = ("AWS_", "MLFLOW_", "AIRFLOW")
    return {name: value for name, value in environment.items() if not name.startswith(foreign)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, default=3)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--alone", action="store_true", help="the stages in one process only")
    arguments = parser.parse_args()
    problem = load_problem(NAME)
    assert problem.replay is not None
    with TemporaryDirectory() as scratch:
        home = arguments.home or Path(scratch) / "home"
        if arguments.alone:
            weeks = weeks_of(problem, arguments.weeks, problem.replay.history_until.isoformat())
        else:
            weeks = through_airflow(problem, arguments.weeks, home)
        folder = Path(scratch) / "alone"
        folder.mkdir()
        for week, (wall, cpu) in alone(weeks, folder).items():
            print(f"{week}, its stages in one process: {wall:.1f} s, {cpu:.1f} CPU s")


if __name__ == "__main__":
    main()
