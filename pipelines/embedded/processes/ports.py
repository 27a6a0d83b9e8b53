"""Free ports on loopback: the usual number if it is free, the last start's before that, a forced one or none."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from pipelines.errors import ConfigError

HOST = "127.0.0.1"
DEFAULTS = {"airflow": 8080, "mlflow": 5000, "store": 9000}


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def choose_ports(home: Path) -> dict[str, int]:
    """A port for each service, remembered in ports.json.

    EVERGREEN_AIRFLOW_PORT, EVERGREEN_MLFLOW_PORT and EVERGREEN_STORE_PORT force one.

    Raises:
        ConfigError: a forced port is taken, or is no port number.
    """
    path = home / "ports.json"
    last: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    chosen = {name: port for name in DEFAULTS if (port := _forced(name))}
    for name, usual in DEFAULTS.items():
        if name not in chosen:
            chosen[name] = _first_free([last.get(name, usual), usual], taken=set(chosen.values()))
    path.write_text(json.dumps(chosen, indent=1))
    return chosen


def _forced(name: str) -> int | None:
    variable = f"EVERGREEN_{name.upper()}_PORT"
    text = os.environ.get(variable, "")
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise ConfigError(f"{variable} is {text!r}", where="environment", cure="set it to a number from 1 to 65535")
    if not is_free(int(text)):
        raise ConfigError(
            f"port {text}, which {variable} asks for, is taken by {holder(int(text))}",
            where=f"{HOST}:{text}",
            cure=f"stop that process, or set {variable} to another port, or unset it to have a free one chosen",
        )
    return int(text)


def _first_free(wanted: list[int], taken: set[int]) -> int:
    for port in wanted:
        if 0 < port < 2**16 and port not in taken and is_free(port):
            return port
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port


def holder(port: int) -> str:
    """Who listens on a port, as far as this user may see."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                process = psutil.Process(connection.pid)
                return f"process {process.pid} ({' '.join(process.cmdline())[:80] or process.name()})"
    except (psutil.Error, TypeError, ValueError, OSError):
        pass
    return "another process"
