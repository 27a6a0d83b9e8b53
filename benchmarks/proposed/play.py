"""One table, through the commands that a person runs: new, check, ingest, train, score, monitor."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks import postgres
from benchmarks.proposed.catalogue import Given, write_table
from pipelines.ingest.look import come_so_far, newest
from pipelines.problem import parse_problem

PLAYED = 3  # partitions that are ingested, scored and monitored one by one


class Step(NamedTuple):
    """A command, its exit code, CPU seconds, and the last line that it said."""

    name: str
    code: int
    cpu_s: float
    said: str


class Result(NamedTuple):
    name: str
    rows: int
    columns: int
    chosen: dict[str, Any]
    """what `evergreen new --json` printed"""
    steps: list[Step]


def result_of(kept: list[Any]) -> Result:
    """What JSON has of a result, which is a tuple to it."""
    name, rows, columns, chosen, steps = kept
    return Result(name, rows, columns, chosen, [Step(*step) for step in steps])


def play(name: str, given: Given, folder: Path) -> Result:
    """Everything in `folder`, each command in a process of its own, every setting at its default."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = given.rows()
    variables = os.environ | {
        "EVERGREEN_HOME": str(folder / "home"),
        "EVERGREEN_PROBLEMS": str(folder / "problems"),
        "EVERGREEN_STORE_URI": f"file://{folder / 'store'}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "KETTLE_PASSWORD": postgres.PASSWORD,
    }
    steps: list[Step] = []

    def run(*words: str) -> str:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [str(Path(sys.executable).parent / "evergreen"), *words]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, cwd=folder)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        said = [line for line in done.stderr.splitlines() if line.strip() and " INFO " not in line]
        steps.append(Step(" ".join(words[:2] if words[0] == "run" else words[:1]), done.returncode, cpu_s, _said(said)))
        print(f"  {steps[-1].name:<12} {done.returncode} {cpu_s:5.1f} s  {steps[-1].said[:150]}", flush=True)
        return done.stdout

    with _placed(rows, given, folder) as (place, more):
        printed = run("new", name, "--from", place, "--target", given.target, *more, "--yes", "--json")
        chosen = json.loads(printed) if steps[-1].code == 0 else {}
        if chosen:
            run("check", name)
            history, played = _partitions(folder / "problems" / name)
            run("run", "ingest", name, "--first", history[0], "--last", history[-1])
            run("run", "train", name)
            for key in played:
                for dag in ("ingest", "score", "monitor"):
                    run("run", dag, name, "--partition", key)
    return Result(name, rows.num_rows, rows.num_columns, chosen, steps)


def _partitions(folder: Path) -> tuple[list[str], list[str]]:
    """The history, and the partitions that are played one by one."""
    problem = parse_problem(yaml.safe_load((folder / "problem.yaml").read_text()), folder)
    last = newest(problem, come_so_far(problem), datetime.now(UTC))
    assert last is not None, "check found rows"
    keys = problem.partitions.between(problem.partitions.first_key, last)
    return keys[:-PLAYED], keys[-PLAYED:]


@contextmanager
def _placed(rows: Any, given: Given, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """What `--from` names, and what goes with it."""
    if not given.table:
        yield given.write(rows, folder), []
        return
    with postgres.running() as server:
        write_table(server.plain_uri, rows, given.table)
        yield server.uri, ["--table", given.table]


def _said(lines: list[str]) -> str:
    """The error, with its cure; else the last line."""
    for place, line in enumerate(lines):
        if line.startswith("error:"):
            return " ".join(part.strip() for part in lines[place : place + 3])
    return lines[-1].strip() if lines else ""
