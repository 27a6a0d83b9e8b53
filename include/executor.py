"""Airflow's LocalExecutor, which holds nothing while there is nothing to do.

LocalExecutor forks its workers from the scheduler when that starts, and keeps them. Tasks need half a gigabyte of
modules, which forks have for nothing, so the scheduler would load all of it before its first task and hold it for ever.
Here the workers are forked from another process, Python's fork server. It loads the modules (`include.fork_server`)
when a task is there, and ends with the workers when none has been for a while.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import forkserver

import psutil  # type: ignore[import-untyped]
from airflow.executors import local_executor
from airflow.executors.workloads import ExecutorWorkload

KEPT_S = 60.0  # after a task has started, and again until none runs; then the workers end
REST_S = 0.5  # while there are no workers, the scheduler waits so much longer between two looks for work


class LocalExecutor(local_executor.LocalExecutor):
    """Wants `[scheduler] mp_start_method = forkserver`."""

    _looked: float = 0.0

    def sync(self) -> None:
        """Take in what has ended and replace workers that died; end all of them when they are not needed."""
        super().sync()
        if not self.workers:
            time.sleep(REST_S)
        elif time.monotonic() - self._looked > KEPT_S:
            self._looked = time.monotonic()
            if not self._is_working():
                self._end_workers()

    def _process_workloads(self, workload_list: Sequence[ExecutorWorkload]) -> None:
        self._looked = time.monotonic()
        super()._process_workloads(workload_list)  # type: ignore[no-untyped-call]

    def _is_working(self) -> bool:
        """Whether something waits for a worker, or a worker has a child: the task that it runs."""
        with self._unread_messages:
            waiting = self._unread_messages.value
        children = []
        for worker in self.workers:
            with suppress(psutil.Error):
                children += psutil.Process(worker).children()
        return bool(waiting or children)

    def _end_workers(self) -> None:
        for process in self.workers.values():
            if process.is_alive():
                self.activity_queue.put(None)
        for process in self.workers.values():
            process.join()
            process.close()
        self.workers = {}
        self._read_results()  # type: ignore[no-untyped-call]
        # No public call ends the fork server. The next worker starts another.
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
