"""A small client of Airflow's REST API: trigger a run, follow it, and the runs that its assets start."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypedDict

import httpx

from pipelines.errors import AccessError, ConfigError, DataError, ServiceUnavailable

LOOK_EVERY_S, TASKS_EVERY_S = 0.5, 2.0
FINISHED = {"success", "failed", "skipped", "upstream_failed", "removed"}


class Run(TypedDict):
    """A run of a DAG, as the REST API gives it; those keys that are read."""

    dag_id: str
    dag_run_id: str
    partition_key: str | None
    state: str


class TaskInstance(TypedDict):
    """A task of a run, as the REST API gives it."""

    task_id: str
    map_index: int
    rendered_map_index: str | None
    state: str | None
    duration: float | None


class BrokenFile(TypedDict):
    """A DAG file that Airflow could not read."""

    stack_trace: str


OnTask = Callable[[Run, TaskInstance], None]


def run_path(run: Run) -> str:
    """Where the REST API keeps a run."""
    return f"/api/v2/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}"


class AirflowClient:
    """`EVERGREEN_AIRFLOW_URL`, `_USERNAME` and `_PASSWORD` say where and who; one call at a time.

    Raises (every method):
        ServiceUnavailable: Airflow does not answer.
        AccessError: it refused the credentials.
        DataError: it refused the request; the message is Airflow's.
    """

    def __init__(self) -> None:
        names = ("URL", "USERNAME", "PASSWORD")
        settings = {name: os.environ.get(f"EVERGREEN_AIRFLOW_{name}", "") for name in names}
        if not settings["URL"]:
            raise ConfigError(
                "EVERGREEN_AIRFLOW_URL is not set",
                where="environment",
                cure="start the embedded services with `evergreen up`, or point it at your Airflow",
            )
        self.url = settings["URL"].rstrip("/")
        self._login = {"username": settings["USERNAME"], "password": settings["PASSWORD"]}
        self._http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def unpause(self, dag_id: str) -> None:
        self._call("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def import_errors(self) -> list[BrokenFile]:
        return list(self._listed("/api/v2/importErrors", "import_errors", order_by="id"))

    def dag_ids(self, problem: str | None = None) -> set[str]:
        """All DAGs that Airflow has, or those of a problem."""
        filters = {"dag_id_prefix_pattern": f"{problem}."} if problem else {}
        return {dag["dag_id"] for dag in self._listed("/api/v2/dags", "dags", order_by="dag_id", **filters)}

    def runs(self, dag_id: str) -> list[Run]:
        """All runs of a DAG, oldest first."""
        return list(self._listed(f"/api/v2/dags/{dag_id}/dagRuns", "dag_runs", order_by="id"))

    def run_of(self, dag_id: str, partition: str) -> Run | None:
        """The newest run of a DAG for a partition key."""
        filters = {"partition_key_prefix_pattern": partition, "order_by": "-id", "limit": 100}
        page = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns", params=filters)
        return next((run for run in page["dag_runs"] if run["partition_key"] == partition), None)

    def trigger(
        self, dag_id: str, run_id: str, *, partition: str | None = None, conf: Mapping[str, str] | None = None
    ) -> Run:
        """Start a run; one that exists is found again, and what failed in it is cleared to run once more."""
        body = {"dag_run_id": run_id, "logical_date": None, "partition_key": partition, "conf": conf or {}}
        try:
            return self._run("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        except DataError as error:
            if not isinstance(error.__cause__, httpx.HTTPStatusError) or error.__cause__.response.status_code != 409:
                raise
        return self.resume(self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"))

    def resume(self, run: Run) -> Run:
        """Clear what failed in a run, so that it goes on; a run that did not fail is left alone."""
        if run["state"] != "failed":
            return run
        path = run_path(run)
        self._call("POST", f"{path}/clear", json={"dry_run": False, "only_failed": True})
        return self._run("GET", path)

    def follow(self, run: Run, on_task: OnTask, timeout_s: float, until: str | None = None) -> Run:
        """Wait for the end of a run, or for the good end of its task `until`; gives the run as it then is.

        `on_task` hears of each task that ends, of all that ended before too.

        Raises:
            ServiceUnavailable: the run has not ended in `timeout_s` seconds.
        """
        path = run_path(run)
        printed: set[tuple[str, int]] = set()
        end = time.monotonic() + timeout_s
        look = 0.0
        while True:
            run = self._call("GET", path)
            is_over = run["state"] in ("success", "failed") or (until is not None and self._is_done(path, until))
            # All tasks of a run are the dearest answer there is: they are asked for now and then, and at the end.
            if time.monotonic() >= look or is_over:
                look = time.monotonic() + TASKS_EVERY_S
                for instance in self._tasks(path):
                    name = (instance["task_id"], instance["map_index"])
                    if instance["state"] in FINISHED and name not in printed and instance["state"] != "removed":
                        printed.add(name)
                        on_task(run, instance)
            if is_over:
                return run
            if time.monotonic() > end:
                raise ServiceUnavailable(
                    f"{run['dag_id']} {run['dag_run_id']} did not end in {timeout_s:.0f} s",
                    where=self.url,
                    cure="look at the run in Airflow's UI; then run this again",
                )
            time.sleep(LOOK_EVERY_S)

    def wait_for(self, dag_id: str, partition: str, timeout_s: float) -> Run:
        """The run of a partition that an asset is about to start; raises ServiceUnavailable when none comes."""
        end = time.monotonic() + timeout_s
        while True:
            run = self.run_of(dag_id, partition)
            if run is not None:
                return run
            if time.monotonic() > end:
                raise ServiceUnavailable(
                    f"no run of {dag_id} for {partition} came in {timeout_s:.0f} s",
                    where=self.url,
                    cure="is the DAG unpaused, the scheduler alive? Look at Assets in the UI, then run this again",
                )
            time.sleep(LOOK_EVERY_S)

    def xcom(self, run: Run, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """A task's XCom; None when it has none of that name."""
        path = f"{run_path(run)}/taskInstances/{task_id}/xcomEntries/{key}"
        try:
            return self._call("GET", path, params={"map_index": map_index, "deserialize": False})["value"]
        except DataError:
            return None

    def _is_done(self, path: str, task_id: str) -> bool:
        return self._call("GET", f"{path}/taskInstances/{task_id}")["state"] in ("success", "skipped")

    def _tasks(self, path: str) -> Iterator[TaskInstance]:
        yield from self._listed(f"{path}/taskInstances", "task_instances")

    def _listed(self, path: str, name: str, **filters: str) -> Iterator[Any]:
        """All of a list, of which Airflow gives a hundred at once."""
        offset = 0
        while True:
            page = self._call("GET", path, params={"limit": 100, "offset": offset, **filters})
            yield from page[name]
            offset += len(page[name])
            if offset >= page["total_entries"] or not page[name]:
                return

    def _run(self, method: str, path: str, **arguments: Any) -> Run:
        run: Run = self._call(method, path, **arguments)
        return run

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        for _ in range(2):
            if "Authorization" not in self._http.headers:
                token = self._send("POST", "/auth/token", json=self._login)["access_token"]
                self._http.headers["Authorization"] = f"Bearer {token}"
            try:
                return self._send(method, path, **arguments)
            except AccessError:  # the token has run out: once more, with a new one
                del self._http.headers["Authorization"]
        return self._send(method, path, **arguments)

    def _send(self, method: str, path: str, **arguments: Any) -> Any:
        where = f"{self.url}{path}"
        try:
            answer = self._http.request(method, path, **arguments)
            answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            if error.response.status_code in (401, 403):
                raise AccessError(
                    "Airflow refused the credentials",
                    where=where,
                    cure="check EVERGREEN_AIRFLOW_USERNAME and EVERGREEN_AIRFLOW_PASSWORD",
                ) from error
            if error.response.status_code >= 500:
                raise ServiceUnavailable(
                    f"Airflow failed with {error.response.status_code}",
                    where=where,
                    cure="look at the api-server's log, then try again",
                ) from error
            raise DataError(
                f"Airflow refused ({error.response.status_code}): {error.response.text[:300]}",
                where=where,
                cure="correct the request",
            ) from error
        except httpx.TransportError as error:
            raise ServiceUnavailable(
                "Airflow does not answer", where=where, cure="is it running? `evergreen up` starts the embedded one"
            ) from error
        return dict(answer.json()) if answer.content else {}
