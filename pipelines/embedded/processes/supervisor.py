"""Starts processes, waits for their health, restarts those that die, and leaves none behind.

Every process carries two environment variables, `EVERGREEN_SUPERVISED` (the home folder) and `EVERGREEN_SERVICE`,
which its children inherit. They find what a killed supervisor left, however deep it forked and whatever
process id it got: unlike a pid file they cannot point at a stranger.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from pipelines.embedded.processes.home import log_path, rotate_log, tail
from pipelines.errors import ServiceUnavailable

MAX_RESTARTS = 5
RESTART_WINDOW_S = 600.0
POLL_S = 0.2

# For servers whose threads wait most of the time: they share two heaps of glibc's, and give back what they free. Tasks
# go without, since their threads compute.
SPARING = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "131072"}

Progress = Callable[[str], None]


class Stopped(Exception):
    """The supervisor was told to stop while something was starting."""


@dataclass(frozen=True)
class Service:
    """One long-running process; `is_ready(since)` asks whether it works, having started at `since` (Unix seconds)."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    is_ready: Callable[[float], bool]
    timeout_s: float = 120.0
    grace_s: float = 8.0
    stop_signal: signal.Signals = signal.SIGTERM


@dataclass
class _Running:
    service: Service
    process: subprocess.Popen[bytes]
    since: float
    restarts: list[float] = field(default_factory=list)


class Supervisor:
    """The processes of one home folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def run(self, name: str, argv: Sequence[str], environment: Mapping[str, str], timeout_s: float = 600.0) -> None:
        """Run a command to its end, its output going to the log `name`.

        Raises:
            ServiceUnavailable: it failed or took too long; the message shows the end of its log.
        """
        process = self._launch(name, argv, environment)
        deadline = time.monotonic() + timeout_s
        while process.poll() is None:
            if self._stopping.is_set():
                raise Stopped
            if time.monotonic() > deadline:
                end(marked(self.home, name))
                raise self._failure(name, f"{name} did not finish within {timeout_s:.0f} s")
            time.sleep(POLL_S)
        if process.returncode:
            raise self._failure(name, f"{name} failed with exit status {process.returncode}")

    def start(self, service: Service) -> None:
        """Start a service and return when it is ready.

        Raises:
            ServiceUnavailable: it died or was not ready in time; the message shows the end of its log.
        """
        rotate_log(self.home, service.name)
        running = self._running[service.name] = self._spawn(service)
        deadline = time.monotonic() + service.timeout_s
        while not service.is_ready(running.since):
            if self._stopping.is_set():
                raise Stopped
            if running.process.poll() is not None:
                raise self._failure(service.name, f"{service.name} ended while starting ({_how(running.process)})")
            if time.monotonic() > deadline:
                raise self._failure(service.name, f"{service.name} was not ready within {service.timeout_s:.0f} s")
            time.sleep(POLL_S)

    def start_together(self, services: Sequence[Service]) -> None:
        """Start services side by side and return when all are ready; raises what the first failure raises."""
        with ThreadPoolExecutor(max_workers=len(services)) as pool:
            for future in as_completed([pool.submit(self.start, service) for service in services]):
                future.result()

    def watch(self, progress: Progress) -> None:
        """One look at all services: those that died are started again, a little later each time.

        Raises:
            ServiceUnavailable: one has died more than MAX_RESTARTS times within RESTART_WINDOW_S.
        """
        for running in self._running.values():
            if running.process.poll() is None or self._stopping.is_set():
                continue
            name, now = running.service.name, time.monotonic()
            running.restarts = [then for then in running.restarts if now - then < RESTART_WINDOW_S]
            tries = len(running.restarts)
            if tries >= MAX_RESTARTS:
                raise self._failure(name, f"{name} keeps dying ({_how(running.process)}, {tries} restarts)")
            if tries and now < running.restarts[-1] + 2**tries:
                continue
            how = _how(running.process)
            end(marked(self.home, name))
            fresh = self._spawn(running.service)
            running.process, running.since = fresh.process, fresh.since
            running.restarts.append(now)
            progress(f"{name} died ({how}) and was started again, {tries + 1} of {MAX_RESTARTS} times")

    def stop(self) -> None:
        """Ask every service to end, kill those that outlive their grace, and whatever they left. Never raises."""
        self._stopping.set()
        with self._lock:  # whoever is launching a process now is done with it, and nobody launches another
            services = list(self._running.values())
        for running in services:
            running.process.send_signal(running.service.stop_signal)
        asked = time.monotonic()
        while alive := [running for running in services if running.process.poll() is None]:
            for running in alive:
                if time.monotonic() - asked > running.service.grace_s:
                    running.process.kill()
            time.sleep(POLL_S)
        for _ in range(3):  # a process may fork while the list of them is read
            end(marked(self.home))
        self._running.clear()

    def _spawn(self, service: Service) -> _Running:
        since = time.time()
        return _Running(service, self._launch(service.name, service.argv, service.environment), since)

    def _launch(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        marks = {"EVERGREEN_SUPERVISED": str(self.home), "EVERGREEN_SERVICE": name, "SPT_NOENV": "1"}
        with self._lock, log_path(self.home, name).open("ab") as log:
            if self._stopping.is_set():
                raise Stopped
            return subprocess.Popen(
                argv,
                env={**environment, **marks},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _failure(self, name: str, what: str) -> ServiceUnavailable:
        if self._stopping.is_set():
            raise Stopped  # `stop` ended it: that is no failure
        free = psutil.disk_usage(str(self.home)).free / 2**30
        cure = "read the log; the next start tries again"
        if free < 0.5:
            cure = f"only {free:.2f} GiB of disk are free: make room, then start again"
        return ServiceUnavailable(
            f"{what}; its log ends with:\n{tail(self.home, name)}", where=str(log_path(self.home, name)), cure=cure
        )


def marked(home: Path, service: str | None = None) -> list[psutil.Process]:
    """All living processes that a supervisor of this home started, and their children; never this process itself."""
    own = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            environment = process.environ() if process.pid not in own else {}
            if environment.get("EVERGREEN_SUPERVISED") == str(home) and service in (
                None,
                environment.get("EVERGREEN_SERVICE"),
            ):
                processes.append(process)
    return processes


def end(processes: Iterable[psutil.Process]) -> None:
    """Kill processes, and return when they are gone (or after five seconds, should the kernel hold on to one)."""
    left = list(processes)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    deadline = time.monotonic() + 5
    while any(map(_is_alive, left)) and time.monotonic() < deadline:
        time.sleep(0.02)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _how(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
