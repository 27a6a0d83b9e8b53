"""When the DAG processor is asked to read the DAG files again, in a database of its own."""

from __future__ import annotations

import os
import runpy
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow import settings
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.models import import_all_models
from airflow.models.dag import DagModel
from airflow.models.dagbag import DagPriorityParsingRequest
from airflow.models.errors import ParseImportError
from airflow.utils.file import list_py_file_paths
from sqlalchemy import create_engine, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from include import bundle
from pipelines.embedded.processes.home import project_root
from pipelines.errors import ConfigError
from pipelines.problem_folders import PROBLEM_FILES

DAG = "from airflow.sdk import DAG\n"


@pytest.fixture
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sessionmaker[Session]:
    engine = create_engine(f"sqlite:///{tmp_path / 'airflow.db'}")
    import_all_models()
    for model in (DagPriorityParsingRequest, DagModel, ParseImportError):
        model.__table__.create(engine)  # type: ignore[attr-defined]
    made = sessionmaker(engine)
    monkeypatch.setattr(bundle, "create_session", made.begin)
    return made


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With two problems in different folders, and in dags/ a file that makes DAGs of problems and two that do not."""
    for folder, name in (("problems", "kettles"), ("more", "ovens")):
        problem = tmp_path / folder / name
        problem.mkdir(parents=True)
        (problem / "problem.yaml").write_text("key: kettle_id\n")
        (problem / "orders.csv").write_text("1\n")
    monkeypatch.setenv("EVERGREEN_PROBLEMS", f"{tmp_path / 'problems'}:{tmp_path / 'more'}")
    (tmp_path / "dags").mkdir()
    for name in ("ingest.py", "own.py"):
        (tmp_path / "dags" / name).write_text(DAG)
    (tmp_path / "dags" / "helper.py").write_text("ANSWER = 42\n")
    monkeypatch.setattr(settings, "DAGS_FOLDER", str(tmp_path / "dags"))
    return tmp_path


def made(root: Path) -> bundle.DagsFolder:
    return bundle.DagsFolder(name="dags-folder", path=str(root / "files"))


def files(root: Path) -> list[str]:
    """What Airflow finds in the bundle."""
    return sorted(str(Path(path).relative_to(root / "files")) for path in list_py_file_paths(root / "files"))


@pytest.fixture
def asked(root: Path, sessions: sessionmaker[Session]) -> Callable[[], list[str]]:
    """Refreshes the bundle, and gives the files that this asks for."""
    folder = made(root)
    folder.initialize()
    folder.refresh()

    def refreshed() -> list[str]:
        folder.refresh()
        with sessions.begin() as session:
            requests = session.scalars(select(DagPriorityParsingRequest)).all()
            asked_for = sorted(request.relative_fileloc for request in requests)
            session.execute(delete(DagPriorityParsingRequest))
        return asked_for

    return refreshed


def test_each_problem_has_a_file_and_other_dags_are_there_too(
    root: Path, asked: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files(root) == ["others/own.py", "problems/kettles.py", "problems/ovens.py"]
    assert (root / "files" / "others" / "helper.py").read_text() == "ANSWER = 42\n"
    shutil.copytree(root / "more" / "ovens", root / "more" / "hobs")
    (root / "problems" / "kettles").rename(root / "problems" / "pans")
    (root / "dags" / "own.py").rename(root / "dags" / "mine.py")
    asked()
    assert files(root) == ["others/mine.py", "problems/hobs.py", "problems/ovens.py", "problems/pans.py"]
    shutil.copytree(root / "dags", root / "moved")
    monkeypatch.setattr(settings, "DAGS_FOLDER", str(root / "moved"))
    made(root).initialize()
    assert (root / "files" / "others" / "mine.py").readlink() == root / "moved" / "mine.py"


@pytest.mark.parametrize("dag_id", ["ovens.score", "own.dag"])
def test_a_task_writes_its_own_problem_s_file_alone(root: Path, monkeypatch: pytest.MonkeyPatch, dag_id: str) -> None:
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id)  # as Airflow tells a task's process
    made(root).initialize()
    assert files(root) == ["others/own.py"] + ["problems/ovens.py"] * (dag_id == "ovens.score")


def test_nothing_is_read_again_while_nothing_has_changed(asked: Callable[[], list[str]], root: Path) -> None:
    assert asked() == []
    (root / "problems" / "kettles" / "orders.csv").write_text("1\n2\n")
    assert asked() == []


def test_a_folder_that_is_gone_is_an_import_error_until_it_is_back(root: Path, asked: Callable[[], list[str]]) -> None:
    assert files(root) == ["others/own.py", "problems/kettles.py", "problems/ovens.py"]
    (root / "more").rename(root / "away")
    asked()
    (name,) = set(files(root)) - {"others/own.py", "problems/kettles.py"}
    with pytest.raises(ConfigError, match=f"there is no folder '{root / 'more'}'"):
        runpy.run_path(str(root / "files" / name))
    (root / "away").rename(root / "more")
    asked()
    assert files(root) == ["others/own.py", "problems/kettles.py", "problems/ovens.py"]


def test_each_place_is_gone_through_once_at_each_look(
    root: Path, asked: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone_through, glob = [], Path.glob

    def counted(folder: Path, pattern: str) -> Iterator[Path]:
        gone_through.append((folder, pattern))
        return glob(folder, pattern)

    monkeypatch.setattr(Path, "glob", counted)
    asked()
    assert [folder.name for folder, pattern in gone_through if pattern == PROBLEM_FILES] == ["problems", "more"]


@pytest.mark.parametrize("path", ["problems/kettles/problem.yaml", "problems/kettles/events.sql"])
def test_an_edit_of_a_problem_asks_for_its_file_once(asked: Callable[[], list[str]], root: Path, path: str) -> None:
    (root / path).write_text("# edited\n")
    assert asked() == ["problems/kettles.py"]
    assert asked() == []


def test_an_edit_in_dags_asks_for_all_files_once(asked: Callable[[], list[str]], root: Path) -> None:
    (root / "dags" / "helper.py").write_text("ANSWER = 6 * 7\n")
    assert asked() == ["others/own.py", "problems/kettles.py", "problems/ovens.py"]
    assert asked() == []


def test_a_new_problem_and_one_that_is_gone_ask_for_none(asked: Callable[[], list[str]], root: Path) -> None:
    shutil.copytree(root / "more" / "ovens", root / "more" / "hobs")
    shutil.rmtree(root / "problems" / "kettles")
    assert asked() == []
    (root / "more" / "hobs" / "problem.yaml").write_text("# edited\n")
    assert asked() == ["problems/hobs.py"]


def test_an_edit_that_keeps_the_size_and_a_second_of_the_name_count_too(
    asked: Callable[[], list[str]], root: Path
) -> None:
    problem = root / "problems" / "kettles" / "problem.yaml"
    problem.write_text("key: bottle_id\n")
    os.utime(problem, (1, 1))
    assert asked() == ["problems/kettles.py"]
    shutil.copytree(problem.parent, root / "more" / "kettles")
    assert asked() == ["problems/kettles.py"]


def test_what_could_not_be_asked_for_is_asked_for_at_the_next_refresh(
    asked: Callable[[], list[str]], root: Path, sessions: sessionmaker[Session]
) -> None:
    with sessions.begin() as session:
        session.add(DagPriorityParsingRequest("dags-folder", "problems/kettles.py"))
    (root / "problems" / "kettles" / "problem.yaml").write_text("key: teapot_id\n")
    with pytest.raises(IntegrityError):
        asked()
    with sessions.begin() as session:
        session.execute(delete(DagPriorityParsingRequest))
    assert asked() == ["problems/kettles.py"]


HOUR_S = 3600.0


@pytest.mark.parametrize(
    ("dags", "errors", "is_read"),
    [
        ([], [], False),
        ([(-1, 0.1, False)], [], False),  # before the edit
        ([(1, HOUR_S, False)], [], False),  # the reading had begun before it
        ([(1, 0.1, False)], [], True),
        ([(1, 0.1, False), (1, 0.1, True)], [], False),  # a DAG is taken for removed that was there just now
        ([(1, 0.1, False), (-1, 0.1, True)], [], True),  # one that the edit has removed
        ([(-1, 0.1, True)], [1], True),  # the edit was wrong
        ([(-1, 0.1, True)], [-1], False),
    ],
)
def test_what_airflow_has_not_read_since_it_changed_is_asked_for_again(
    asked: Callable[[], list[str]],
    sessions: sessionmaker[Session],
    monkeypatch: pytest.MonkeyPatch,
    dags: Sequence[tuple[int, float, bool]],
    errors: Sequence[int],
    is_read: bool,
) -> None:
    """Minutes after the edit, seconds that the reading took, and whether Airflow takes the DAG for removed."""
    file, now = "problems/kettles.py", datetime.now(UTC)
    assert file not in asked(), "there is a minute for it"
    monkeypatch.setattr(bundle, "PATIENCE", timedelta())
    with sessions.begin() as session:
        for number, (minutes, seconds, is_stale) in enumerate(dags):
            dag = DagModel(dag_id=f"kettles.{number}", bundle_name="dags-folder", relative_fileloc=file)
            dag.is_stale, dag.is_paused, dag.last_parse_duration = is_stale, False, seconds
            dag.last_parsed_time = now + timedelta(minutes=minutes)
            session.add(dag)
        for minutes in errors:
            at = now + timedelta(minutes=minutes)
            session.add(ParseImportError(bundle_name="dags-folder", filename=file, timestamp=at))
    for _ in range(2):
        assert (file in asked()) is not is_read


def test_the_configuration_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.configuration import conf

    text = (project_root() / "airflow.cfg").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("dag_bundle_config_list = ")]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", line.partition(" = ")[2])
    assert conf.getint("dag_processor", "refresh_interval") > 0
    assert isinstance(DagBundlesManager().get_bundle("dags-folder"), bundle.DagsFolder)
