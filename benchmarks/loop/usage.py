"""CPU and memory of this process's children, by service."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

SCHEDULER = "airflow_scheduler"
MEMORY_EVERY_S = 1.0


class Usage:
    """CPU seconds used so far by each service of a home, and by the tasks that the scheduler runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @classmethod
    def now(cls) -> Usage:
        usage, seconds = cls(), defaultdict[str, float](float)
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error, OSError):
                service = process.environ().get("EVERGREEN_SERVICE")
                if service is None:
                    continue
                times = process.cpu_times()
                own, ended = times.user + times.system, times.children_user + times.children_system
                # A task's worker comes from the scheduler's fork server; most have ended when this looks.
                is_scheduler = service == SCHEDULER and process.ppid() == os.getpid()
                seconds[service if is_scheduler or service != SCHEDULER else "tasks"] += own
                seconds["tasks" if service == SCHEDULER else service] += ended
        usage.seconds = dict(seconds)
        return usage

    def since(self, before: Usage) -> dict[str, float]:
        return {name: used - before.seconds.get(name, 0.0) for name, used in self.seconds.items()}


class Memory:
    """The most that all services together held, in MiB: each shared page counted once (PSS)."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._end = threading.Event()

    @contextmanager
    def watched(self) -> Iterator[Memory]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._end.set()
            thread.join()

    @staticmethod
    def now() -> dict[str, float]:
        """By service."""
        held = defaultdict[str, float](float)
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error, OSError):
                held[process.environ().get("EVERGREEN_SERVICE", "others")] += process.memory_full_info().pss / 2**20
        return dict(held)

    def _watch(self) -> None:
        while not self._end.wait(MEMORY_EVERY_S):
            self.peak = max(self.peak, sum(self.now().values()))
