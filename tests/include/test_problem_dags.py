"""A DAG file of one problem: what it makes, and how often it reads problem.yaml."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow import settings

from include.bundle import DAG_FILE
from include.problem_dags import PROBLEMS, name_source
from pipelines import problem as problem_module
from pipelines.problem_folders import folder_of

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

KINDS = ["annotate", "ingest", "monitor", "release", "score", "train"]


@pytest.fixture
def texts_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every YAML text that is read from now on."""
    texts: list[str] = []
    parsed = problem_module._parsed

    def counted(text: str) -> object:
        texts.append(text)
        return parsed(text)

    monkeypatch.setattr(problem_module, "_parsed", counted)
    return texts


@pytest.fixture
def parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], DagBag]:
    """Reads the DAG file of the problem `good`, which has another beside it."""
    for name in ("good", "other"):
        shutil.copytree(folder_of("flight_delay"), tmp_path / "problems" / name)
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    file = tmp_path / "dags_of_problems" / PROBLEMS / "good.py"
    file.parent.mkdir(parents=True)
    file.write_text(DAG_FILE.format(name="good"))

    def parsed() -> DagBag:
        from airflow.dag_processing.dagbag import DagBag

        return DagBag(str(file))

    return parsed


def test_it_makes_the_dags_of_its_problem_and_reads_it_once(
    parse: Callable[[], DagBag], texts_read: list[str], tmp_path: Path
) -> None:
    bag = parse()
    assert not bag.import_errors
    assert sorted(bag.dags) == [f"good.{kind}" for kind in KINDS]
    assert texts_read == [(tmp_path / "problems" / "good" / "problem.yaml").read_text()]


def test_its_code_is_the_file_of_dags_that_made_it(
    parse: Callable[[], DagBag], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "dag_policy", name_source)  # plugins/airflow_local_settings.py
    dag = parse().dags["good.train"]
    assert dag.fileloc == f"{settings.DAGS_FOLDER}/train.py"
    assert str(dag.relative_fileloc).endswith("problems/good.py")


def test_a_task_makes_its_own_dag_alone(
    parse: Callable[[], DagBag], texts_read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "good.score")  # as Airflow tells a task's process
    bag = parse()
    assert list(bag.dags) == ["good.score"]
    assert len(texts_read) == 1


def test_a_broken_problem_is_an_import_error_of_its_own_file(parse: Callable[[], DagBag], tmp_path: Path) -> None:
    path = tmp_path / "problems" / "good" / "problem.yaml"
    path.write_text(path.read_text().replace("every: week", "every: year"))
    (tmp_path / "problems" / "other" / "problem.yaml").write_text("- not\n- settings\n")
    bag = parse()
    assert not bag.dags
    [(file, message)] = bag.import_errors.items()
    assert Path(file).name == "good.py"
    for part in (str(path), "partitions.every", "'year'", "next:"):
        assert part in message
    assert "other/problem.yaml" not in message
