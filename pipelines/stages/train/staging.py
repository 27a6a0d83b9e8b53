"""Where a training hands on rows between its tasks."""

from __future__ import annotations

from pipelines import store
from pipelines.problem import Problem


def staging_uri(problem: Problem, training: str) -> str:
    """What one training hands on between its tasks."""
    return store.store_uri(problem.name, "staging", "train", training)


def labelled_uri(problem: Problem, training: str) -> str:
    """Rows of `label`."""
    return f"{staging_uri(problem, training)}/labelled"
