"""When the DAG processor is asked to read the DAG files again, in a database of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.models.dagbag import DagPriorityParsingRequest
from sqlalchemy import create_engine, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from include import bundle
from pipelines.embedded.processes.home import project_root

DAG = "from airflow.sdk import DAG\n"


@pytest.fixture
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sessionmaker[Session]:
    engine = create_engine(f"sqlite:///{tmp_path / 'airflow.db'}")
    DagPriorityParsingRequest.__table__.create(engine)  # type: ignore[attr-defined]
    made = sessionmaker(engine)
    monkeypatch.setattr(bundle, "create_session", made.begin)
    return made


@pytest.fixture
def dags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    problem = tmp_path / "problems" / "kettles"
    problem.mkdir(parents=True)
    (problem / "problem.yaml").write_text("key: kettle_id\n")
    (problem / "orders.csv").write_text("1\n")
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(problem.parent))
    folder = tmp_path / "dags"
    folder.mkdir()
    for name in ("ingest.py", "train.py"):
        (folder / name).write_text(DAG)
    (folder / "helper.py").write_text("ANSWER = 42\n")
    return folder


@pytest.fixture
def asked(dags: Path, sessions: sessionmaker[Session]) -> Callable[[], list[str]]:
    """Refreshes the bundle, and gives the files that this asks for."""
    folder = bundle.DagsFolder(name="dags-folder", path=str(dags))
    folder.refresh()

    def refreshed() -> list[str]:
        folder.refresh()
        with sessions.begin() as session:
            requests = session.scalars(select(DagPriorityParsingRequest)).all()
            files = sorted(request.relative_fileloc for request in requests)
            session.execute(delete(DagPriorityParsingRequest))
        return files

    return refreshed


def test_nothing_is_read_again_while_nothing_has_changed(asked: Callable[[], list[str]], dags: Path) -> None:
    assert asked() == []
    (dags.parent / "problems" / "kettles" / "orders.csv").write_text("1\n2\n")
    assert asked() == []


@pytest.mark.parametrize(
    "path",
    ["problems/kettles/problem.yaml", "problems/kettles/events.sql", "problems/new/problem.yaml", "dags/helper.py"],
)
def test_an_edit_asks_for_every_dag_file_once(asked: Callable[[], list[str]], dags: Path, path: str) -> None:
    edited = dags.parent / path
    edited.parent.mkdir(exist_ok=True)
    edited.write_text("# edited\n")
    assert asked() == ["ingest.py", "train.py"]
    assert asked() == []


def test_an_edit_that_keeps_the_size_and_a_removal_count_too(asked: Callable[[], list[str]], dags: Path) -> None:
    problem = dags.parent / "problems" / "kettles" / "problem.yaml"
    problem.write_text("key: bottle_id\n")
    os.utime(problem, (1, 1))
    assert asked() == ["ingest.py", "train.py"]
    problem.unlink()
    assert asked() == ["ingest.py", "train.py"]


def test_what_could_not_be_asked_for_is_asked_for_at_the_next_refresh(
    asked: Callable[[], list[str]], dags: Path, sessions: sessionmaker[Session]
) -> None:
    with sessions.begin() as session:
        session.add(DagPriorityParsingRequest("dags-folder", "train.py"))
    (dags.parent / "problems" / "kettles" / "problem.yaml").write_text("key: teapot_id\n")
    with pytest.raises(IntegrityError):
        asked()
    with sessions.begin() as session:
        session.execute(delete(DagPriorityParsingRequest))
    assert asked() == ["ingest.py", "train.py"]


def test_the_configuration_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.configuration import conf

    text = (project_root() / "airflow.cfg").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("dag_bundle_config_list = ")]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", line.partition(" = ")[2])
    assert conf.getint("dag_processor", "refresh_interval") > 0
    assert isinstance(DagBundlesManager().get_bundle("dags-folder"), bundle.DagsFolder)
