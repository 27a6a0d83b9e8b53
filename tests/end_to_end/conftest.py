"""The embedded default, for real: booted once on free ports, over a small copy of the default problem.

With `--stack` it is the full stack instead (docs/howto/machines.md): Celery workers on hosts of their own, PostgreSQL,
Redis. What is asserted is the same.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from xdist.scheduler import LoadScopeScheduling

from pipelines.cli import airflow_client
from pipelines.cli.airflow_client import AirflowClient
from pipelines.embedded import Embedded
from pipelines.embedded.stack import Stack
from pipelines.problem import ROOT, Problem, load_problem
from tests.flights import use_first_months
from tests.made_once import shared
from tests.object_store import HOME, installed
from tests.stages import test_tasks
from tests.stages.release import test_whole

PROBLEM = "flight_delay"
NUMBERS = "parcels_of_numbers"
AIRFLOW = ("api_server", "dag_processor", "scheduler")
WORKERS = 2  # hosts of the full stack
ALONE = ("test_decisions", "test_loop")  # each goes on for minutes; all other files together take as long as one
# Variables of other services than ours. How we talk to MLflow (`pipelines.tracking`) stays: without it a client asks
# the store for models by addresses that only MLflow itself reaches.
FOREIGN = ("AIRFLOW", "AWS_", "MLFLOW_TRACKING_", "EVERGREEN_STORE_URI")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stack", action="store_true", help="end to end on the full stack, not the embedded default")


class ByLength(LoadScopeScheduling):
    """Three parts that take about the same time, each for a process of its own: they wait more than they work."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0]).stem
        return file if file in ALONE else "the others"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return ByLength(config, log)


def fetch(url: str, **given: Any) -> httpx.Response:
    """A page; five seconds, as by default, are few where three processes test at once."""
    return httpx.get(url, timeout=60, **given)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def write_problem(folder: Path) -> None:
    """The default problem with six weeks of history, a quick model, and a policy that soon asks for a retraining."""
    shutil.copytree(ROOT / "include" / "problems" / PROBLEM, folder / PROBLEM)
    path = folder / PROBLEM / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    use_first_months(raw, path.parent, 4)
    raw["replay"] = {"history_until": "2013-02-04", "until": "2013-02-25"}
    raw["dataset"]["split"] = {"validation_partitions": 1, "test_partitions": 1}
    quick = {"n_estimators": 60, "learning_rate": 0.1, "min_child_weight": 20, "colsample_bytree": 0.6}
    raw["training"]["candidates"]["xgboost"]["parameters"] |= quick
    # A task more for each candidate of each training, one after the other; what they are made of is for tests/training.
    raw["training"]["candidates"] = {name: raw["training"]["candidates"][name] for name in ("prior", "xgboost")}
    raw["training"] |= {"baselines": ["prior"], "select_by": "log_loss"}
    raw["evaluation"]["bootstrap"] = {"resamples": 100}
    raw["gate"]["limits"]["auc"] = {"min": 0.51}
    raw["gate"]["gain_over_baselines"] = {"auc": -0.2, "log_loss": -0.2}
    raw["gate"]["gain_over_champion"] = {"auc": -0.3, "log_loss": -0.3}
    raw["gate"]["slices"] = None
    raw["gate"]["max_prediction_shift"] = None  # one week of February is seldom like the weeks before
    raw["validation"]["expectation_rows"] = 300  # as in tests/stages: the rules are what it costs, and tests
    raw["scoring"] = {"shard_rows": 4000}
    raw["monitoring"]["report_rows"] = 500
    del raw["release"]  # test_release.py is about the way from the gate to serving
    raw["monitoring"]["policy"] |= {"updates": "scheduled", "every_partitions": 2}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


def boot(folder: Path, home: Path, *, is_stack: bool) -> Embedded | Stack:
    """Airflow, MLflow and the object store on free ports, over the problems in `folder`."""
    write_problem(folder)
    test_tasks.write_problem(NUMBERS, folder)
    test_whole.write_problem(folder, approval={"when": "promote", "hours": 1})
    if home.exists():
        shutil.rmtree(home)
    store = home / ("volumes/s3" if is_stack else "object_store")
    store.mkdir(parents=True)
    (store / "venv").symlink_to(installed())
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AIRFLOW", "MLFLOW", "STORE"):
            patch.setenv(f"EVERGREEN_{name}_PORT", str(free_port()))
        for name in [name for name in os.environ if name.startswith(FOREIGN)]:
            patch.delenv(name)
        patch.setenv("EVERGREEN_PROBLEMS", str(folder))
        # These are the embedded default's: services of the stack have what docker-compose.yaml gives them alone.
        # After which a task that was killed is missed: half of what airflow.cfg says, as a test waits for it.
        patch.setenv("AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT", "60")
        # Three tests wait at once, and are not who `make test` waits for: to look less often leaves more to the others.
        patch.setenv("AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME", "0.5")
        patch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "3")
        services = Stack(home, WORKERS) if is_stack else Embedded(home)
        services.start(print)
    return services


def services_of(processes: list[psutil.Process]) -> set[str]:
    """Of which services they are. A fork that has just ended is of none: nobody can read its environment any more."""
    names = set()
    for process in processes:
        with suppress(psutil.Error):
            names.add(process.environ().get("EVERGREEN_SERVICE"))
    return names - {None}


@contextmanager
def running(folder: Path, home: Path, *, is_stack: bool) -> Iterator[Embedded | Stack]:
    """The services while they are needed; each of them is there, and none is left."""
    with boot(folder, home, is_stack=is_stack) as services:
        if isinstance(services, Stack):
            wanted = services.places.keys() - {"init"}  # it ends once it has made the tables
        else:
            wanted = {"object_store", "mlflow", *(f"airflow_{part}" for part in AIRFLOW)}
        children = psutil.Process().children(recursive=True)
        started = {process.pid for process in children}
        assert services_of(children) == wanted
        yield services
    left = [process for process in psutil.process_iter() if process.pid in started]
    # One that nobody has asked for its exit status has ended all the same: an orphan's new parent may never ask.
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE], "everything was stopped"


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[None]:
    """The services, and their environment, as a task sees it. Test processes that run side by side share them: the
    first that needs them starts them, and stops them when no other process needs them any more."""
    folder = shared(tmp_path_factory)
    environment = folder / "services.json"
    with ExitStack() as resources:
        change, use = (resources.enter_context((folder / f"services.{name}").open("w")) for name in ("change", "use"))
        fcntl.flock(change, fcntl.LOCK_EX)
        is_ours = not environment.exists()
        if is_ours:
            # Apart from the stores that other tests start meanwhile.
            home = HOME.with_name("end_to_end")
            is_stack = pytestconfig.getoption("--stack", default=False)  # where only other tests were named
            started = resources.enter_context(running(folder / "problems", home, is_stack=is_stack))
            environment.write_text(json.dumps(started.environment()))
        fcntl.flock(use, fcntl.LOCK_SH)
        fcntl.flock(change, fcntl.LOCK_UN)
        patch = resources.enter_context(pytest.MonkeyPatch.context())
        # Nobody watches: the end of a run tells of all its tasks. What a look costs the server, the tasks wait for.
        patch.setattr(airflow_client, "TASKS_EVERY_S", 10.0)
        patch.setattr(airflow_client, "LOOK_EVERY_S", 2.0)
        for name in [name for name in os.environ if name.startswith(FOREIGN)]:
            patch.delenv(name)
        patch.setenv("EVERGREEN_PROBLEMS", str(folder / "problems"))
        for name, value in json.loads(environment.read_text()).items():
            patch.setenv(name, value)
        yield
        if is_ours:
            fcntl.flock(change, fcntl.LOCK_EX)  # who comes from now on starts services of its own
            fcntl.flock(use, fcntl.LOCK_EX)
            environment.unlink()


@pytest.fixture(scope="session")
def airflow(services: None) -> AirflowClient:
    return AirflowClient()


@pytest.fixture(scope="session")
def problem(services: None) -> Problem:
    return load_problem(PROBLEM)
