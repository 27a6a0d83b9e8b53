"""The demo's weeks through Airflow, and a plain script's on the same services: wall, CPU of each process, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.loop.records import Cost, Services, Week
from benchmarks.loop.usage import Memory, Usage
from pipelines.cli import replay
from pipelines.cli.airflow_client import AirflowClient
from pipelines.embedded import Embedded
from pipelines.problem import Problem

SETTLE_S, REST_S = 130.0, 60.0  # the workers end within two minutes of the last task


def measured(problem: Problem, count: int, home: Path) -> Services:
    """Play `count` weeks after those that `home` has, print what each took, rest, play the script, and start again."""
    assert problem.replay is not None
    with Embedded(home) as services:
        first_start = _start(services)
        os.environ.update(services.environment())
        client = AirflowClient()
        replay.prepare(client, problem)
        replay.start(client, problem, _tell)
        newest = max(
            (run["partition_key"] for run in client.runs(f"{problem.name}.monitor") if run["partition_key"]),
            default=problem.partitions.last_of(problem.replay.history_until),
        )
        keys = weeks_after(problem, count, newest)
        weeks = [_play(client, problem, week) for week in keys]
        time.sleep(SETTLE_S)
        before = Usage.now()
        time.sleep(REST_S)
        cores = {name: used / REST_S for name, used in Usage.now().since(before).items()}
        held = Memory.now()
        print(f"at rest: {sum(held.values()):,.0f} MiB: {_shares(held, 0)}; {sum(cores.values()):.3f} of a core")
        script = _script(problem, keys)
    with Embedded(home) as services:
        second_start = _start(services)
    return Services(
        first_start=first_start,
        second_start=second_start,
        weeks=weeks,
        script=script,
        rest_mib=held,
        rest_cores=cores,
    )


def weeks_after(problem: Problem, count: int, newest: str) -> list[str]:
    """The `count` partitions that follow `newest`."""
    return [problem.partitions.shift(newest, steps) for steps in range(1, count + 1)]


def _start(services: Embedded) -> Cost:
    began = time.monotonic()
    services.start(lambda line: None)
    cost = Cost(wall=time.monotonic() - began, cpu=sum(Usage.now().seconds.values()))
    print(f"up after {cost.wall:.1f} s, {cost.cpu:.1f} CPU s", flush=True)
    return cost


def _play(client: AirflowClient, problem: Problem, key: str) -> Week:
    before, began = Usage.now(), time.monotonic()
    with Memory().watched() as memory:
        replay.play(client, problem, [key], _tell)
    wall, used = time.monotonic() - began, Usage.now().since(before)
    week = Week(key=key, cost=Cost(wall=wall, cpu=sum(used.values())), services=used, peak_mib=memory.peak)
    print(
        f"{key}: {wall:.1f} s, {week.cost.cpu:.1f} CPU s, {memory.peak:,.0f} MiB at most: {_shares(used, 1)}",
        flush=True,
    )
    return week


def _script(problem: Problem, keys: list[str]) -> list[Week]:
    """The plain script's weeks: its own CPU and that of the services it asks."""
    assert problem.replay is not None
    bucket = os.environ["EVERGREEN_STORE_URI"].removeprefix("s3://").partition("/")[0]
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.loop.script", bucket]
    process = subprocess.Popen(
        [*command, problem.partitions.last_of(problem.replay.history_until), *keys], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    before, weeks = Usage.now(), []
    for line in process.stdout:
        now = Usage.now()
        if line.startswith("{"):
            week = Week.model_validate_json(line)
            used = {name: seconds for name, seconds in now.since(before).items() if name in ("mlflow", "object_store")}
            cost = Cost(wall=week.cost.wall, cpu=week.cost.cpu + sum(used.values()))
            weeks.append(Week(key=week.key, cost=cost, services=used))
            print(f"{week.key}, a plain script: {cost.wall:.1f} s, {cost.cpu:.1f} CPU s", flush=True)
        before = now  # the line before the first week says that the model is trained
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, command)
    return weeks


def _tell(finished: replay.Finished) -> None:
    print(f"  {finished.stage:<24} {finished.state:<8} {finished.seconds:6.1f} s", flush=True)


def _shares(used: Mapping[str, float], digits: int) -> str:
    largest = sorted(used.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in largest)
