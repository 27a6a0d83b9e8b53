"""The engine `ray`: workers are jobs of a Ray cluster, which finds each a host.

They are submitted through the cluster's Jobs API (https://docs.ray.io/en/latest/cluster/running-applications/job-submission/),
which is HTTP: Ray itself is needed on the cluster alone, beside Evergreen.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Any

import httpx

from pipelines.errors import AccessError, ConfigError, EvergreenError, ServiceUnavailable
from pipelines.training.workers.worker import SECRET

log = logging.getLogger(__name__)

WHERE = "problem.yaml, training.engine.address"
ADDRESS, DEFAULT_ADDRESS = "RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265"  # as Ray's own clients have them
TIMEOUT_S = 30.0
STOP_S = 10.0  # that a job may take to end, and the cluster to notice
TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105 - the variable in which Ray's own clients look for it
ENDED = ("STOPPED", "SUCCEEDED", "FAILED")


class Ray:
    """Submits each worker as a job of a cluster."""

    start_s = 600.0  # a cluster may have to start a host for it

    def __init__(self, address: str | None, threads: int) -> None:
        """`address`: of the cluster's dashboard; None: what the environment says. `threads`: of each worker, for which
        as many CPUs are reserved.

        Raises:
            ConfigError, AccessError, ServiceUnavailable: nobody answers there, or not as Ray does.
        """
        address = address or os.environ.get(ADDRESS) or DEFAULT_ADDRESS
        token = os.environ.get(TOKEN)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(base_url=address, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        self._threads = threads
        self.host = _own_address(httpx.URL(address))
        self.ask("GET", "/api/version")

    def start(self, rank: int, port: int, secret: bytes) -> Job:
        answer = self.ask(
            "POST",
            "/api/jobs/",
            {
                "entrypoint": f"python -m pipelines.training.workers.worker {self.host} {port} {rank}",
                "entrypoint_num_cpus": self._threads,
                "runtime_env": {
                    "env_vars": {
                        SECRET: secret.hex(),
                        "OMP_NUM_THREADS": str(self._threads),
                        "OMP_WAIT_POLICY": "PASSIVE",
                    }
                },
                "metadata": {"worker": str(rank)},
            },
        )
        return Job(self, answer["submission_id"])

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """What the cluster answers."""
        where = f"{WHERE}: {self._client.base_url}"
        try:
            answer = self._client.request(method, path, json=body)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ServiceUnavailable(
                f"Ray's cluster does not answer: {error}",
                where=where,
                cure="does it run (`ray status`), with its dashboard on an address that this machine reaches?",
            ) from error
        if answer.status_code in (401, 403):
            raise AccessError("Ray's cluster asks for a token", where=where, cure=f"set {TOKEN} to the cluster's")
        if answer.status_code >= 500:
            raise ServiceUnavailable(
                f"Ray's cluster cannot do that: {_first_line(answer.text)}", where=where, cure="see its dashboard"
            )
        try:
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPStatusError, ValueError) as error:
            raise ConfigError(
                f"what answers is no Ray dashboard with jobs: {answer.status_code} {_first_line(answer.text)}",
                where=where,
                cure="give the address of the dashboard (port 8265) of a cluster that has `ray[default]`",
            ) from error


class Job:
    """A worker's job."""

    def __init__(self, cluster: Ray, name: str) -> None:
        self._cluster = cluster
        self._path = f"/api/jobs/{name}"

    def state(self) -> str:
        """What the cluster says of it."""
        about = self._cluster.ask("GET", self._path)
        return f"{about['status']} {_in_short(about.get('message') or '')}".strip()

    def ended(self) -> str | None:
        state = self.state()
        return state if state.startswith(ENDED) else None

    def stop(self) -> None:
        """It ends by itself where its connection is closed, and clears up; else the cluster ends it."""
        until = time.monotonic() + STOP_S
        try:
            while self.ended() is None:
                if time.monotonic() > until:
                    self._cluster.ask("POST", f"{self._path}/stop")
                    return
                time.sleep(0.2)
        except EvergreenError as error:  # what was learnt is not lost for that
            log.warning("whether %s has ended is not known: %s", self._path, error.what)


def _own_address(address: httpx.URL) -> str:
    """This machine's, by which it reaches that of the cluster: no packet is sent."""
    if address.scheme not in ("http", "https") or not address.host:
        raise ConfigError(
            f"{address} is no address of a Ray dashboard",
            where=WHERE,
            cure="write http://HOST:8265, as `ray start` says",
        )
    port = address.port or 80
    try:
        family, kind, *_, target = socket.getaddrinfo(address.host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise ServiceUnavailable(
            f"nothing leads to Ray's cluster: {error}", where=f"{WHERE}: {address}", cure="is the name right?"
        ) from error


def _in_short(message: str) -> str:
    """What the cluster says of a job, and the last line of what the job itself has said.

    >>> _in_short("failed with exit code 1, last available logs (truncated to 20,000 chars):\\nTraceback\\nNo module x")
    'failed with exit code 1: No module x'
    """
    first, _, own = message.strip().partition("\n")
    first, own = first.partition(", last available logs")[0], own.strip().rpartition("\n")[2]
    return f"{first}: {own}"[:300] if own else first[:300]


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:200]
