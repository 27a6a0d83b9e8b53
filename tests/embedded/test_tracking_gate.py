"""Which requests reach MLflow's server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pipelines.embedded import tracking_server
from pipelines.embedded.tracking_gate import NOTHING, Gate, is_open

OPEN = [
    "/",
    "/health",
    "/version",
    "/static-files/static/js/main.js",
    "/graphql",
    "/get-artifact",
    "/model-versions/get-artifact",
    "/signup",
    "/api/2.0/mlflow/experiments/create",
    "/ajax-api/2.0/mlflow/experiments/search-datasets",
    "/api/2.0/mlflow/runs/log-batch",
    "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval",
    "/api/2.0/mlflow/registered-models/alias",
    "/api/2.0/mlflow/model-versions/search",
    "/api/2.0/mlflow/logged-models",
    "/api/2.0/mlflow/logged-models/m-1/params",
    "/api/2.0/mlflow/logged-models/search",
    "/ajax-api/2.0/mlflow/logged-models/m-1/artifacts/files",
    "/api/2.0/mlflow/artifacts/list",
    "/api/2.0/mlflow-artifacts/artifacts",
    "/api/2.0/mlflow-artifacts/artifacts/1/run/a/model.skops",
    "/api/3.0/mlflow/server-info",
    "/api/2.0/mlflow/users/update-password",
    "/api/3.0/mlflow/roles/permissions/add",
]

# What runs code, installs, calls other servers or keeps their secrets in MLflow 3.17, and other spellings of that.
CLOSED = [
    "/ajax-api/3.0/mlflow/assistant/config",
    "/ajax-api/3.0/mlflow/assistant/message",
    "/ajax-api/3.0/mlflow/assistant/skills/install",
    "/ajax-api/3.0/mlflow/assistant/sessions/1/stream",
    "/ajax-api/3.0/jobs/",
    "/ajax-api/3.0/jobs/search",
    "/ajax-api/3.0/mlflow/jobs/1",
    "/api/3.0/mlflow/prompt-optimization/jobs",
    "/gateway/chat/mlflow/invocations",
    "/gateway/proxy/a/b",
    "/ajax-api/2.0/mlflow/gateway-proxy",
    "/api/3.0/mlflow/gateway/secrets/create",
    "/api/3.0/mlflow/gateway/endpoints/create",
    "/api/2.0/mlflow/webhooks",
    "/api/2.0/mlflow/webhooks/1/test",
    "/ajax-api/3.0/mlflow/scorer/invoke",
    "/api/3.0/mlflow/scorers/register",
    "/ajax-api/3.0/mlflow/demo/generate",
    "/ajax-api/3.0/mlflow/genai/evaluate/invoke",
    "/ajax-api/3.0/mlflow/issues/invoke",
    "/api/3.0/mlflow/mcp-servers",
    "/ajax-api/3.0/mlflow/ui-telemetry",
    "/v1/traces",
    "/ajax-api/2.0/mlflow/runs/create-promptlab-run",
    "//ajax-api/3.0/mlflow/assistant/config",
    "/static-files/../ajax-api/3.0/mlflow/assistant/config",
    "/api/2.0/mlflow-artifacts/artifacts/../../../3.0/mlflow/assistant/config",
    "/health/",
    "/docs",
    "/openapi.json",
]


def answer_to(path: str, kind: str = "http", method: str = "POST") -> list[dict[str, Any]]:
    """What the gate answers where MLflow would answer 200."""
    messages: list[dict[str, Any]] = []

    async def mlflow(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"13")]})
        await send({"type": "http.response.body", "body": b"<head></head>"})

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody reads the body")

    asyncio.run(Gate(mlflow)({"type": kind, "path": path, "method": method}, receive, send))
    return messages


def status_of(path: str, kind: str = "http") -> int | str:
    start = answer_to(path, kind)[0]
    status: int | str = start.get("status", start["type"])
    return status


@pytest.mark.parametrize("path", OPEN)
def test_tracking_and_the_registry_are_open(path: str) -> None:
    assert is_open(path)
    assert status_of(path) == 200


@pytest.mark.parametrize("path", CLOSED)
def test_all_else_is_closed(path: str) -> None:
    assert not is_open(path)
    assert status_of(path) == 403


@pytest.mark.parametrize("path", NOTHING)
def test_what_the_ui_asks_for_by_itself_is_told_that_there_is_nothing(path: str) -> None:
    start, body = answer_to(path, method="GET")
    assert start["status"] == 200 and not any(json.loads(body["body"]).values())
    assert status_of(path) == 403, "and nothing may be done with it"


def test_there_is_no_socket_past_the_gate() -> None:
    assert status_of("/health", kind="websocket") == "websocket.close"


def test_the_ui_opens_on_the_runs_until_somebody_chooses_otherwise() -> None:
    start, body = answer_to("/")
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    head = body["body"].partition(b"</head>")[0]
    assert b"""localStorage['mlflow.workflowType_v1']??='"machine_learning"'""" in head, (
        "before the UI's own, deferred one"
    )


def test_a_server_without_logins_does_not_start() -> None:
    with pytest.raises(SystemExit, match="basic-auth"):
        tracking_server.become(["python", "-m", "uvicorn", "--workers", "1", "mlflow.server.fastapi_app:app"], {})
