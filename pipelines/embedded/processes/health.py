"""Requests to a server on loopback, past any proxy that the environment names."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from datetime import datetime

from pipelines.embedded.processes.ports import HOST

TIMEOUT_S = 10.0


def request(
    port: int, method: str, path: str, body: Mapping[str, str | int | bool] | None = None, token: str = ""
) -> tuple[int, bytes]:
    """Status and body of an answer; status 0 when there is none."""
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def answers(port: int, path: str) -> bool:
    """Whether a server answers 200 there."""
    return request(port, "GET", path)[0] == 200


def has_beaten_since(port: int, component: str, since: float) -> bool:
    """Whether a component of Airflow sent a heartbeat after `since` (Unix seconds).

    Airflow calls a component healthy for half a minute after its last heartbeat, so after a quick restart it
    reports the one before.
    """
    status, body = request(port, "GET", "/api/v2/monitor/health")
    if status != 200:
        return False
    beat = json.loads(body)[component][f"latest_{component}_heartbeat"]
    return bool(beat) and datetime.fromisoformat(beat).timestamp() > since
