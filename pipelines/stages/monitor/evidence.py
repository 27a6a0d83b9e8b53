"""Evidence between the monitor's stages: written once to the store by the stage that finds it, read by its URI."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel

from pipelines import store
from pipelines.handoffs.monitoring import Evidence, Profiled
from pipelines.paths import evidence_uri
from pipelines.problem import Problem

M = TypeVar("M", bound=BaseModel)


def keep(problem: Problem, handed_on: Profiled, name: str, evidence: BaseModel) -> str:
    """Write the evidence about a partition under its name; gives its URI. A repeated run writes the same place."""
    uri = evidence_uri(problem, handed_on.partition, handed_on.version, name)
    return store.write_json(uri, evidence.model_dump(mode="json"))


def read(kind: type[M], evidence: Evidence) -> M:
    """Evidence of a kind, from its URI; or as a run handed it on that began before it was kept in the store."""
    return kind.model_validate(store.read_json(evidence) if isinstance(evidence, str) else evidence)
