"""Three of Airflow's components, started one by one, on SQLite.

`airflow standalone` would leave its children behind on SIGTERM and never restart a dead one. The components are
commands of the `airflow` program: this package does not load it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from pipelines.embedded.processes.health import answers, has_beaten_since, request
from pipelines.embedded.processes.home import project_root, write_private
from pipelines.embedded.processes.ports import HOST
from pipelines.embedded.processes.supervisor import SPARING, Service, Supervisor
from pipelines.errors import ServiceUnavailable

USER = "admin"

# For whoever asks the services from outside: no component logs in to Airflow, and only tasks log in to MLflow.
LOGINS_OF_CLIENTS = {"EVERGREEN_AIRFLOW_USERNAME", "EVERGREEN_AIRFLOW_PASSWORD"}
LOGINS_OF_TASKS = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
# What the api-server alone compares with what a scraper sends.
TOKENS = {"EVERGREEN_METRICS_TOKEN"}

POOLS = {"training": (2, "Trainings at once, one of a problem: another's long one keeps nobody waiting")}

# Seconds that a component waits for another's write; WAL, which Airflow turns on, lets readers go on meanwhile.
BUSY_TIMEOUT_S = 60


def environment(home: Path, ports: Mapping[str, int], secrets: Mapping[str, str]) -> dict[str, str]:
    """What airflow.cfg leaves to the deployment, for the components and for `airflow` commands in other terminals."""
    url = f"http://{HOST}:{ports['airflow']}"
    return {
        "EVERGREEN_ROOT": str(project_root()),
        "EVERGREEN_HOME": str(home),
        "EVERGREEN_AIRFLOW_URL": url,
        "EVERGREEN_AIRFLOW_USERNAME": USER,
        "EVERGREEN_AIRFLOW_PASSWORD": secrets["airflow_password"],
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW_CONFIG": str(project_root() / "airflow.cfg"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database(home)}?timeout={BUSY_TIMEOUT_S}",
        "AIRFLOW__CORE__FERNET_KEY": secrets["airflow_fernet_key"],
        "AIRFLOW__API__SECRET_KEY": secrets["airflow_api_key"],
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets["airflow_jwt_secret"],
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__PORT": str(ports["airflow"]),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        # Until a task whose worker was killed before it began is queued again: here none waits for long.
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "180",
        # Several libraries' idle threads would otherwise spin, and tasks that run side by side slow each other down.
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def database(home: Path) -> Path:
    """Airflow's metadata."""
    return home / "airflow" / "airflow.db"


def migrate(supervisor: Supervisor, home: Path, variables: Mapping[str, str]) -> None:
    """Make or migrate the database, unless this version of Airflow has done so, and set our user's password."""
    passwords = home / "airflow" / "simple_auth_manager_passwords.json.generated"
    set_password(passwords, variables["EVERGREEN_AIRFLOW_PASSWORD"])
    stamp = home / "airflow" / "migrated"
    wanted = version("apache-airflow")
    if not (database(home).exists() and stamp.exists() and stamp.read_text() == wanted):
        supervisor.run("airflow_migrate", _command("db", "migrate"), _without(variables, LOGINS_OF_CLIENTS))
        stamp.write_text(wanted)


def set_password(path: Path, password: str) -> None:
    """Set the admin's password in the file of Airflow's simple auth manager.

    Airflow makes the passwords of others that its configuration names, and they stay as they are.
    """
    passwords = json.loads(path.read_text()) if path.exists() and path.stat().st_size else {}
    write_private(path, json.dumps({**passwords, USER: password}))


def api_server(port: int, variables: Mapping[str, str]) -> Service:
    """The UI, the REST API and the API that running tasks talk to."""
    return Service(
        "airflow_api_server",
        _command("api-server"),
        {**_without(variables, LOGINS_OF_CLIENTS | LOGINS_OF_TASKS), **SPARING},
        lambda _: answers(port, "/api/v2/monitor/health"),
    )


def workers(port: int, variables: Mapping[str, str]) -> tuple[Service, Service]:
    """The scheduler, which runs the tasks too; and the DAG processor.

    There is no triggerer: tasks that wait for people do without one since Airflow 3.3, and no DAG defers anything else.
    """
    # Logs are read from the disk that all share; serving them would open a port on every network interface.
    scheduler = Service(
        "airflow_scheduler",
        _command("scheduler", "--skip-serve-logs"),
        _without(variables, LOGINS_OF_CLIENTS | TOKENS),
        lambda since: has_beaten_since(port, "scheduler", since),
    )
    processor = Service(
        "airflow_dag_processor",
        _command("dag-processor"),
        {**_without(variables, LOGINS_OF_CLIENTS | LOGINS_OF_TASKS | TOKENS), **SPARING},
        lambda since: has_beaten_since(port, "dag_processor", since),
    )
    return scheduler, processor


def make_pools(port: int, password: str) -> None:
    """Make the pools that the DAGs name; one that is there keeps the size that somebody may have given it."""
    status, body = request(port, "POST", "/auth/token", {"username": USER, "password": password})
    token = json.loads(body)["access_token"] if status == 201 else ""
    for name, (slots, description) in POOLS.items():
        if request(port, "GET", f"/api/v2/pools/{name}", token=token)[0] == 200:
            continue
        pool: dict[str, str | int | bool] = {
            "name": name,
            "slots": slots,
            "description": description,
            "include_deferred": False,
        }
        status, body = request(port, "POST", "/api/v2/pools", pool, token)
        if status != 201:
            raise ServiceUnavailable(
                f"Airflow does not make the pool {name!r}: it answers {status}, {body.decode()[:200]!r}",
                where=f"http://{HOST}:{port}/api/v2/pools",
                cure="read airflow_api_server.log in the logs folder; the next start tries again",
            )


def _without(variables: Mapping[str, str], names: set[str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name not in names}


def _command(*arguments: str) -> list[str]:
    # -P: the working folder is not searched for modules; it has a folder called airflow.
    return [sys.executable, "-P", "-m", "include.component", *arguments]
