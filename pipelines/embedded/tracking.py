"""The MLflow server: SQLite, artifacts proxied to the store, login on. This package does not load mlflow."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from pipelines.embedded.processes.environment import surroundings
from pipelines.embedded.processes.health import answers
from pipelines.embedded.processes.home import write_private
from pipelines.embedded.processes.ports import HOST
from pipelines.embedded.processes.supervisor import SPARING, Service

USER = "admin"


def client_environment(port: int, secrets: Mapping[str, str]) -> dict[str, str]:
    """What an MLflow client needs to use the server."""
    return {
        "MLFLOW_TRACKING_URI": f"http://{HOST}:{port}",
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": secrets["mlflow_password"],
        # About a minute, in which a restarted server is back; by default a client waits for eight.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def service(home: Path, port: int, artifacts: str, secrets: Mapping[str, str], variables: Mapping[str, str]) -> Service:
    """The server, keeping its artifacts in `artifacts` (a URI); of `variables` it gets what it needs to reach them."""
    folder = home / "mlflow"
    login = folder / "login.ini"
    # One worker process, so the cache of checked passwords (a slow hash) cannot be stale in another.
    write_private(
        login,
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{str(folder / 'login.db').replace('%', '%%')}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\nauth_cache_ttl_seconds = 60\n",
    )
    own = {
        "MLFLOW_AUTH_CONFIG_PATH": str(login),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": secrets["mlflow_password"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets["mlflow_flask_key"],
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    argv = [sys.executable, "-P", "-m", "pipelines.embedded.tracking_server", "--app-name", "basic-auth"]
    argv += ["--host", HOST, "--port", str(port), "--workers", "1"]
    argv += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", artifacts]
    kept = surroundings(variables, *(["AWS_"] if artifacts.startswith("s3:") else []))
    return Service("mlflow", argv, {**kept, **SPARING, **own}, lambda _: answers(port, "/health"))
