"""Airflow's settings: what is committed, and what each deployment adds."""

from __future__ import annotations

import configparser
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from include.executor import LocalExecutor
from pipelines.embedded import orchestrator
from pipelines.embedded.processes.home import load_secrets, prepare, project_root
from pipelines.embedded.processes.supervisor import Supervisor

PORTS = {"airflow": 18080}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    prepare(tmp_path)
    return tmp_path


@pytest.fixture
def variables(home: Path) -> dict[str, str]:
    return orchestrator.environment(home, PORTS, load_secrets(home))


def test_the_committed_configuration_has_no_secret_and_no_machine_in_it() -> None:
    text = (project_root() / "airflow.cfg").read_text()
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    values = {f"{section}.{name}": value for section in parser.sections() for name, value in parser[section].items()}
    assert not [name for name in values if re.search("key|secret|password|token|sql_alchemy", name)]
    assert not [value for value in values.values() if value.startswith("/") or "://" in value]
    assert not [value for value in values.values() if "#" in value or ";" in value], "comments stand on their own line"
    assert values["core.dags_folder"] == "$EVERGREEN_ROOT/dags"
    assert values["api.host"] == "127.0.0.1"
    assert values["core.load_examples"] == "False"


def test_every_secret_and_address_comes_from_the_environment(home: Path, variables: dict[str, str]) -> None:
    assert variables["AIRFLOW_HOME"] == str(home / "airflow")
    assert variables["AIRFLOW__API__BASE_URL"] == variables["EVERGREEN_AIRFLOW_URL"] == "http://127.0.0.1:18080"
    assert variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].endswith("airflow.db?timeout=60")
    for name in ("CORE__FERNET_KEY", "API__SECRET_KEY", "API_AUTH__JWT_SECRET"):
        assert len(variables[f"AIRFLOW__{name}"]) >= 32
    assert variables["OMP_WAIT_POLICY"] == "PASSIVE"


def test_the_database_is_migrated_once_for_each_version(
    home: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def record(_self: Supervisor, _name: str, argv: list[str], _environment: object) -> None:
        commands.append(argv)
        orchestrator.database(home).touch()

    monkeypatch.setattr(Supervisor, "run", record)
    for _ in range(2):
        orchestrator.migrate(Supervisor(home), home, variables)
    assert [command[-2:] for command in commands] == [["db", "migrate"]]
    orchestrator.database(home).unlink()
    orchestrator.migrate(Supervisor(home), home, variables)
    (home / "airflow" / "migrated").write_text("0.0")
    orchestrator.migrate(Supervisor(home), home, variables)
    assert len(commands) == 3


def test_the_one_login_is_ours(home: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "run", lambda *_: orchestrator.database(home).touch())
    orchestrator.migrate(Supervisor(home), home, variables)
    path = home / "airflow" / "simple_auth_manager_passwords.json.generated"
    assert json.loads(path.read_text()) == {"admin": variables["EVERGREEN_AIRFLOW_PASSWORD"]}
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(json.dumps({"admin": "of an earlier start", "ann": "that Airflow made for a viewer"}))
    orchestrator.migrate(Supervisor(home), home, variables)
    kept = {"admin": variables["EVERGREEN_AIRFLOW_PASSWORD"], "ann": "that Airflow made for a viewer"}
    assert json.loads(path.read_text()) == kept


def test_no_component_opens_a_port_of_its_own(variables: dict[str, str]) -> None:
    scheduler, processor = orchestrator.workers(18080, variables)
    assert (scheduler.name, processor.name) == ("airflow_scheduler", "airflow_dag_processor")
    assert "--skip-serve-logs" in scheduler.argv


def test_servers_share_heaps_and_tasks_have_their_own(variables: dict[str, str]) -> None:
    scheduler, processor = orchestrator.workers(18080, variables)
    for server in (processor, orchestrator.api_server(18080, variables)):
        assert server.environment["MALLOC_ARENA_MAX"] == "2"
    assert "MALLOC_ARENA_MAX" not in scheduler.environment


def test_a_component_gets_no_login_that_it_does_not_use(variables: dict[str, str]) -> None:
    variables |= {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "of MLflow"}
    scheduler, processor = orchestrator.workers(18080, variables)
    api_server = orchestrator.api_server(18080, variables)
    for service in (scheduler, processor, api_server):
        assert variables["EVERGREEN_AIRFLOW_PASSWORD"] not in service.environment.values()
    assert scheduler.environment["MLFLOW_TRACKING_PASSWORD"] == "of MLflow"  # its tasks log in
    assert "of MLflow" not in {*processor.environment.values(), *api_server.environment.values()}


def test_the_executor_and_the_fork_server_are_the_ones_that_are_there() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(project_root() / "airflow.cfg")
    assert parser["core"]["executor"] == f"{LocalExecutor.__module__}.{LocalExecutor.__name__}"
    assert parser["scheduler"]["mp_start_method"] == "forkserver"
    assert find_spec(parser["scheduler"]["mp_forkserver_preload"])
