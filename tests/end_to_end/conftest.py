"""The embedded default, for real: booted once on free ports, over a small copy of the default problem."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from pipelines.cli.airflow_client import AirflowClient
from pipelines.embedded import Embedded
from pipelines.problem import ROOT, Problem, load_problem
from tests.object_store import HOME, installed
from tests.stages import test_tasks

PROBLEM = "flight_delay"
AIRFLOW = ("api_server", "dag_processor", "scheduler")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def write_problem(folder: Path) -> None:
    """The default problem with six weeks of history, a quick model, and a policy that soon asks for a retraining."""
    shutil.copytree(ROOT / "include" / "problems" / PROBLEM, folder / PROBLEM)
    path = folder / PROBLEM / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["replay"] = {"history_until": "2013-02-04", "until": "2013-02-25"}
    raw["dataset"]["split"] = {"validation_partitions": 1, "test_partitions": 1}
    quick = {"n_estimators": 60, "learning_rate": 0.1, "min_child_weight": 20, "colsample_bytree": 0.6}
    raw["training"]["candidates"]["xgboost"]["parameters"] |= quick
    raw["training"]["select_by"] = "log_loss"
    raw["gate"]["limits"]["auc"] = {"min": 0.51}
    raw["gate"]["gain_over_baselines"] = {"auc": -0.2, "log_loss": -0.2}
    raw["gate"]["gain_over_champion"] = {"auc": -0.3, "log_loss": -0.3}
    raw["gate"]["slices"] = None
    raw["gate"]["max_prediction_shift"] = None  # one week of February is seldom like the weeks before
    raw["validation"]["expectation_rows"] = 300  # as in tests/stages: the rules are what it costs, and tests
    raw["scoring"] = {"shard_rows": 4000}
    raw["monitoring"]["report_rows"] = 500
    raw["monitoring"]["policy"] |= {"updates": "scheduled", "every_partitions": 2}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """Airflow, MLflow and the object store; this process sees their environment, as a task does."""
    folder = tmp_path_factory.mktemp("services")
    write_problem(folder / "problems")
    for name in test_tasks.TASKS:
        test_tasks.write_problem(name, folder / "problems")
    home = HOME.with_name("end_to_end")  # apart from the stores that other tests start meanwhile
    if home.exists():
        shutil.rmtree(home)
    (home / "object_store").mkdir(parents=True)
    (home / "object_store" / "venv").symlink_to(installed())
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AIRFLOW", "MLFLOW", "STORE"):
            patch.setenv(f"EVERGREEN_{name}_PORT", str(free_port()))
        for name in [name for name in os.environ if name.startswith(("AIRFLOW", "AWS_", "MLFLOW_"))]:
            patch.delenv(name)
        patch.delenv("EVERGREEN_STORE_URI", raising=False)
        patch.setenv("EVERGREEN_PROBLEMS", str(folder / "problems"))
        # After which a task that was killed is missed: half of what airflow.cfg says, as a test waits for it.
        patch.setenv("AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT", "60")
        with Embedded(home) as embedded:
            embedded.start(print)
            for name, value in embedded.environment().items():
                patch.setenv(name, value)
            children = psutil.Process().children(recursive=True)
            started = {process.pid for process in children}
            named = {process.environ().get("EVERGREEN_SERVICE") for process in children}
            assert named == {"object_store", "mlflow", *(f"airflow_{part}" for part in AIRFLOW)}
            yield embedded
    left = [process for process in psutil.process_iter() if process.pid in started]
    # One that nobody has asked for its exit status has ended all the same: an orphan's new parent may never ask.
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE], "everything was stopped"


@pytest.fixture(scope="session")
def airflow(services: Embedded) -> AirflowClient:
    return AirflowClient()


@pytest.fixture(scope="session")
def problem(services: Embedded) -> Problem:
    return load_problem(PROBLEM)
