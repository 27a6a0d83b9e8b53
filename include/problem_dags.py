"""The DAGs of one problem, made by the files of dags/: what each DAG file of `include.bundle` calls."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

from airflow import settings
from airflow.sdk import get_parsing_context

from include.wiring import only
from pipelines.stage_names import STAGES

BROKEN = "broken_problems"
FILES = (BROKEN, *STAGES)
"""Names of the files in dags/ that make DAGs of problems."""
PROBLEMS = "problems"
"""The folder that holds a DAG file for each of them."""


def make_dags(problem: str) -> None:
    """Make the DAGs of a problem, whose problem.yaml is read once. A task's process makes the task's DAG alone.

    Raises:
        ConfigError: its problem.yaml is wrong.
    """
    with only(problem):
        for path in _wanted():
            _run(path)


def name_source(dag: Any) -> None:
    """Have Airflow's page *Code* show the file of dags/ that made a DAG, and not the lines that had it made."""
    kind = dag.dag_id.rpartition(".")[2]
    if kind in STAGES and Path(dag.fileloc).parent.name == PROBLEMS:
        dag.fileloc = str(_source(kind))


def _source(name: str) -> Path:
    return Path(settings.DAGS_FOLDER, f"{name}.py")


def _wanted() -> Iterator[Path]:
    wanted = (get_parsing_context().dag_id or "").rpartition(".")[2]
    for name in FILES:
        if wanted not in STAGES or name in (wanted, BROKEN):
            yield _source(name)


def _run(path: Path) -> None:
    """As Python's import does it, so that it is compiled once, but each time that it is asked for."""
    name = f"evergreen_dags_{path.stem}"
    loader = SourceFileLoader(name, str(path))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = sys.modules[name] = module_from_spec(spec)
    loader.exec_module(module)
