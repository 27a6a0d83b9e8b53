"""What the store keeps of each registry version, so that serving and monitoring need no registry to read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines import store
from pipelines.problem import Problem, parse_problem


def version_uri(problem: Problem, version: str, name: str) -> str:
    return store.store_uri(problem.name, "models", version, name)


def reference_uri(problem: Problem, version: str) -> str:
    return version_uri(problem, version, "reference.json")


def write_version_files(problem: Problem, version: str, files: Mapping[str, Any]) -> None:
    """Keep a version's files: bytes as they are, anything else as JSON."""
    for name, content in files.items():
        write = store.write_bytes if isinstance(content, bytes) else store.write_json
        write(version_uri(problem, version, name), content)


def version_problem(problem: Problem, version: str) -> Problem:
    """The config that a version was trained with: it goes on scoring by its own features, whatever changes since."""
    return parse_problem(store.read_json(version_uri(problem, version, "problem.json")), problem.folder)


def datasheet_uri(problem: Problem, training_set: str) -> str:
    """The page about a training set; its Markdown and its facts lie beside it."""
    return store.store_uri(problem.name, "datasheets", f"{training_set}.html")


def evaluation_uri(problem: Problem, training: str, kind: str = "json") -> str:
    """What was found out about the challenger of a training; its page lies beside it."""
    return store.store_uri(problem.name, "evaluations", f"{training}.{kind}")
