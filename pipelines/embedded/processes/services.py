"""Services of one home folder as one thing, up and down together: what runs here is a subclass of `Services`."""

from __future__ import annotations

import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import ClassVar, Self

from pipelines.embedded.processes.home import FOLDERS, only_supervisor, prepare, supervisor_of
from pipelines.embedded.processes.supervisor import Progress, Stopped, Supervisor, end, marked
from pipelines.errors import EvergreenError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WATCH_EVERY_S = 1.0
STOP_TIMEOUT_S = 60.0


class Services(ABC):
    """The services of one home folder.

    From `start` to `stop`, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread, as Ctrl-C does.
    """

    folders: ClassVar[Sequence[str]] = FOLDERS
    """Of the home folder, beside its logs."""

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self._supervisor: Supervisor | None = None  # none until the folder's lock is ours
        self._resources = ExitStack()
        self._watching = threading.Event()
        self._failure: EvergreenError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _bring_up(self, supervisor: Supervisor, progress: Progress) -> None:
        """Start everything, and return when it is healthy. What has to be undone at the end is put on `_resources`."""

    def start(self, progress: Progress = print) -> None:
        """Bring everything up; return when all of it is healthy, and keep it so until `stop`.

        Raises:
            ConfigError: a port is taken, the disk is full, another supervisor uses the folder.
            ServiceUnavailable: a service did not come up. In each case nothing is left running.
        """
        progress = _thread_safe(progress)
        try:
            prepare(self.home, self.folders)
            self._resources.enter_context(only_supervisor(self.home))
            self._resources.enter_context(_signals_interrupt())
            left_over = marked(self.home)
            if left_over:
                progress(f"ending {len(left_over)} processes that an earlier start left behind")
                end(left_over)
            supervisor = self._supervisor = Supervisor(self.home)
            self._bring_up(supervisor, progress)
        except BaseException:
            self.stop()
            raise
        self._failure = None
        self._watching.set()
        threading.Thread(target=self._watch, args=(supervisor, progress), daemon=True, name="evergreen-watch").start()

    def stop(self) -> None:
        """End every process that was started. Safe to call twice; signals wait until it is done."""
        self._watching.clear()
        with _signals_ignored():
            if self._supervisor is not None:
                self._supervisor.stop()
                self._supervisor = None
            self._resources.close()

    def check(self) -> None:
        """Raises ServiceUnavailable when a service has died more often than it is worth restarting."""
        if self._failure is not None:
            raise self._failure

    def wait(self) -> None:
        """Stay up until Ctrl-C or a signal (KeyboardInterrupt); raises as `check` does."""
        while self._watching.is_set():
            self.check()
            threading.Event().wait(WATCH_EVERY_S)

    def _watch(self, supervisor: Supervisor, progress: Progress) -> None:
        while self._watching.is_set():
            try:
                supervisor.watch(progress)
            except EvergreenError as error:
                self._failure = error
                return
            except Stopped:
                return
            except OSError as error:
                progress(f"a service died and cannot be started again yet: {error}")
            threading.Event().wait(WATCH_EVERY_S)


def stop_running(home: Path) -> bool:
    """Stop the services of a folder from another process, and what an unclean end left of them; whether any ran."""
    holder = supervisor_of(home)
    if holder is not None:
        os.kill(holder, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while supervisor_of(home) == holder and time.monotonic() < deadline:
            time.sleep(0.2)
    left = marked(home)
    end(left)
    return holder is not None or bool(left)


def _thread_safe(progress: Progress) -> Progress:
    """Lines come whole from several threads, and a terminal that has gone away stops nothing."""
    turn = threading.Lock()

    def report(line: str) -> None:
        with turn, suppress(OSError):
            progress(line)

    return report


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _signals_interrupt() -> ExitStack:
    return _handlers(_interrupt)


def _signals_ignored() -> ExitStack:
    return _handlers(signal.SIG_IGN)


def _handlers(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> ExitStack:
    """Handle SIGNALS so until the stack is closed; only the main thread may, others change nothing."""
    stack = ExitStack()
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            stack.callback(signal.signal, number, signal.signal(number, handler))
    return stack
