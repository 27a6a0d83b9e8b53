"""What the DAGs of all problems share: which problems there are, defaults, and the clock of ingest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any

from include.alerts import failed
from include.boundary import last_word
from include.timetable import ClosedPartitions, NewDeliveries
from pipelines.config import Partitions
from pipelines.config.partitions import DELIVERY, HOUR
from pipelines.errors import ConfigError
from pipelines.problem import TAG_CHARACTERS, Problem, load_problem
from pipelines.problem_folders import place_faults, problem_names

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
"""Of a clock that runs for ever: Airflow asks for a beginning, and catches nothing up."""


class Urgency(IntEnum):
    """Which of several tasks that wait for a slot goes first, the largest number."""

    LEARNS = 0
    WATCHES = 1
    SERVES = 2


_ONLY: ContextVar[Problem | ConfigError | None] = ContextVar("only", default=None)


@contextmanager
def only(name: str) -> Iterator[None]:
    """Inside it there is this problem alone, and its problem.yaml is read once."""
    token = _ONLY.set(_load(name))
    try:
        yield
    finally:
        _ONLY.reset(token)


def problems() -> list[Problem]:
    """Every problem whose problem.yaml is right; dags/broken_problems.py shows the others."""
    return [problem for problem in _all() if isinstance(problem, Problem)]


def broken_problems() -> list[ConfigError]:
    """What is wrong with the others, and with places that were to hold problems."""
    faults = place_faults() if _ONLY.get() is None else []
    return [*faults, *(error for error in _all() if isinstance(error, ConfigError))]


def options(problem: Problem, manual: str | None, urgency: Urgency) -> dict[str, Any]:
    """Keyword arguments that every DAG of `problem` takes; `manual` is the DAG file's docstring."""
    return {
        "doc_md": manual,
        "tags": ["evergreen", problem.name, problem.owner[:TAG_CHARACTERS], *problem.tags],
        "catchup": False,
        # Partitions go through one at a time: history features and drift of one rest on those before it.
        # Runs that are asked for meanwhile wait in line, none is dropped.
        "max_active_runs": 1,
        "default_args": {
            "owner": problem.owner,
            # Airflow's default counts the tasks that are still to come, and so has trainings go before all others.
            "priority_weight": 100 * urgency + problem.scheduling.priority,
            "weight_rule": "absolute",
            "retries": 3,
            "retry_delay": timedelta(seconds=30),
            "retry_exponential_backoff": 2,
            "max_retry_delay": timedelta(minutes=10),
            "execution_timeout": timedelta(minutes=30),
            "on_failure_callback": [last_word, failed, keep_health],
            "on_retry_callback": last_word,
        },
    }


def keep_health(context: Mapping[str, Any]) -> None:
    """on_failure_callback: no later task of the run will write down how its problem stands."""
    from pipelines.health.kept import try_to_keep  # loads Arrow, which a DAG's file does without

    try_to_keep(context["ti"].dag_id.rpartition(".")[0])


def clock(partitions: Partitions) -> dict[str, Any]:
    """When ingest runs: after each partition has closed, for the partition that has just closed.

    The run of the first partition is the first, that of the last is the last: past it there is no run. Deliveries are
    looked for each day.
    """
    if partitions.by_delivery:
        return {"schedule": NewDeliveries(partitions), "start_date": LONG_AGO}
    last = partitions.last_key
    return {
        "schedule": ClosedPartitions(partitions),
        "start_date": partitions.end(partitions.first_key),
        "end_date": partitions.ingested_at(last) if last else None,
    }


def key_or_none(partitions: Partitions) -> dict[str, Any]:
    """JSON schema of a DAG's param that names a partition or none: a day, which the form offers a calendar for, or the
    key of an hour or a delivery."""
    keys = {"hour": {"pattern": f"^{HOUR}$"}, "delivery": {"pattern": f"^{DELIVERY}$"}}
    kind = keys.get(partitions.every, {"format": "date"})
    return {"type": ["null", "string"], **kind}


def _all() -> Iterable[Problem | ConfigError]:
    only_one = _ONLY.get()
    return map(_load, problem_names()) if only_one is None else [only_one]


def _load(name: str) -> Problem | ConfigError:
    try:
        return load_problem(name)
    except ConfigError as error:
        return error
