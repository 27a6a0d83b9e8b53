"""The stages of the demo's weeks one after another in one process, on a folder: no Airflow, no server.

    python -m benchmarks.loop.alone FOLDER WEEK... [--profile]

Prints what each week and each stage took as JSON, and keeps in FOLDER/inputs what the last week's stages read, for the
peers. With --profile each stage's functions are counted, and those that took longest are printed instead.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import os
import pstats
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.loop.records import Alone, Cost, Stage, Week
from pipelines import local_run, store
from pipelines.paths import version_uri
from pipelines.problem import load_problem

NAME = "flight_delay"
SHOWN = 12  # functions of a stage's profile
INPUTS = ("events", "features", "predictions", "labels")


def measured(folder: Path, weeks: list[str], is_profiled: bool = False) -> Alone:
    """Run this module in a process of its own; with a profile it prints that, and what it measures means little."""
    places = {"EVERGREEN_STORE_URI": folder.as_uri(), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.loop.alone", str(folder), *weeks]
    if is_profiled:
        command.append("--profile")
    done = subprocess.run(
        command, env={**_without_services(os.environ), **places}, stdout=subprocess.PIPE, text=True, check=True
    )
    *profile, result = done.stdout.strip().split("\n")
    print(*profile, sep="\n", flush=True)
    return Alone.model_validate_json(result)


def play(weeks: list[str], is_profiled: bool) -> Alone:
    """History, first model, weeks; the weeks are measured."""
    problem = load_problem(NAME)
    assert problem.replay is not None
    first, history = problem.partitions.first_key, problem.partitions.last_of(problem.replay.history_until)
    local_run.ingest(NAME, first, history)
    local_run.train(NAME, history)
    stages: list[Stage] = []
    profiles: defaultdict[str, cProfile.Profile] = defaultdict(cProfile.Profile)
    ran = local_run.logged
    played = []
    for week in weeks:
        wall, cpu = time.monotonic(), time.process_time()
        for dag in (local_run.ingest, local_run.score, local_run.monitor, local_run.release):
            local_run.logged = partial(_timed, ran, week, stages, profiles if is_profiled else None)
            partitions = (week, week) if dag is local_run.ingest else (week,)
            with suppress(local_run.NothingToDo):
                dag(NAME, *partitions)
        played.append(Week(key=week, cost=Cost(wall=time.monotonic() - wall, cpu=time.process_time() - cpu)))
    for name, profile in profiles.items():
        _show(name, profile)
    return Alone(weeks=played, stages=stages)


def _timed(
    run: Callable[..., Any],
    week: str,
    stages: list[Stage],
    profiles: Mapping[str, cProfile.Profile] | None,
    name: str,
    *handed_on: Any,
    **options: Any,
) -> Any:
    """`local_run.logged` with a clock around it."""
    wall, cpu = time.monotonic(), time.process_time()
    try:
        if profiles is None:
            return run(name, *handed_on, **options)
        return profiles[name].runcall(run, name, *handed_on, **options)
    finally:
        cost = Cost(wall=time.monotonic() - wall, cpu=time.process_time() - cpu)
        stages.append(Stage(week=week, name=name, cost=cost))


def _show(name: str, profile: cProfile.Profile) -> None:
    text = io.StringIO()
    pstats.Stats(profile, stream=text).strip_dirs().sort_stats("cumulative").print_stats(SHOWN)
    print(f"\n{name}\n{text.getvalue().strip()}")


def keep_inputs(folder: Path, week: str) -> None:
    """What the week's stages read: the tables up to the week, and what the champion's estimates rest on."""
    problem = load_problem(NAME)
    folder.mkdir()
    for table in INPUTS:
        rows = store.dataset(problem, table).to_table(filter=pc.field("partition") <= week)
        pq.write_table(rows, folder / f"{table}.parquet")
    version = pq.read_table(folder / "predictions.parquet", columns=["model_version"])["model_version"][-1].as_py()
    held_out = store.read_bytes(version_uri(problem, version, "held_out.parquet"))
    pq.write_table(pq.read_table(pa.BufferReader(held_out)), folder / "held_out.parquet")


def _without_services(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what names the embedded services: the stages alone use a folder."""
    foreign = ("AWS_", "MLFLOW_", "AIRFLOW")
    return {name: value for name, value in environment.items() if not name.startswith(foreign)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weeks", nargs="+")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    played = play(arguments.weeks, arguments.profile)
    keep_inputs(arguments.folder / "inputs", arguments.weeks[-1])
    print(played.model_dump_json(), flush=True)


if __name__ == "__main__":
    main()
