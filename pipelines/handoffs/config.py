"""A run has one config: what it began with is what it ends with, whatever problem.yaml says meanwhile.

The first stage of a run pins the config, under its hash; every later stage of the run asks for it by that hash. Who is
told of a run is no part of it: alerts go where problem.yaml says now.
"""

from __future__ import annotations

import hashlib
import json
import logging

from pipelines import store
from pipelines.errors import ConfigError
from pipelines.handoffs.base import HandOff
from pipelines.paths import config_uri
from pipelines.problem import Problem, load_problem, resolve

log = logging.getLogger(__name__)


def pin(problem: Problem) -> str:
    """Keep the config for the later stages of a run; gives its hash. Safe to repeat."""
    content = _content(problem)
    config_hash = _hash(content)
    store.write_bytes(config_uri(problem.name, config_hash), content)
    return config_hash


def problem_of(problem_name: str, handed_on: HandOff) -> Problem:
    """The problem as it was when the run of this hand-off began; see `pinned_problem`."""
    return pinned_problem(problem_name, handed_on.config)


def pinned_problem(problem_name: str, config: str | None) -> Problem:
    """The problem as it was when a run began, by the hash that `pin` gave then.

    Raises:
        ConfigError: the run began before configs were pinned (None), and problem.yaml is wrong now.
    """
    if config is None:
        return load_problem(problem_name)
    try:
        problem = load_problem(problem_name)
        if _hash(_content(problem)) == config:
            return problem
        log.warning("%s: its config has changed; this run goes on with the one it began with", problem_name)
    except ConfigError:  # a wrong edit stops the next run, not this one
        log.warning("%s: its config is wrong now; this run goes on with the one it began with", problem_name)
    return resolve(store.read_json(config_uri(problem_name, config)), problem_name)


def _content(problem: Problem) -> bytes:
    """In the config's own order: that of the features counts, as a fit draws among its columns by their place."""
    return json.dumps(problem.resolved(), indent=1).encode()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
