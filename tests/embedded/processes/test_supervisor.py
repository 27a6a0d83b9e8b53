"""Real processes: started, waited for, restarted, and gone afterwards, whatever they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.embedded.processes.home import prepare
from pipelines.embedded.processes.supervisor import MAX_RESTARTS, Service, Stopped, Supervisor, end, marked
from pipelines.errors import ServiceUnavailable

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    # Who starts tests in the background may have had them ignore SIGINT.
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "signal.signal(signal.SIGINT, signal.default_int_handler); print('deaf', flush=True); time.sleep(60)",
]
# Forks a child into a session of its own and waits: what a killed parent leaves behind.
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, sys, time\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
    "print('forked', flush=True); time.sleep(60)",
]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    prepare(tmp_path)
    yield tmp_path
    end(marked(tmp_path))


@pytest.fixture
def supervisor(home: Path) -> Supervisor:
    return Supervisor(home)


def said(home: Path, name: str, word: str) -> bool:
    log = home / "logs" / f"{name}.log"
    return log.exists() and word in log.read_text()


def service(home: Path, name: str, argv: list[str], word: str = "", **limits: float) -> Service:
    return Service(name, argv, os.environ, lambda _: said(home, name, word) if word else True, **limits)


def wait_for(what: object, timeout_s: float = 5.0) -> None:
    assert callable(what)
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_start_waits_for_health_and_stop_leaves_nothing(home: Path, supervisor: Supervisor) -> None:
    supervisor.start_together([service(home, "one", PARENT, "forked"), service(home, "two", SLEEP)])
    assert len(marked(home)) == 3
    assert len(marked(home, "one")) == 2
    supervisor.stop()
    assert marked(home) == []
    supervisor.stop()


def test_a_service_that_ignores_sigterm_is_killed_after_its_grace(home: Path, supervisor: Supervisor) -> None:
    supervisor.start(service(home, "deaf", STUBBORN, "deaf", grace_s=0.3))
    began = time.monotonic()
    supervisor.stop()
    assert 0.3 <= time.monotonic() - began < 3
    assert marked(home) == []


def test_a_service_may_want_another_signal(home: Path, supervisor: Supervisor) -> None:
    deaf = service(home, "deaf", STUBBORN, "deaf", grace_s=30)
    supervisor.start(replace(deaf, stop_signal=signal.SIGINT))
    began = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - began < 20, "it was killed after its grace"


def test_a_service_that_dies_at_start_shows_its_log(home: Path, supervisor: Supervisor) -> None:
    broken = [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"]
    with pytest.raises(ServiceUnavailable, match=r"broken ended while starting \(exit status 3\)") as failure:
        supervisor.start(service(home, "broken", broken, "never"))
    assert "the reason" in str(failure.value)
    assert failure.value.where.endswith("broken.log")


def test_a_service_that_is_never_ready_times_out(home: Path, supervisor: Supervisor) -> None:
    with pytest.raises(ServiceUnavailable, match="slow was not ready within 0 s"):
        supervisor.start(service(home, "slow", SLEEP, "never", timeout_s=0.3))
    supervisor.stop()
    assert marked(home) == []


def test_run_returns_fails_and_times_out(home: Path, supervisor: Supervisor) -> None:
    supervisor.run("good", [sys.executable, "-c", "pass"], os.environ)
    with pytest.raises(ServiceUnavailable, match="bad failed with exit status 1"):
        supervisor.run("bad", [sys.executable, "-c", "raise SystemExit('no')"], os.environ)
    with pytest.raises(ServiceUnavailable, match="late did not finish"):
        supervisor.run("late", SLEEP, os.environ, timeout_s=0.3)
    assert marked(home) == []


def test_stop_ends_a_command_under_way(home: Path, supervisor: Supervisor) -> None:
    outcome: list[BaseException] = []

    def install() -> None:
        try:
            supervisor.run("install", SLEEP, os.environ)
        except Stopped as error:
            outcome.append(error)

    thread = threading.Thread(target=install)
    thread.start()
    wait_for(lambda: marked(home))
    supervisor.stop()
    thread.join(timeout=5)
    assert outcome
    assert marked(home) == []


def test_a_dead_service_is_restarted_and_its_children_are_not_doubled(home: Path, supervisor: Supervisor) -> None:
    supervisor.start(service(home, "one", PARENT, "forked"))
    before = {process.pid for process in marked(home, "one")}
    leader = supervisor._running["one"].process
    leader.kill()
    leader.wait()
    lines: list[str] = []
    supervisor.watch(lines.append)
    wait_for(lambda: len(marked(home, "one")) == 2)
    assert not before & {process.pid for process in marked(home, "one")}
    assert lines == [f"one died (signal SIGKILL) and was started again, 1 of {MAX_RESTARTS} times"]
    supervisor.stop()
    assert marked(home) == []


def test_restarts_are_bounded_and_back_off(home: Path, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    brief = [sys.executable, "-c", "raise SystemExit(7)"]
    supervisor.start(service(home, "brief", brief))
    running = supervisor._running["brief"]
    lines: list[str] = []
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    running.process.wait()
    supervisor.watch(lines.append)
    running.process.wait()
    supervisor.watch(lines.append)
    assert len(lines) == 1, "too soon after the first restart"
    for _ in range(MAX_RESTARTS - 1):
        now += 60
        supervisor.watch(lines.append)
        running.process.wait()
    assert len(lines) == MAX_RESTARTS
    now += 60
    with pytest.raises(ServiceUnavailable, match="brief keeps dying"):
        supervisor.watch(lines.append)
    monkeypatch.undo()
    supervisor.stop()


def test_left_overs_of_a_killed_supervisor_are_found_and_strangers_are_not(home: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from pipelines.embedded.processes.supervisor import Service, Supervisor\n"
        "s = Supervisor(Path(sys.argv[1]))\n"
        "s.start(Service('one', sys.argv[2:], os.environ, lambda _: True)); print('up', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(home), *PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        killed.stdout.readline()
        wait_for(lambda: said(home, "one", "forked"))
        killed.kill()
    other_home = tmp_path / "another"
    prepare(other_home)
    stranger = Supervisor(other_home)
    stranger.start(service(other_home, "other", SLEEP))
    left = marked(home)
    assert len(left) == 2
    end(left)
    assert marked(home) == []
    assert len(marked(other_home)) == 1
    stranger.stop()


def test_nothing_starts_after_stop(home: Path, supervisor: Supervisor) -> None:
    supervisor.stop()
    with pytest.raises(Stopped):
        supervisor.start(service(home, "late", SLEEP))


def test_end_takes_processes_that_are_gone(home: Path, supervisor: Supervisor) -> None:
    supervisor.start(service(home, "one", SLEEP))
    while not (processes := marked(home)):  # until it has become the program that it is to be
        time.sleep(0.01)
    os.kill(processes[0].pid, signal.SIGKILL)
    supervisor._running["one"].process.wait()
    end(processes)
