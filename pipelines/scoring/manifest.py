"""Where it stands that a partition has been scored."""

from __future__ import annotations

from pipelines import store
from pipelines.problem import Problem


def manifest_uri(problem: Problem, partition: str) -> str:
    """What says that a partition has been scored, and by which version."""
    return store.store_uri(problem.name, "predictions_manifest", f"{partition}.json")
