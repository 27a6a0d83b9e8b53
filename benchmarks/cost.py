"""What `runs` says that tasks used, against what the operating system counted; and what measuring itself takes.

    python -m benchmarks.cost [weeks]

The default problem's history, a training, and some weeks: ingest, score, monitor, without Airflow. Each stage runs in a
process of its own, forked from one that has loaded all modules, as Airflow's workers are; `wait4` says what the system
counted for it. One more training is killed in the middle. The store is the one that EVERGREEN_STORE_URI names, else a
folder; it should be empty. MLflow is a SQLite file.
"""

from __future__ import annotations

import os
import pickle
import signal
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.arguments import one_number
from include.preload import preload_for_tasks
from pipelines import local_run, stages, store, usage
from pipelines.errors import NothingToDo
from pipelines.problem import load_problem
from pipelines.usage.table import tries, write_noted

PROBLEM = "flight_delay"
KILLED_AFTER_S = 3.5
EMPTY = 200  # tries that do nothing
IN_A_WEEK = 14


class Counted(NamedTuple):
    """What the system said of a process that has ended."""

    cpu_s: float
    peak_bytes: int


class Forks:
    """Runs stages in processes of their own, and keeps what the system counted for each."""

    def __init__(self) -> None:
        self.counted: defaultdict[str, list[Counted]] = defaultdict(list)

    def run(self, name: str, problem_name: str, *handed_on: Any, **options: Any) -> Any:
        """What the stage gives; in place of `local_run.logged`."""
        with usage.measured_run() as run_name:
            content = self._forked(name, lambda: _measured(run_name, name, problem_name, *handed_on, **options))
        assert content is not None, f"{name} was killed"
        outcome = pickle.loads(content)  # noqa: S301 - of a process of ours
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def kill(self, name: str, after_s: float, body: Callable[[], Any]) -> None:
        """Run `body` and kill it."""
        self._forked(name, body, after_s)

    def _forked(self, name: str, body: Callable[[], Any], killed_after_s: float | None = None) -> bytes | None:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(_outcome(body), pipe)
            os._exit(0)
        os.close(writer)
        if killed_after_s is not None:
            time.sleep(killed_after_s)
            os.kill(child, signal.SIGKILL)
        with os.fdopen(reader, "rb") as pipe:
            content = pipe.read()
        _, _, used = os.wait4(child, 0)
        self.counted[name].append(Counted(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024))
        return content or None


def _outcome(body: Callable[[], Any]) -> Any:
    try:
        return body()
    except BaseException as error:
        return error


def _measured(run_name: str, name: str, problem_name: str, *handed_on: Any, **options: Any) -> Any:
    about = local_run.about(run_name, name, problem_name, *handed_on, **options)
    with usage.measured(about._replace(has_own_process=True)) as used, store.task():
        used.value = stages.stage(name)(problem_name, *handed_on, **options)
    return used.value


@contextmanager
def forked() -> Iterator[Forks]:
    """The stages that `pipelines.local_run` runs are run in forks."""
    forks, logged = Forks(), local_run.logged
    local_run.logged = forks.run
    try:
        yield forks
    finally:
        local_run.logged = logged


def play(weeks: int) -> Forks:
    """History, a training, and some weeks."""
    problem = load_problem(PROBLEM)
    assert problem.replay is not None
    until = problem.partitions.last_of(problem.replay.history_until)
    with forked() as forks:
        local_run.ingest(PROBLEM, problem.partitions.first_key, until)
        local_run.train(PROBLEM, until)
        for number in range(1, weeks + 1):
            key = problem.partitions.shift(until, number)
            local_run.ingest(PROBLEM, key, key)
            local_run.score(PROBLEM, key)
            with suppress(NothingToDo):  # no training is wanted
                local_run.monitor(PROBLEM, key)
            print(f"{key} is through", flush=True)
    return forks


def against_the_system(forks: Forks) -> str:
    """A line for each stage: CPU seconds and the most memory, as `runs` has them and as the system counted them."""
    rows = defaultdict(list)
    for attempt in tries(load_problem(PROBLEM)):
        rows[attempt.stage].append(attempt)
    lines = [f"{'stage':<18} {'tries':>5} {'runs CPU s':>11} {'wait4 CPU s':>12} {'ratio':>6} {'MiB':>6} {'wait4':>6}"]
    totals = [0.0, 0.0]
    for stage, counted in forks.counted.items():
        ours, theirs = sum(row.cpu_s for row in rows[stage]), sum(one.cpu_s for one in counted)
        peaks = (max(row.peak_bytes for row in rows[stage]), max(one.peak_bytes for one in counted))
        memory = " ".join(f"{peak / 2**20:>6,.0f}" for peak in peaks)
        lines.append(f"{stage:<18} {len(counted):>5} {ours:>11.2f} {theirs:>12.2f} {ours / theirs:>6.3f} {memory}")
        assert len(rows[stage]) == len(counted), f"{stage}: {len(rows[stage])} rows of {len(counted)} processes"
        totals = [totals[0] + ours, totals[1] + theirs]
    lines.append(f"{'all':<24} {totals[0]:>11.2f} {totals[1]:>12.2f} {totals[0] / totals[1]:>6.3f}")
    return "\n".join(lines)


def killed() -> str:
    """A try that was killed in the middle of its work, as `runs` has it and as the system counted it."""
    forks, about = Forks(), usage.About(PROBLEM, "train.train", "killed", partition="2013-03-25")

    def work() -> None:
        with usage.measured(about._replace(has_own_process=True)):
            while True:
                sum(range(100_000))

    forks.kill("train.train", KILLED_AFTER_S, work)
    row = next(attempt for attempt in tries(load_problem(PROBLEM)) if attempt.run == "killed")
    counted = forks.counted["train.train"][0]
    return (
        f"killed after {KILLED_AFTER_S} s: a row says {row.outcome}, {row.wall_s:.2f} s, {row.cpu_s:.2f} CPU s; "
        f"the system counted {counted.cpu_s:.2f} CPU s"
    )


def overhead() -> str:
    """Milliseconds that measuring adds to a task: alone, and with what a week writes to the table."""
    alone, with_table = [], []
    for number in range(EMPTY):
        is_last = number % IN_A_WEEK == IN_A_WEEK - 1
        about = usage.About(PROBLEM, "monitor.act" if is_last else "monitor.detect", f"empty {number // IN_A_WEEK}")
        clock, cpu = time.perf_counter(), time.process_time()
        with usage.measured(about):
            pass
        took = (time.perf_counter() - clock) * 1000, (time.process_time() - cpu) * 1000
        with_table.append(took)
        if not is_last:
            alone.append(took)
    (alone_ms, alone_cpu), (mean_ms, mean_cpu) = (
        [statistics.mean(side) for side in zip(*measured, strict=True)] for measured in (alone, with_table)
    )
    median = statistics.median(wall for wall, _ in alone)
    return (
        f"a task: {alone_ms:.2f} ms (median {median:.2f}), {alone_cpu:.2f} CPU ms; with a write to the table each "
        f"{IN_A_WEEK} tasks: {mean_ms:.2f} ms, {mean_cpu:.2f} CPU ms, on average of {EMPTY}"
    )


def main(weeks: int) -> None:
    with tempfile.TemporaryDirectory(prefix="evergreen-cost-") as name:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{Path(name)}/mlflow.db"
        os.environ.setdefault("EVERGREEN_STORE_URI", Path(name, "store").as_uri())
        tempfile.tempdir = name
        preload_for_tasks()
        forks = play(weeks)
        print(against_the_system(forks))
        print(killed())
        write_noted(load_problem(PROBLEM))
        print(overhead())


if __name__ == "__main__":
    main(one_number(__doc__, "weeks", 2))
