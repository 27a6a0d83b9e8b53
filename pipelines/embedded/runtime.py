"""The embedded services as one thing: object store, MLflow and Airflow, up and down together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from pipelines.embedded import object_store, orchestrator, tracking
from pipelines.embedded.processes.home import (
    default_home,
    drop_foreign_keys,
    load_secrets,
    save_environment,
    with_loopback,
)
from pipelines.embedded.processes.ports import HOST, reserved_ports
from pipelines.embedded.processes.services import Services
from pipelines.embedded.processes.supervisor import Progress, Supervisor
from pipelines.problem_folders import place_faults, places_for_others, problem_folders


class Endpoint(NamedTuple):
    """Where a person or a client goes, and with what login (for the object store: access key and secret key)."""

    url: str
    user: str = ""
    password: str = ""


def endpoints(known: Mapping[str, str]) -> dict[str, Endpoint]:
    """`airflow`, `mlflow` and `store`, out of the variables that a client needs."""
    return {
        "airflow": Endpoint(
            known["EVERGREEN_AIRFLOW_URL"], known["EVERGREEN_AIRFLOW_USERNAME"], known["EVERGREEN_AIRFLOW_PASSWORD"]
        ),
        "mlflow": Endpoint(
            known["MLFLOW_TRACKING_URI"], known["MLFLOW_TRACKING_USERNAME"], known["MLFLOW_TRACKING_PASSWORD"]
        ),
        "store": Endpoint(
            known.get("AWS_ENDPOINT_URL", known["EVERGREEN_STORE_URI"]),
            known.get("AWS_ACCESS_KEY_ID", ""),
            known.get("AWS_SECRET_ACCESS_KEY", ""),
        ),
    }


class Embedded(Services):
    """The services of one home folder.

    with Embedded() as services:
        services.start(print)
        os.environ.update(services.environment())
        services.wait()
    """

    def __init__(self, home: Path | None = None) -> None:
        super().__init__(home or default_home())
        self.is_new = False
        """Whether this start made the passwords."""
        self._ports: dict[str, int] = {}
        self._secrets: dict[str, str] = {}
        self._store: dict[str, str] = {}

    def start(self, progress: Progress = print) -> None:
        """As `Services.start`.

        Raises:
            ConfigError: also where EVERGREEN_PROBLEMS names packages alone and none is there, or the folder is a copy
                without extended attributes; nothing in it was touched.
        """
        faults = place_faults()
        if not problem_folders():
            raise faults[0]
        for fault in faults:
            progress(f"problems: {fault.what}; next: {fault.cure}")
        if not self._users_store():
            object_store.refuse_without_attributes(self.home)
        super().start(progress)

    def _bring_up(self, supervisor: Supervisor, progress: Progress) -> None:
        self.is_new = not (self.home / "secrets.json").exists()
        self._secrets = load_secrets(self.home)
        self._ports = self._resources.enter_context(reserved_ports(self.home))
        self._store = self._store_environment(progress)
        save_environment(self.home, self.environment())
        self._start_services(supervisor, progress)

    def environment(self) -> dict[str, str]:
        """Every variable that a client, a task or an `airflow` command needs; known once `start` is under way."""
        no_proxy = with_loopback(os.environ.get("NO_PROXY") or os.environ.get("no_proxy", ""))
        return {
            **orchestrator.environment(self.home, self._ports, self._secrets),
            **tracking.client_environment(self._ports["mlflow"], self._secrets),
            **self._store,
            **places_for_others(),
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
        }

    def urls(self) -> dict[str, Endpoint]:
        """`airflow`, `mlflow` and `store`: what the summary shows to people."""
        return endpoints(self.environment())

    @property
    def _folder(self) -> Path:
        """What takes the place of the object store where there can be none."""
        return self.home / "files"

    def _users_store(self) -> str:
        """URI of the user's own store, which the environment names; empty when it names none."""
        named = os.environ.get("EVERGREEN_STORE_URI", "")
        # A shell that has loaded the environment file of an earlier start names our store too.
        is_ours = named == self._folder.as_uri() or (
            os.environ.get("AWS_ACCESS_KEY_ID") == object_store.ACCESS_KEY
            and f"//{HOST}:" in os.environ.get("AWS_ENDPOINT_URL", "")
        )
        return "" if is_ours else named

    def _store_environment(self, progress: Progress) -> dict[str, str]:
        """The store's variables: the user's own store if the environment names one, else ours, else a folder."""
        ours = object_store.client_environment(self._ports["store"], self._secrets)
        if named := self._users_store():
            progress(f"object store: using yours, {named}")
            return {name: value for name, value in os.environ.items() if name in ours or name.startswith("AWS_")}
        reason = object_store.why_not(self.home / "object_store")
        if reason is None:
            return ours
        self._folder.mkdir(exist_ok=True)
        progress(f"object store: not started, {reason}; tables and models are kept in {self._folder.as_uri()}")
        return {"EVERGREEN_STORE_URI": self._folder.as_uri()}

    def _start_services(self, supervisor: Supervisor, progress: Progress) -> None:
        """Store, MLflow and Airflow side by side; the scheduler last, since it starts tasks that need all of them."""
        is_embedded = self._store.get("AWS_SECRET_ACCESS_KEY") == self._secrets["store_secret_key"]
        variables = dict(os.environ)
        if is_embedded:
            drop_foreign_keys(variables)
        variables |= {**self.environment(), "PYTHONUNBUFFERED": "1"}
        airflow_port, url = self._ports["airflow"], variables["EVERGREEN_AIRFLOW_URL"]
        scheduler, processor = orchestrator.workers(airflow_port, variables)
        artifacts = "s3://mlflow" if is_embedded else f"{variables['EVERGREEN_STORE_URI'].rstrip('/')}/mlflow"

        def start_store() -> None:
            if is_embedded:
                object_store.start(supervisor, self.home, self._ports["store"], self._secrets, progress)

        def start_tracking() -> None:
            port = self._ports["mlflow"]
            supervisor.start(tracking.service(self.home, port, artifacts, self._secrets, variables))
            progress(f"MLflow: ready on {variables['MLFLOW_TRACKING_URI']}")

        def start_airflow() -> None:
            orchestrator.migrate(supervisor, self.home, variables)
            supervisor.start_together([orchestrator.api_server(airflow_port, variables), processor])
            orchestrator.make_pools(airflow_port, self._secrets["airflow_password"])

        _side_by_side([start_store, start_tracking, start_airflow], on_failure=supervisor.stop)
        supervisor.start(scheduler)
        progress(f"Airflow: ready on {url}")


def _side_by_side(jobs: list[Callable[[], None]], on_failure: Callable[[], None]) -> None:
    """Run jobs in threads; the first failure (or a signal) ends the others, and is raised."""
    with ThreadPoolExecutor(max_workers=len(jobs)) as pool:
        try:
            for future in as_completed([pool.submit(job) for job in jobs]):
                future.result()
        except BaseException:
            on_failure()
            raise
