"""Airflow, MLflow and the object store: whether they run, take these credentials, and show the same time."""

from __future__ import annotations

import importlib.metadata
import os
import tomllib
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

import httpx

from pipelines import store, tracking
from pipelines.embedded.processes.home import log_path, read_environment, supervisor_of
from pipelines.embedded.processes.ports import holder, is_free
from pipelines.embedded.processes.supervisor import marked
from pipelines.errors import AccessError, ServiceUnavailable
from pipelines.maintenance.finding import Finding, Said, Unchecked
from pipelines.problem import ROOT

TIMEOUT_S = 10.0
MOST_SKEW_S = 60.0  # S3 refuses requests of a clock that is 15 minutes off; ledger and labels go by it before
START = "`evergreen up` starts the embedded ones"
STORE, TRACKING, AIRFLOW = "object store", "MLflow", "Airflow"
# A path that answers without a login, by the variable that says where the service is.
PLACES = {
    "EVERGREEN_STORE_URI": (STORE, "AWS_ENDPOINT_URL", "/healthcheck", "object_store"),
    "MLFLOW_TRACKING_URI": (TRACKING, "MLFLOW_TRACKING_URI", "/health", "mlflow"),
    "EVERGREEN_AIRFLOW_URL": (AIRFLOW, "EVERGREEN_AIRFLOW_URL", "/api/v2/monitor/health", "airflow_api_server"),
}


class Service(NamedTuple):
    """A service that the environment names."""

    name: str
    variable: str
    """That says where it is."""
    is_named: bool
    """False: nothing says where it is."""
    url: str
    """Empty: it is a folder or a file of this machine, or a service without an address of its own."""
    path: str
    log: str
    is_embedded: bool


class Answer(NamedTuple):
    """What a service said to a request without a login."""

    service: Service
    response: httpx.Response | None
    """None: it does not answer."""
    asked: float
    """Unix seconds."""


def services(home: Path) -> list[Service]:
    """The services that the environment names, those of `home` among them."""
    saved = read_environment(home)
    return [
        Service(
            name,
            place,
            bool(os.environ.get(place)),
            "" if os.environ.get(place, "").startswith(("file:", "sqlite:")) else _address(variable),
            path,
            log,
            os.environ.get(place) == saved.get(place, ""),
        )
        for place, (name, variable, path, log) in PLACES.items()
    ]


def ask(service: Service, now: float) -> Answer:
    """One request, whatever the answer is."""
    try:
        # A store of others need not know the path: any answer says that it is there, and has a date.
        response = httpx.get(f"{service.url}{service.path}", timeout=TIMEOUT_S, trust_env=not service.is_embedded)
    except httpx.TransportError:
        response = None
    return Answer(service, response, now)


def running(home: Path, answers: list[Answer]) -> Iterator[Said]:
    """Whether each service runs that ought to."""
    supervisor = supervisor_of(home)
    if supervisor is None and (left := marked(home)):
        pids = ", ".join(str(process.pid) for process in left)
        what = f"nobody supervises them, and {len(left)} processes of the embedded services run: {pids}"
        yield Finding("processes left behind", str(home), what, "evergreen down")
    for service, response, _ in answers:
        if response is not None:
            continue
        if service.is_embedded and supervisor is not None:
            port = httpx.URL(service.url).port or 0
            taken = holder(port) if _is_taken(port) else "nobody"
            what = f"{service.name} does not answer, though the embedded services are up; {taken} listens on its port"
            cure = f"read {log_path(home, service.log)}; `evergreen down`, then `evergreen up`"
            yield Finding("service down", service.url, what, cure)
        elif service.is_embedded:
            yield Unchecked(service.url, f"{service.name} is not running", "evergreen up")
        else:
            yield Finding("service down", service.url, f"{service.name} does not answer", "start it, or see why not")


def components(answers: list[Answer]) -> Iterator[Said]:
    """Whether Airflow's own components are alive, as it sees them."""
    for service, response, _ in answers:
        if service.name != AIRFLOW or response is None or response.status_code != 200:
            continue
        for component, health in response.json().items():
            if health.get("status") not in ("healthy", None):  # what was never started has no status
                beat = health.get(f"latest_{component}_heartbeat") or "never"
                what = f"Airflow's {component} is {health['status']}; it was last heard of: {beat}"
                log = "the folder logs" if service.is_embedded else "its log"
                yield Finding("component down", service.url, what, f"read airflow_{component} in {log}; start it again")


def clocks(answers: list[Answer]) -> Iterator[Said]:
    """Whether this machine and the services show the same time."""
    for service, response, asked in answers:
        if response is None or "date" not in response.headers:
            continue
        skew = parsedate_to_datetime(response.headers["date"]).timestamp() - asked
        if abs(skew) > MOST_SKEW_S:
            side = "ahead of" if skew > 0 else "behind"
            what = f"the clock of {service.name} is {abs(skew):,.0f} s {side} that of this machine"
            cure = "let both follow a time server (`timedatectl set-ntp true`); an S3 server refuses 15 minutes"
            yield Finding("clock skew", service.url, what, cure)


def store_login() -> Iterator[Said]:
    """Whether the store takes the credentials."""
    store.exists(store.store_uri("doctor"))
    yield from ()


def tracking_login() -> Iterator[Said]:
    """Whether MLflow takes the credentials."""
    tracking.check_login()
    yield from ()


def dag_files(token: str) -> Iterator[Said]:
    """DAG files that Airflow cannot read."""
    url = os.environ.get("EVERGREEN_AIRFLOW_URL", "").rstrip("/")
    for broken in _asked(url, "/api/v2/importErrors", token, {"limit": "100"})["import_errors"]:
        lines = str(broken["stack_trace"]).strip().splitlines()
        where = str(broken.get("filename") or url)
        yield Finding("DAG file broken", where, lines[-1] if lines else "no reason given", "evergreen check --quick")


def airflow_token() -> str:
    """Leave to ask Airflow.

    Raises:
        AccessError: it does not take the login.
        ServiceUnavailable: it does not answer.
    """
    url = os.environ.get("EVERGREEN_AIRFLOW_URL", "").rstrip("/")
    login = {key: os.environ.get(f"EVERGREEN_AIRFLOW_{key.upper()}", "") for key in ("username", "password")}
    try:
        response = httpx.post(f"{url}/auth/token", json=login, timeout=TIMEOUT_S, trust_env=False)
    except httpx.TransportError as error:
        raise _silent(url) from error
    if response.status_code != 201:
        raise AccessError(
            f"Airflow refused the credentials ({response.status_code})",
            where=url,
            cure="check EVERGREEN_AIRFLOW_USERNAME and EVERGREEN_AIRFLOW_PASSWORD",
        )
    return str(response.json()["access_token"])


def active_dags(token: str) -> set[str]:
    """DAGs that have a run which is under way or waits for its turn."""
    url = os.environ.get("EVERGREEN_AIRFLOW_URL", "").rstrip("/")
    runs = _asked(url, "/api/v2/dags/~/dagRuns", token, {"state": ["running", "queued"], "limit": "100"})["dag_runs"]
    return {str(run["dag_id"]) for run in runs}


def versions(home: Path) -> Iterator[Said]:
    """Whether what is installed is what uv.lock says, and the databases were made for it."""
    lock = ROOT / "uv.lock"
    if lock.is_file():
        wrong = _unlocked(tomllib.loads(lock.read_text()))
        if wrong:
            what = "installed is another version than the lock file has: " + "; ".join(wrong)
            yield Finding("version differs from the lock", str(lock), what, "uv sync --frozen, then start again")
    stamp = home / "airflow" / "migrated"
    installed = importlib.metadata.version("apache-airflow")
    if stamp.exists() and stamp.read_text() != installed and supervisor_of(home) is not None:
        what = f"Airflow's database is of version {stamp.read_text()}, and installed is {installed}"
        yield Finding("database of another version", str(stamp), what, "evergreen down, then evergreen up: it migrates")


def _unlocked(lock: Mapping[str, list[dict[str, object]]]) -> list[str]:
    """Direct dependencies whose installed version the lock file does not have."""
    locked: dict[str, set[str]] = {}
    wanted: list[str] = []
    for package in lock["package"]:
        locked.setdefault(str(package["name"]), set()).add(str(package.get("version", "")))
        source, dependencies = package.get("source"), package.get("dependencies", [])
        if isinstance(source, dict) and "editable" in source and isinstance(dependencies, list):
            wanted += [str(dependency["name"]) for dependency in dependencies]
    wrong = []
    for name in dict.fromkeys(wanted):
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # not for this system, or another build of it
            continue
        if installed not in locked.get(name, {installed}):
            wrong.append(f"{name} {installed}, not {' or '.join(sorted(locked[name]))}")
    return wrong


def _asked(url: str, path: str, token: str, query: dict[str, str | list[str]]) -> dict[str, list[dict[str, object]]]:
    headers = {"Authorization": f"Bearer {token}"}
    try:
        answer = httpx.get(f"{url}{path}", params=query, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise _silent(url) from error
    return dict(answer.json())


def _silent(url: str) -> ServiceUnavailable:
    return ServiceUnavailable("Airflow does not answer", where=url, cure=f"is it running? {START}")


def _address(variable: str) -> str:
    address = os.environ.get(variable, "").rstrip("/")
    return address if address.startswith(("http://", "https://")) else ""


def _is_taken(port: int) -> bool:
    return bool(port) and not is_free(port)
