"""What one task knows of the store: tables that it has opened, objects that it has read.

Within a task a table is as it was when the task first opened it, or as the task's own last write has left it: another
writer's commit in between is met when this task commits, as in any transaction. Without a task around it, as in a
notebook, each call looks anew.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

KEPT_BYTES = 64 * 2**20  # of objects, in memory


class Kept:
    """Contents by name, each fetched once; the longest unused go where they are more than KEPT_BYTES."""

    def __init__(self) -> None:
        self._contents: OrderedDict[str, bytes | None] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._fetching: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def get(self, name: str, fetch: Callable[[], bytes | None]) -> bytes | None:
        """None: nothing is there, which is kept in mind too."""
        with self._lock:
            turn = self._fetching[name]
        with turn:
            with self._lock:
                if name in self._contents:
                    self._contents.move_to_end(name)
                    return self._contents[name]
            content = fetch()
            self.put(name, content)
            return content

    def put(self, name: str, content: bytes | None) -> None:
        with self._lock:
            self._bytes += len(content or b"") - len(self._contents.pop(name, None) or b"")
            self._contents[name] = content
            while self._bytes > KEPT_BYTES:
                self._bytes -= len(self._contents.popitem(last=False)[1] or b"")

    def forget(self, prefix: str) -> None:
        """Whatever has a name that starts so."""
        with self._lock:
            for name in [name for name in self._contents if name.startswith(prefix)]:
                self._bytes -= len(self._contents.pop(name) or b"")


class Task:
    """What is known to one task, in one process."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.tables: dict[str, Any] = {}
        self.objects = Kept()


_task: ContextVar[Task | None] = ContextVar("task", default=None)


@contextmanager
def task() -> Iterator[None]:
    """The stores's side of a task: what is read or opened within is known until its end, and to nobody else."""
    token = _task.set(Task())
    try:
        yield
    finally:
        _task.reset(token)


def current() -> Task | None:
    """The task that is running; None where there is none, or where this process was forked from it."""
    task = _task.get()
    return task if task and task.process == os.getpid() else None
