"""A real PostgreSQL for the tests of sources, and a problem over one source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.postgres import PASSWORD, Postgres, running
from pipelines.problem import Problem, parse_problem


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    with running() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    monkeypatch.setenv("KETTLE_PASSWORD", PASSWORD)
    return postgres_server


SourceProblem = Callable[..., Problem]


@pytest.fixture
def kettles(toy: Callable[..., Problem], tmp_path: Path) -> SourceProblem:
    """The toy problem in a folder of its own, with one source `kettles`: kettles(path="x.csv", columns={...})."""

    def build(labels: dict[str, Any] | None = None, **source: Any) -> Problem:
        raw = toy().model_dump(mode="json") | {"sources": {"kettles": source}}
        raw["labels"] = raw["labels"] | (labels or {})
        return parse_problem(raw, tmp_path)

    return build
