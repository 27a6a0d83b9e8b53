"""Ingest a topic day by day, kill its stages at random moments, and hold the tables against what was sent.

    nice -n 15 python -m benchmarks.topic [--messages 200000] [--days 4] [--kills 20] [--seed 0]

The cluster is a process of its own. Each stage runs in a fork of this process, as a task of Airflow does, gets what the
stage before has handed on, and is tried again when it was killed. The last day is ingested by two runs at once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.topic import feed
from benchmarks.topic.cluster import Cluster, running

STAGES = ("ingest.extract", "ingest.validate", "ingest.publish")


class Used(NamedTuple):
    """What a stage took."""

    seconds: float
    cpu_s: float
    peak_mb: float


class Played(NamedTuple):
    """What came of a feed."""

    used: dict[str, list[Used]]
    killed: Counter[str]
    at_once: list[str]
    """how the runs ended that took in the last day at once"""
    faults: list[str]


def play(cluster: Cluster, folder: Path, days: int, messages: int, kills: int, seed: int = 0) -> Played:
    """Send and ingest the days of a feed; with `kills` of its stages' processes."""
    draw = random.Random(seed)
    orders = feed.write(folder, days, messages, seed)
    os.environ |= {
        "EVERGREEN_PROBLEMS": str(folder / "problems"),
        "EVERGREEN_STORE_URI": (folder / "store").as_uri(),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    problem = feed.write_problem(folder / "problems", cluster.brokers, days)
    used: dict[str, list[Used]] = {name: [] for name in STAGES}
    killed: Counter[str] = Counter()
    at_once: list[str] = []
    for place, day in enumerate(orders.days):
        assert cluster.send(day.file) == day.messages
        if place == days - 1:
            at_once = _at_once(folder, problem, day.key)
        for number, name in enumerate(STAGES):
            # The first day is left alone, and tells how long a stage takes.
            share = kills * len(STAGES) * (place - 1) + kills * number if place else 0
            until = kills * len(STAGES) * (place - 1) + kills * (number + 1) if place else 0
            total = len(STAGES) * (days - 1)
            for _ in range(until // total - share // total):
                usual = max(run.seconds for run in used[name])
                for _ in range(50):  # until it is met before its end
                    if _run(folder, problem, name, day.key, kill_after=draw.uniform(0, usual)) is None:
                        killed[name] += 1
                        break
            ended = _run(folder, problem, name, day.key)
            assert ended is not None
            used[name].append(ended)
    return Played(used, killed, at_once, faults_of(problem, orders))


def _run(folder: Path, problem: str, name: str, key: str, kill_after: float | None = None) -> Used | None:
    """Run a stage of a day in a fork of this process; None where it was killed before its end."""
    start = time.monotonic()
    process = os.fork()
    if not process:
        _exit_with(lambda: _stage(folder, problem, name, key))
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(process, signal.SIGKILL)
    _, status, usage = os.wait4(process, 0)
    if kill_after is not None and os.WIFSIGNALED(status):
        return None
    if status:
        raise RuntimeError(f"{name} of {key} ended with {status}")
    return Used(time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _stage(folder: Path, problem: str, name: str, key: str) -> None:
    from pipelines import store
    from pipelines.stages import stage

    handed_on = [key, key]
    if before := STAGES[: STAGES.index(name)]:
        handed_on = [json.loads((folder / f"{before[-1]}.json").read_text())]
    with store.task():
        result = stage(name)(problem, *handed_on)
    (folder / f"{name}.json").write_text(result.model_dump_json())


def _exit_with(work: Any) -> None:
    """End this fork with what `work` comes to, and nothing that its parent would do."""
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def _at_once(folder: Path, problem: str, key: str) -> list[str]:
    """Take a day in by two runs at once; how each of them ended."""

    def run(place: Path) -> None:
        for name in STAGES:
            _stage(place, problem, name, key)

    processes = []
    for number in range(2):
        (place := folder / f"run{number}").mkdir()
        process = os.fork()
        if not process:
            with (place / "error.txt").open("w") as errors:
                os.dup2(errors.fileno(), 2)
                _exit_with(lambda place=place: run(place))
        processes.append((process, place))
    ended = []
    for process, place in processes:
        _, status = os.waitpid(process, 0)
        lines = (place / "error.txt").read_text().strip().splitlines()
        ended.append("done" if not status else f"failed: {lines[0] if lines else status}")
    return ended


def faults_of(problem_name: str, orders: feed.Feed) -> list[str]:
    """What is in the tables and should not be, or is missing there."""
    from pipelines import store
    from pipelines.problem import load_problem

    problem, faults = load_problem(problem_name), []
    columns = ["order_id", "event_time", "litres", "statement", "known_time", "superseded_time"]
    rows = store.dataset(problem, "events").to_table(columns=columns).to_pylist()
    there = Counter(tuple(row[name] for name in columns) for row in rows)
    if twice := [row for row, count in there.items() if count > 1]:
        faults.append(f"{len(twice)} statements twice, such as {twice[0]}")
    if missing := orders.statements - set(there):
        faults.append(f"{len(missing)} statements missing, such as {min(missing, key=str)}")
    if more := set(there) - orders.statements:
        faults.append(f"{len(more)} statements too many, such as {min(more, key=str)}")
    landed = store.dataset(problem, "topics").to_table(columns=["message_partition", "message_offset"]).to_pylist()
    places = Counter((row["message_partition"], row["message_offset"]) for row in landed)
    sent = sum(day.messages for day in orders.days)
    if len(places) != sent or sum(places.values()) != sent:
        faults.append(f"{sum(places.values())} messages landed, {len(places)} different ones, of {sent}")
    set_aside = store.dataset(problem, "quarantine").to_table().to_pylist()
    offsets = {(json.loads(row["row"])["partition"], json.loads(row["row"])["offset"]) for row in set_aside}
    undecodable = sum(day.undecodable for day in orders.days)
    if len(set_aside) != undecodable or len(offsets) != undecodable:
        faults.append(f"{len(set_aside)} rows in quarantine, of {len(offsets)} messages; {undecodable} are undecodable")
    return faults


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.topic")
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    import great_expectations  # noqa: F401 - as the scheduler of Airflow does, before it forks

    with tempfile.TemporaryDirectory() as folder, running() as cluster:
        played = play(cluster, Path(folder), chosen.days, chosen.messages, chosen.kills, chosen.seed)
    for name, runs in played.used.items():
        cpu_s, peak_mb = sum(run.cpu_s for run in runs), max(run.peak_mb for run in runs)
        rate = chosen.messages / max(cpu_s, 0.01)
        print(f"{name}: {cpu_s:.1f} CPU s undisturbed, {rate:,.0f} messages a CPU s, {peak_mb:,.0f} MB at most")
    print(f"killed: {sum(played.killed.values())} ({dict(played.killed)})")
    print(f"two runs at once: {'; '.join(played.at_once)}")
    print(f"CPU s of all, killed ones too: {sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]):.0f}")
    print("\n".join(played.faults) or "none twice, none missing: events and quarantine are those of a batch")
    return bool(played.faults)


if __name__ == "__main__":
    raise SystemExit(main())
