"""The executor for real: workers come with the first task from a process of their own, and go when nothing is to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.problem import ROOT

SCRIPT = """
import multiprocessing, os, time
from types import SimpleNamespace

import psutil

from include import executor

def work(key, running=None):
    return SimpleNamespace(
        key=key, display_name=key, running_state=None, success_state="success", failure_state="failed"
    )

def children():
    return [child for child in psutil.Process().children(recursive=True) if "forkserver" in " ".join(child.cmdline())]

def until(condition, tasks):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        tasks.sync()
        time.sleep(0.02)

if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")
    executor.KEPT_S = executor.REST_S = 0.2
    tasks = executor.LocalExecutor(parallelism=2)
    tasks.start()
    tasks.sync()
    assert not children() and not tasks.workers
    servers = set()
    for key in ("first", "second"):
        tasks.queued_tasks[key] = workload = work(key)
        tasks._process_workloads([workload])
        until(lambda: tasks.workers, tasks)
        servers |= {child.pid for child in children() if child.ppid() == os.getpid()}
        # What it is given is no workload that Airflow knows: the worker says so, and lives on.
        until(lambda: key in tasks.event_buffer, tasks)
        assert tasks.event_buffer[key][0] == "failed"
        until(lambda: not tasks.workers, tasks)
        assert not children()
    assert len(servers) == 2
    # A worker that is killed while it waits keeps the lock of the queue; what is there to do is done all the same.
    executor.KEPT_S = 60
    for number, keys in enumerate((["third"], ["fourth", "fifth", "sixth"])):
        for key in keys:
            tasks.queued_tasks[key] = work(key)
        tasks._process_workloads([tasks.queued_tasks[key] for key in keys])
        until(lambda: all(key in tasks.event_buffer for key in keys), tasks)
        if not number:
            for worker in tasks.workers.values():
                worker.kill()
                worker.join()
    tasks.end()
"""


@pytest.mark.slow
def test_workers_and_their_server_are_there_only_while_there_are_tasks() -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr


SLOW_SERVER = """
import multiprocessing, sys, time
from pathlib import Path
from types import SimpleNamespace

from include import executor

if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")
    multiprocessing.set_forkserver_preload(["waits_for_a_file"])
    tasks = executor.LocalExecutor(parallelism=1)
    tasks.start()
    tasks.queued_tasks["first"] = SimpleNamespace(
        key="first", display_name="first", running_state=None, success_state="success", failure_state="failed"
    )
    tasks._process_workloads([tasks.queued_tasks["first"]])
    for _ in range(3):
        tasks.sync()
    assert not tasks.workers
    Path("loaded").touch()
    deadline = time.monotonic() + 60
    while "first" not in tasks.event_buffer:
        assert time.monotonic() < deadline
        tasks.sync()
        time.sleep(0.02)
    tasks.end()
"""


@pytest.mark.slow
def test_a_scheduler_goes_on_while_the_server_of_its_workers_loads(tmp_path: Path) -> None:
    waits = "import pathlib, time\nwhile not pathlib.Path('loaded').exists():\n    time.sleep(0.02)\n"
    (tmp_path / "waits_for_a_file.py").write_text(waits)
    command = [sys.executable, "-W", "ignore", "-c", SLOW_SERVER]
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
