"""Airflow's LocalExecutor, which holds nothing while there is nothing to do.

LocalExecutor forks its workers from the scheduler when that starts, and keeps them. Tasks need half a gigabyte of
modules, which forks have for nothing, so the scheduler would load all of it before its first task and hold it for ever.
Here the workers are forked from another process, Python's fork server. It loads the modules (`include.fork_server`)
when a task is there, and ends with the workers when none has been for a while. Who asks it for a worker waits until it
has loaded all, on a busy machine for longer than a scheduler may stand still; so a thread does that, and the scheduler
goes on.

LocalExecutor's workers take turns at a lock to read one queue. One that is killed while it waits there keeps the lock,
and no task would begin any more until the scheduler is started again; so then there are a new queue and new workers.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import SimpleQueue, forkserver
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]
from airflow.executors import local_executor
from airflow.executors.workloads import ExecutorWorkload

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

LOCK_S = 1.0  # that a worker which lives holds the lock of a queue with something in it, at most
LEAVING_S = 2.0  # that a worker may take to say how its task ended
KEPT_S = 60.0  # after a task has started, and again until none runs; then the workers end
REST_S = 0.5  # while there are no workers, the scheduler waits so much longer between two looks for work


class LocalExecutor(local_executor.LocalExecutor):
    """Wants `[scheduler] mp_start_method = forkserver`."""

    _looked: float = 0.0
    _server: threading.Thread | None = None
    """Starts the fork server; over once that forks at once."""

    def start(self) -> None:
        super().start()
        self._leaving: dict[BaseProcess, float] = {}  # of a queue that was given up, since when each has had no task

    def sync(self) -> None:
        """Take in what has ended and replace workers that died; end all of them when they are not needed."""
        self._end_leaving()
        super().sync()
        if not self.workers:
            if self._server is None:
                time.sleep(REST_S)
        elif time.monotonic() - self._looked > KEPT_S:
            self._looked = time.monotonic()
            if not self._is_working():
                self._end_workers()

    def _process_workloads(self, workload_list: Sequence[ExecutorWorkload]) -> None:
        self._looked = time.monotonic()
        super()._process_workloads(workload_list)  # type: ignore[no-untyped-call]

    def _check_workers(self) -> None:
        if any(worker.exitcode for worker in self.workers.values()):
            self._begin_anew()
        super()._check_workers()  # type: ignore[no-untyped-call]

    def _spawn_worker(self) -> None:
        """Where the fork server is not there yet, one is spawned at one of the next looks."""
        if self._server is None:
            self._server = threading.Thread(target=_ask_for_a_fork, daemon=True)
            self._server.start()
        if not self._server.is_alive():
            super()._spawn_worker()  # type: ignore[no-untyped-call]

    def revoke_task(self, *, ti: TaskInstance) -> None:
        """Forget a task that has been queued for long: whoever was to begin it was killed. Airflow queues it again."""
        self.running.discard(ti.key)
        self.queued_tasks.pop(ti.key, None)

    def _is_working(self) -> bool:
        """Whether something waits for a worker, or a worker has a child: the task that it runs."""
        with self._unread_messages:
            waiting = self._unread_messages.value
        return bool(waiting or self._leaving or any(map(_has_task, self.workers.values())))

    def _end_workers(self) -> None:
        for process in self.workers.values():
            if process.is_alive():
                self.activity_queue.put(None)
        for process in self.workers.values():
            process.join(LEAVING_S)
        # One that has just begun a task ends after it, by the message that it was sent.
        busy = {pid: process for pid, process in self.workers.items() if process.is_alive() and _has_task(process)}
        for pid in self.workers.keys() - busy.keys():
            _end(self.workers[pid])
        self.workers = busy
        self._read_results()  # type: ignore[no-untyped-call]
        if busy:
            return
        self._open_queue([])
        # No public call ends the fork server. The next worker starts another.
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        self._server = None

    def _begin_anew(self) -> None:
        """Another queue with what waits in this one. Workers that run a task end it."""
        for process in self.workers.values():
            if process.is_alive() and _has_task(process):
                self._leaving[process] = time.monotonic()
            else:
                _end(process)
        self.workers = {}
        given_up = self.activity_queue
        # Never released. Where it cannot be had the one that holds it is dead, or waits for a queue that is empty.
        given_up._rlock.acquire(timeout=LOCK_S)  # type: ignore[attr-defined]
        waiting = []
        while given_up._reader.poll():  # type: ignore[attr-defined]
            waiting.append(ForkingPickler.loads(given_up._reader.recv_bytes()))  # type: ignore[attr-defined]
        self._open_queue([workload for workload in waiting if workload is not None])

    def _open_queue(self, waiting: Sequence[ExecutorWorkload]) -> None:
        self.activity_queue = SimpleQueue()
        self._unread_messages = multiprocessing.Value(ctypes.c_uint, len(waiting))
        for workload in waiting:
            self.activity_queue.put(workload)

    def _end_leaving(self) -> None:
        for process, since in list(self._leaving.items()):
            if process.is_alive() and _has_task(process):
                self._leaving[process] = time.monotonic()
            elif time.monotonic() - since > LEAVING_S:
                del self._leaving[process]
                _end(process)


def _ask_for_a_fork() -> None:
    """Start the fork server, and wait until it has forked a process, which does nothing."""
    process = multiprocessing.Process(target=_nothing)
    process.start()
    process.join()
    process.close()


def _nothing() -> None:
    pass


def _has_task(worker: BaseProcess) -> bool:
    with suppress(psutil.Error):
        return bool(psutil.Process(worker.pid).children())
    return False


def _end(process: BaseProcess) -> None:
    process.kill()
    process.join()
    process.close()
