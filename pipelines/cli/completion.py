"""What the shell offers after <TAB>: read from folders and files alone, as it has to be there at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pipelines.embedded import load_environment
from pipelines.errors import EvergreenError
from pipelines.problem import load_problem
from pipelines.problem_folders import problem_names

if TYPE_CHECKING:
    from pipelines.problem import Problem

MOST_PARTITIONS = 60  # that a screen shows; the newest of them


def problems(incomplete: str) -> list[str]:
    """The problems that there are: where the services run, theirs."""
    load_environment()
    return _beginning_with(incomplete, problem_names())


def stages(incomplete: str) -> list[str]:
    """DAGs, and the stages of one once its name stands there: `train`, `train.gate`."""
    from pipelines.stage_names import STAGES

    dag, dot, _ = incomplete.partition(".")
    if dot:
        return _beginning_with(incomplete, [f"{dag}.{stage}" for stage in STAGES.get(dag, ())])
    return _beginning_with(incomplete, [*STAGES])


def partitions(context: typer.Context, incomplete: str) -> list[str]:
    """Keys of the problem that was named before, as problem.yaml has them: up to the newest that has closed."""
    from datetime import UTC, datetime

    problem = _problem(context)
    if problem is None or problem.partitions.by_delivery:  # which have come, the store alone knows
        return []
    keys = _beginning_with(incomplete, problem.partitions.due(datetime.now(UTC)))
    return keys[-MOST_PARTITIONS:]


def candidates(context: typer.Context, incomplete: str) -> list[str]:
    """Candidates of the problem that was named before."""
    problem = _problem(context)
    return [] if problem is None else _beginning_with(incomplete, [*problem.training.candidates])


def versions(incomplete: str) -> list[str]:
    """`PROBLEM@`, and its versions where the store is a folder of this machine: another one would have to be asked."""
    name, at, _ = incomplete.partition("@")
    load_environment()
    if not at:
        return _beginning_with(incomplete, [f"{problem}@" for problem in problem_names()])
    from pipelines import store

    if not os.environ.get("EVERGREEN_STORE_URI", "").startswith("file://"):
        return []
    folder = Path(store.store_uri(name, "models").removeprefix("file://"))
    numbers = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return _beginning_with(incomplete, [f"{name}@{number}" for number in sorted(numbers, key=int)])


def _problem(context: typer.Context) -> Problem | None:
    load_environment()
    # An option that still waits for its value leaves the arguments before it unread.
    name = context.params.get("problem_name") or next((word for word in context.args if word in problem_names()), None)
    try:
        return load_problem(name) if name else None
    except EvergreenError:  # a shell that completes is no place to say what is wrong
        return None


def _beginning_with(incomplete: str, words: list[str]) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]
