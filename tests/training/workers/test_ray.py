"""Workers as jobs of a cluster, whose Jobs API is answered here as Ray does it: benchmarks.engines has a real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import Engine
from pipelines.errors import AccessError, ConfigError, ServiceUnavailable, TransientError
from pipelines.problem import Problem
from pipelines.training.fit import fit
from pipelines.training.workers.ray import Ray
from tests.training.workers.test_watch import TRAIN, VALIDATION, ToyProblem, model_bytes, on_disk, problem_of

TOKEN = "of the cluster"


class Cluster(ThreadingHTTPServer):
    """Runs a job as a process of this machine."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.jobs: list[subprocess.Popen[str]] = []
        self.asked: list[dict[str, Any]] = []
        self.answer: tuple[int, str] | None = None
        """To whatever is asked."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def submit(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(asked)
        variables = os.environ | asked["runtime_env"]["env_vars"]
        variables["PATH"] = f"{Path(sys.executable).parent}:{variables['PATH']}"
        self.jobs.append(subprocess.Popen(asked["entrypoint"].split(), env=variables, text=True))
        return {"submission_id": str(len(self.jobs) - 1)}

    def status(self, number: int) -> dict[str, Any]:
        code = self.jobs[number].poll()
        if code is None:
            return {"status": "RUNNING", "message": "Job is currently running."}
        if code:
            return {"status": "FAILED", "message": f"Job entrypoint command failed with exit code {code}\nmore"}
        return {"status": "SUCCEEDED", "message": None}


class Answers(BaseHTTPRequestHandler):
    server: Cluster

    def do_GET(self) -> None:
        self._say(self.server.status(int(self.path.rpartition("/")[2])) if "/jobs/" in self.path else {"version": "4"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.endswith("/stop"):
            self.server.jobs[int(self.path.split("/")[-2])].terminate()
            self._say({"stopped": True})
        else:
            self._say({}, json.loads(body))

    def _say(self, answer: dict[str, Any], submitted: dict[str, Any] | None = None) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            status, text = 401, "Unauthorized"
        elif self.server.answer:
            status, text = self.server.answer
        else:
            status, text = 200, json.dumps(self.server.submit(submitted) if submitted else answer)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with Cluster() as started:
        threading.Thread(target=started.serve_forever, daemon=True).start()
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", started.address)
        yield started
        started.shutdown()
        for job in started.jobs:
            job.kill()
            job.wait()


def with_engine(problem: Problem, kind: str, address: str | None = None) -> Problem:
    engine = Engine.model_validate({"kind": kind, "workers": 2, "address": address})
    return problem.model_copy(update={"training": problem.training.model_copy(update={"engine": engine})})


def test_jobs_learn_the_model_that_processes_learn(
    toy: ToyProblem, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")  # the problem's own address goes before it
    few = {"n_estimators": 4, "early_stopping_rounds": None}
    rows = on_disk(TRAIN, tmp_path)
    by_processes = with_engine(problem_of(toy, 2, few), "processes")
    by_jobs = with_engine(problem_of(toy, 2, few), "ray", cluster.address)
    one, other = (fit(config, "trees", rows, VALIDATION) for config in (by_processes, by_jobs))
    assert model_bytes(one) == model_bytes(other)
    assert [job.wait(10) for job in cluster.jobs] == [0, 0], "they ended by themselves"
    assert [asked["metadata"]["worker"] for asked in cluster.asked] == ["0", "1"]
    secrets = {asked["runtime_env"]["env_vars"].pop("EVERGREEN_WORKER_SECRET") for asked in cluster.asked}
    assert len(secrets) == 1 and len(secrets.pop()) == 64
    assert all(asked["entrypoint_num_cpus"] == 1 for asked in cluster.asked)


def test_workers_that_cannot_start_are_lost_and_the_cluster_says_why(
    toy: ToyProblem, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "status", lambda *_: {"status": "FAILED", "message": "No module named 'pipelines'"})
    config = with_engine(problem_of(toy, 2), "ray")
    with pytest.raises(TransientError, match="worker 0 ended before it had begun: FAILED No module named 'pipelines'"):
        fit(config, "trees", on_disk(TRAIN, tmp_path), VALIDATION)


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        ((404, "<html>no such page"), ConfigError, "no Ray dashboard with jobs: 404 <html>no such page"),
        ((200, "<html>another service"), ConfigError, "no Ray dashboard with jobs"),
        ((403, ""), AccessError, "asks for a token"),
        ((500, "Traceback\nmore"), ServiceUnavailable, "cannot do that: Traceback\n"),
    ],
)
def test_what_does_not_answer_as_ray_does_is_said(
    cluster: Cluster, answer: tuple[int, str], kind: type[Exception], message: str
) -> None:
    cluster.answer = answer
    with pytest.raises(kind, match=message) as raised:
        Ray(None, 1)
    assert cluster.address in str(raised.value)


@pytest.mark.parametrize(
    ("address", "kind", "message"),
    [
        ("http://127.0.0.1:1", ServiceUnavailable, "Ray's cluster does not answer"),
        ("http://no-such-host.invalid:8265", ServiceUnavailable, "nothing leads to Ray's cluster"),
        ("ray://127.0.0.1:10001", ConfigError, "is no address of a Ray dashboard"),
    ],
)
def test_an_address_that_leads_nowhere(address: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Ray(address, 1)


def test_a_token_that_is_missing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    with pytest.raises(AccessError, match="asks for a token"):
        Ray(cluster.address, 1)
