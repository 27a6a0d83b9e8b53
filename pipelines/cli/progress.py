"""What is going on, on standard error: a moving line in a terminal, elsewhere a line for each step that has ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import Progress as Bar
from rich.progress import ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from pipelines.cli import terminal
from pipelines.cli.terminal import escape


class Progress(Protocol):
    """Told what begins now, and how many of how many are done where that is known."""

    def __call__(self, step: str, done: int | None = None, of: int | None = None, /) -> None: ...


class Work:
    """Something that takes a while, shown by its title and the step that it is at."""

    def step(self, step: str, done: int | None = None, of: int | None = None) -> None:
        """What begins now; told again with another count it is the same step."""

    def line(self, text: str, *, is_warning: bool = False) -> None:
        """A line that stays."""
        terminal.notices.print(escape(text))

    def end(self) -> None:
        """All of it is done."""


class _Moving(Work):
    def __init__(self, bar: Bar, task: TaskID, title: str) -> None:
        self._bar, self._task, self._title = bar, task, title

    def step(self, step: str, done: int | None = None, of: int | None = None) -> None:
        self._bar.update(self._task, description=escape(f"{self._title}: {step}"), completed=done or 0, total=of)


class _Lines(Work):
    def __init__(self, tells_steps: bool) -> None:
        self._tells_steps, self._step, self._began = tells_steps, "", 0.0

    def step(self, step: str, done: int | None = None, of: int | None = None) -> None:
        if self._tells_steps and step != self._step:
            self.end()
            self._step, self._began = step, time.monotonic()

    def end(self) -> None:
        if self._step:
            self.line(f"{self._step:<10} {time.monotonic() - self._began:6.1f} s")


class _Silent(Work):
    def line(self, text: str, *, is_warning: bool = False) -> None:
        if is_warning:
            super().line(text)


@contextmanager
def working(title: str, *, quiet: bool = False, tells_steps: bool = True) -> Iterator[Work]:
    """Show that something is going on while it is.

    Args:
        quiet: say nothing, as it is for a program.
        tells_steps: where nothing can move, a line for each step that has ended; False: who works has its own lines.
    """
    if quiet:
        yield _Silent()
        return
    if not terminal.notices.is_terminal:
        lines = _Lines(tells_steps)
        yield lines
        lines.end()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), _HowMany(), TimeElapsedColumn())
    with Bar(*columns, console=terminal.notices, transient=True, redirect_stdout=False) as bar:
        yield _Moving(bar, bar.add_task(escape(title), total=None), title)


class _HowMany(ProgressColumn):
    """How many of how many, where that is known."""

    def render(self, task: Task) -> Text:
        is_several = task.total is not None and task.total > 1
        return Text(f"{task.completed:.0f} of {task.total:.0f}" if is_several else "")
