"""How a problem stands is written down where the Health page finds it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pipelines import store
from pipelines.errors import EvergreenError
from pipelines.handoffs.ingestion import Reach
from pipelines.health.document import Health, History
from pipelines.health.history import history_of
from pipelines.health.shelf import HEALTH, HISTORY, find, kept_uri
from pipelines.health.state import health_of
from pipelines.problem import Problem, load_problem

TRIES = 3

log = logging.getLogger(__name__)


def keep(problem: Problem, reach: Mapping[str, Reach] | None = None) -> Health:
    """Derive how a problem stands now, and leave it in the store; `reach`: what an ingest has read of its sources.

    Who looked earlier and writes later finds that the ledger has gone on, and looks again.
    """
    history = find(History, problem.name)
    for _ in range(TRIES):
        with store.task():  # as it is now, whatever the running task has opened before
            version = store.table_version(problem, "ledger")
            history = history_of(problem, history, reach)
            health = health_of(problem, history=history)
            store.write_bytes(kept_uri(problem.name, HISTORY), history.model_dump_json().encode())
            store.write_bytes(kept_uri(problem.name, HEALTH), health.model_dump_json().encode())
            store.refresh(problem, "ledger")
            if store.table_version(problem, "ledger") == version:
                break
    return health


def kept_or_derived(problem: Problem) -> Health:
    """As `keep`; who may only read the store is told all the same."""
    try:
        return keep(problem)
    except EvergreenError:
        return derived(problem)


def derived(problem: Problem) -> Health:
    """How a problem stands now; nothing is written."""
    try:
        before = find(History, problem.name)
    except EvergreenError:  # what it has of sources is missed; all else is derived
        before = None
    return health_of(problem, history=history_of(problem, before))


def try_to_keep(problem_name: str, reach: Mapping[str, Reach] | None = None) -> None:
    """As `keep`; where it fails, the page goes on showing what it had, and how old it is: no work is lost for it."""
    try:
        keep(load_problem(problem_name), reach)
    except Exception as error:  # whatever it is, what was asked for has been done
        log.warning("how %s stands was not written down: %s", problem_name, error)
