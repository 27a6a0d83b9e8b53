"""A Ray cluster on this machine: of this host alone, or, as root, of hosts that are network namespaces.

A host of its own has an address, a link that can be taken down, a name and temporary files. Ray is started again on one
where it has ended, as what runs services does: a host that was cut off for long is given up by the cluster.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from pipelines.embedded.stack.namespaces import Namespaces

ADDRESS = "RAY_API_SERVER_ADDRESS"
CLUSTER, MARK = "EVERGREEN_BENCHMARK_CLUSTER", "EVERGREEN_BENCHMARK_HOST"  # variables of clients, and of its processes
STARTS_S = 180.0  # that a cluster may take
OBJECTS = 80 * 2**20  # bytes that a host keeps for jobs that use Ray; ours do not
NETWORK = "ray"


class Cluster:
    """Its first host is its head."""

    def __init__(self, home: Path, hosts: int, cpus: int) -> None:
        """`cpus`: of each host."""
        self.names = [f"ray-{number + 1}" for number in range(hosts)]
        self._home, self._cpus = home, cpus
        self._namespaces = Namespaces(home, dict.fromkeys(self.names, (NETWORK,))) if hosts > 1 else None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._is_over = threading.Event()
        self._ports = (free_port(), free_port())

    @contextmanager
    def up(self) -> Iterator[None]:
        """All hosts are there within, and the variables that say where."""
        with ExitStack() as stack:
            if self._namespaces:
                (self._home / "hosts").mkdir(parents=True)
                stack.enter_context(self._namespaces.up())
            stack.callback(self._end)
            head = self._address(self.names[0])
            for variable, value in {ADDRESS: f"http://{head}:{self._ports[1]}", CLUSTER: str(self._home)}.items():
                os.environ[variable] = value
                stack.callback(os.environ.pop, variable)
            for number, name in enumerate(self.names):
                self._await_hosts(min(number, 1))  # the head
                self._start(name)
            self._await_hosts(len(self.names))
            keeper = threading.Thread(target=self._keep_up, daemon=True)
            keeper.start()
            stack.callback(keeper.join)
            stack.callback(self._is_over.set)
            yield

    def cut_off(self, name: str, *, is_down: bool) -> None:
        """Take the link of one of several hosts down, or up again."""
        assert self._namespaces is not None
        self._namespaces.cut_off(name, is_down=is_down)

    def cpu_s_at_rest(self) -> float:
        """Of all its processes, and of what they have started and has ended; once its jobs have."""
        until = time.monotonic() + STARTS_S
        while any("JobSupervisor" in word for each in processes(str(self._home)) for word in words_of(each)):
            if time.monotonic() > until:
                raise SystemExit("the cluster's jobs do not end")
            time.sleep(0.2)
        total = 0.0
        for each in processes(str(self._home)):
            with suppress(psutil.Error):
                total += sum(each.cpu_times()[:4])
        return total

    def _address(self, name: str) -> str:
        return self._namespaces.address(name) if self._namespaces else "127.0.0.1"

    def _start(self, name: str) -> None:
        head, port = self._address(self.names[0]), self._ports[0]
        command = ["ray", "start", "--block", "--disable-usage-stats", f"--num-cpus={self._cpus}"]
        command += [f"--object-store-memory={OBJECTS}"]
        command += [f"--node-ip-address={self._address(name)}"]
        if name == self.names[0]:
            command += ["--head", f"--port={port}", "--include-dashboard=true"]
            command += [f"--dashboard-host={head}", f"--dashboard-port={self._ports[1]}"]
        else:
            command += [f"--address={head}:{port}"]
        if self._namespaces:
            own, seen = self._home / name, self._home / "ray"
            own.mkdir(exist_ok=True)
            command += [f"--temp-dir={seen}"]
            command = self._namespaces.enter(name, "", Path.cwd(), {own: seen}, command)
        scripts = Path(sys.executable).parent
        variables = os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}", MARK: str(self._home)}
        with (self._home / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(command, env=variables, stdout=log, stderr=log)

    def _keep_up(self) -> None:
        while not self._is_over.wait(1.0):
            for name, process in self._processes.items():
                if process.poll() is not None:
                    print(f"Ray on {name} has ended, and is started again", flush=True)
                    self._start(name)

    def _await_hosts(self, number: int) -> None:
        until = time.monotonic() + STARTS_S
        while number and self._alive() < number:
            if time.monotonic() > until:
                said = "".join((self._home / f"{name}.log").read_text()[-1000:] for name in self._processes)
                raise SystemExit(f"Ray's cluster did not start:\n{said}")
            time.sleep(0.5)

    def _alive(self) -> int:
        """Hosts that the dashboard knows and that answer it."""
        try:
            answer = httpx.get(f"{os.environ[ADDRESS]}/api/v0/nodes", timeout=5, trust_env=False)
        except httpx.TransportError:
            return 0
        if answer.status_code != 200:
            return 0
        nodes: Sequence[dict[str, Any]] = answer.json()["data"]["result"]["result"]
        return sum(node["state"] == "ALIVE" for node in nodes)

    def _end(self) -> None:
        for process in self._processes.values():
            process.terminate()
        left = [*processes(str(self._home))]
        _, left = psutil.wait_procs(left, timeout=10)
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        for started in self._processes.values():
            started.wait()


@contextmanager
def cluster(hosts: int, cpus: int) -> Iterator[Cluster]:
    """With so many CPUs on each of its hosts; it is there within."""
    with tempfile.TemporaryDirectory(prefix="evergreen-ray-") as home:
        found = Cluster(Path(home).resolve(), hosts, cpus)
        with found.up():
            yield found


def processes(mark: str) -> Iterator[psutil.Process]:
    """All that run now of the cluster with this mark."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                yield process


def words_of(process: psutil.Process) -> list[str]:
    """Its command; none where it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
