"""Free ports on loopback: the usual number if it is free, the last start's before that, a forced one or none."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
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


@contextmanager
def reserved_ports(home: Path, usual_ports: Mapping[str, int] = DEFAULTS) -> Iterator[dict[str, int]]:
    """A port for each service of `usual_ports`, remembered in ports.json; meanwhile no other start takes one of them.

    A service listens seconds after its port was chosen, and not while it is started again: until then the port
    is free to whoever tries it. EVERGREEN_AIRFLOW_PORT, EVERGREEN_MLFLOW_PORT and EVERGREEN_STORE_PORT force one, and
    in the full stack without root EVERGREEN_POSTGRES_PORT and EVERGREEN_REDIS_PORT.

    Raises:
        ConfigError: a forced port is taken, or is no port number.
    """
    path = home / "ports.json"
    last: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    with ExitStack() as reserved:
        chosen = {name: port for name in usual_ports if (port := _forced(name, reserved))}
        for name, usual in usual_ports.items():
            if name not in chosen:
                chosen[name] = _first_free([last.get(name, usual), usual], reserved)
        path.write_text(json.dumps(chosen, indent=1))
        yield chosen


def _forced(name: str, reserved: ExitStack) -> int | None:
    variable = f"EVERGREEN_{name.upper()}_PORT"
    text = os.environ.get(variable, "")
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise ConfigError(f"{variable} is {text!r}", where="environment", cure="set it to a number from 1 to 65535")
    if not _reserve(int(text), reserved):
        raise ConfigError(
            f"port {text}, which {variable} asks for, is taken by {holder(int(text))}",
            where=f"{HOST}:{text}",
            cure=f"stop that process, or set {variable} to another port, or unset it to have a free one chosen",
        )
    return int(text)


def _first_free(wanted: list[int], reserved: ExitStack) -> int:
    for port in wanted:
        if 0 < port < 2**16 and _reserve(port, reserved):
            return port
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if _reserve(port, reserved):
            return port


def _reserve(port: int, reserved: ExitStack) -> bool:
    """Whether a port is free and nobody's who asks so; it is ours then, until `reserved` is closed or we end.

    A name of Linux's abstract sockets goes with the process that holds it, and is seen by all accounts, as ports are.
    """
    with ExitStack() as stack:
        if sys.platform == "linux":
            lock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            try:
                lock.bind(f"\0evergreen-port-{port}")
            except OSError:
                return False
        if not is_free(port):
            return False
        reserved.enter_context(stack.pop_all())
        return True


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
