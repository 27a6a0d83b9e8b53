"""All DAGs of the project, parsed once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

DAGS = Path(__file__).resolve().parents[2] / "dags"


@pytest.fixture(scope="session")
def parse() -> Callable[[], DagBag]:
    def parsed() -> DagBag:
        from airflow.dag_processing.dagbag import DagBag

        return DagBag(str(DAGS))

    return parsed


@pytest.fixture(scope="session")
def bag(parse: Callable[[], DagBag]) -> DagBag:
    return parse()
