"""What the store keeps of each registry version, so that serving and monitoring need no registry to read it."""

from __future__ import annotations

from typing import Any

from pipelines import store
from pipelines.problem import Problem, parse_problem


def reference_uri(problem: Problem, version: str) -> str:
    return store.store_uri(problem.name, "models", version, "reference.json")


def problem_uri(problem: Problem, version: str) -> str:
    return store.store_uri(problem.name, "models", version, "problem.json")


def write_version_files(problem: Problem, version: str, *, problem_json: Any, reference_json: Any) -> None:
    store.write_json(problem_uri(problem, version), problem_json)
    store.write_json(reference_uri(problem, version), reference_json)


def version_problem(problem: Problem, version: str) -> Problem:
    """The config that a version was trained with: it goes on scoring by its own features, whatever changes since."""
    return parse_problem(store.read_json(problem_uri(problem, version)), problem.folder)


def datasheet_uri(problem: Problem, training_set: str) -> str:
    """The page about a training set; its Markdown lies beside it."""
    return store.store_uri(problem.name, "datasheets", f"{training_set}.html")
