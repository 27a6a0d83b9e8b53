"""What docker-compose.yaml says of addresses and folders, as it is here.

A service on a host of its own (`namespaces`) has the names, addresses and ports that a container has; only the ports
that are published may be others. Where all share this machine's loopback, names become addresses of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pipelines.embedded.processes.ports import HOST

PORTS = {"postgres": 5432, "redis": 6379, "s3": 8333, "api-server": 8080, "mlflow": 5000}
"""Where each server listens in its container."""


def on_loopback(text: str, ports: Mapping[str, int]) -> str:
    """Names of services as addresses of loopback; `ports` are theirs there.

    >>> chosen = {"postgres": 5433, "redis": 6380, "s3": 9000, "api-server": 8081, "mlflow": 5000}
    >>> on_loopback("postgresql+psycopg2://evergreen:secret@postgres/mlflow", chosen)
    'postgresql+psycopg2://evergreen:secret@127.0.0.1:5433/mlflow'
    >>> on_loopback("redis://:secret@redis:6379/0", chosen)
    'redis://:secret@127.0.0.1:6380/0'
    >>> on_loopback("--host 0.0.0.0 --allowed-hosts mlflow:5000,localhost:8080 s3://evergreen/mlflow", chosen)
    '--host 127.0.0.1 --allowed-hosts 127.0.0.1:5000,localhost:8081 s3://evergreen/mlflow'
    """
    for name, port in PORTS.items():
        place = f"{HOST}:{ports[name]}"
        text = re.sub(rf"(?:(?<=//)|(?<=@)){name}(?::{port})?(?![\w.:-])", place, text)
        text = re.sub(rf"(?<![\w/@.-]){name}:{port}(?!\d)", place, text)
    usual = {str(port): str(ports[name]) for name, port in PORTS.items()}
    text = re.sub(rf"(?<![\w.])(?:{'|'.join(usual)})(?![\w.])", lambda match: usual[match[0]], text)
    return text.replace("0.0.0.0", HOST)  # noqa: S104 - it is what no service is to listen on here


def published(text: str, ports: Mapping[int, int]) -> str:
    """Addresses that people and clients on this machine use; `ports` are those of loopback by a service's own.

    >>> published("http://localhost:8080 127.0.0.1:5000 http://mlflow:5000", {8080: 8081, 5000: 5000})
    'http://localhost:8081 127.0.0.1:5000 http://mlflow:5000'
    """
    return re.sub(
        r"\b(localhost|127\.0\.0\.1):(\d+)", lambda match: f"{match[1]}:{ports.get(int(match[2]), match[2])}", text
    )


def in_folders(text: str, folders: Mapping[str, Path]) -> str:
    """Folders of a container as they are here; the longest name counts.

    >>> in_folders("/opt/x/.venv/bin:/opt/x s3://opt/x", {"/opt/x": Path("/here"), "/opt/x/.venv": Path("/there")})
    '/there/bin:/here s3://opt/x'
    """
    names = "|".join(re.escape(name) for name in sorted(folders, key=len, reverse=True))
    return re.sub(rf"(?<![\w./])(?:{names})(?![\w.-])", lambda match: str(folders[match[0]]), text)
