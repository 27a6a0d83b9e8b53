"""Where an ingest keeps rows between its stages."""

from __future__ import annotations

from pipelines import store
from pipelines.problem import Problem


def staging_uri(problem: Problem, first: str, last: str) -> str:
    return store.store_uri(problem.name, "staging", "ingest", f"{first}_{last}")
