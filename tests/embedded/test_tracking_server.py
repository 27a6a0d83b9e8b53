"""MLflow's server as the embedded services start it: one process, behind a login."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipelines.embedded import tracking
from pipelines.embedded.processes.home import load_secrets, prepare
from pipelines.embedded.processes.ports import HOST
from pipelines.embedded.processes.supervisor import Supervisor, marked


@pytest.fixture
def port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def home(tmp_path: Path, port: int) -> Iterator[Path]:
    prepare(tmp_path)
    supervisor = Supervisor(tmp_path)
    artifacts = (tmp_path / "artifacts").as_uri()
    supervisor.start(tracking.service(tmp_path, port, artifacts, load_secrets(tmp_path), os.environ))
    yield tmp_path
    supervisor.stop()


def call(
    port: int, method: str, path: str, password: str, body: str = "{}", user: str = tracking.USER
) -> tuple[int, bytes]:
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.mark.slow
def test_the_server_is_one_process_that_keeps_runs_and_artifacts(home: Path, port: int) -> None:
    [process] = marked(home, "mlflow")
    assert process.status() != psutil.STATUS_ZOMBIE
    assert call(port, "POST", "/api/2.0/mlflow/experiments/create", "wrong")[0] == 401
    password = load_secrets(home)["mlflow_password"]
    status, body = call(port, "POST", "/api/2.0/mlflow/experiments/create", password, '{"name": "flights"}')
    assert status == 200, body
    stored = "/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/note.txt"
    assert call(port, "PUT", stored, password, "kept")[0] == 200
    assert call(port, "GET", stored, password) == (200, b"kept")
    assert list((home / "artifacts").rglob("note.txt"))
    # A user of MLflow is a user of MLflow, not of the machine.
    status, body = call(port, "PUT", "/ajax-api/3.0/mlflow/assistant/config", password, '{"providers": {}}')
    assert (status, json.loads(body)["error_code"]) == (403, "PERMISSION_DENIED")
    for place in (home.as_uri(), str(home), "s3://evergreen"):
        elsewhere = json.dumps({"name": f"in {place}", "artifact_location": place})
        status, body = call(port, "POST", "/api/2.0/mlflow/experiments/create", password, elsewhere)
        assert status == 400 and b"this server chooses" in body, body
    assert call(port, "POST", "/api/2.0/mlflow/registered-models/create", password, '{"name": "m"}')[0] == 200
    copied = json.dumps({"name": "m", "source": "s3://evergreen/tables"})
    status, body = call(port, "POST", "/api/2.0/mlflow/model-versions/create", password, copied)
    assert status == 200, body
    status, body = call(port, "GET", "/model-versions/get-artifact?name=m&version=1&path=tables", password)
    assert status == 400 and b"not in this server's storage" in body, body
    status, page = call(port, "GET", "/", password)
    assert status == 200 and b"[data-assistant-ui]{display:none" in page
    _may_only_read(port, password)


def _may_only_read(port: int, password: str) -> None:
    """A colleague with a login of the kind that docs/howto/share.md makes."""
    api, user = "/api/2.0/mlflow", {"username": "ann", "password": "a long password"}
    assert call(port, "POST", f"{api}/users/create", password, json.dumps(user))[0] == 200

    def ask(method: str, path: str, body: object = None) -> int:
        return call(port, method, f"{api}{path}", user["password"], json.dumps(body or {}), user["username"])[0]

    assert ask("POST", "/runs/search", {"experiment_ids": ["1"]}) == 200
    assert ask("GET", "/registered-models/get?name=m") == 200
    assert ask("GET", "-artifacts/artifacts?path=1") == 200
    for method, path, body in (
        ("POST", "/runs/create", {"experiment_id": "1"}),
        ("POST", "/experiments/create", {"name": "mine"}),
        ("POST", "/registered-models/create", {"name": "flight_delay"}),
        ("POST", "/registered-models/alias", {"name": "m", "alias": "champion", "version": "1"}),
        ("POST", "/model-versions/create", {"name": "m", "source": "runs:/1/model"}),
        ("PUT", "-artifacts/artifacts/1/run/artifacts/note.txt", None),
        ("DELETE", "-artifacts/artifacts/1/run/artifacts/note.txt", None),
        ("PATCH", "/users/update-admin", {"username": "ann", "is_admin": True}),
        ("POST", "/users/create", {"username": "eve", "password": "another password"}),
    ):
        assert ask(method, path, body) == 403, path
