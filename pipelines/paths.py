"""Where each file of a problem lies in the store."""

from __future__ import annotations

from pipelines import store
from pipelines.problem import Problem


def version_uri(problem: Problem, version: str, name: str) -> str:
    return store.store_uri(problem.name, "models", version, name)


def reference_uri(problem: Problem, version: str) -> str:
    return version_uri(problem, version, "reference.json")


def datasheet_uri(problem: Problem, training_set: str) -> str:
    """The page about a training set; its Markdown and its facts lie beside it."""
    return store.store_uri(problem.name, "datasheets", f"{training_set}.html")


def evaluation_uri(problem: Problem, training: str, kind: str = "json") -> str:
    """What was found out about the challenger of a training; its page lies beside it."""
    return store.store_uri(problem.name, "evaluations", f"{training}.{kind}")


def manifest_uri(problem: Problem, partition: str) -> str:
    """What says that a partition has been scored, and by which version."""
    return store.store_uri(problem.name, "predictions_manifest", f"{partition}.json")
