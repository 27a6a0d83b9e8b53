"""Where commands write: results on standard output and nothing else, all other words on standard error."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from contextvars import ContextVar
from typing import IO, Any, TypeVar

import typer
from pydantic_core import to_jsonable_python
from rich import markup
from rich.console import Console
from typer.core import TyperCommand

F = TypeVar("F", bound=Callable[..., Any])
WIDE = 160  # columns, where nobody looks at a terminal
_kept: ContextVar[IO[str] | None] = ContextVar("kept", default=None)


def output() -> IO[str]:
    """Where results go: standard output, also while `results_alone` keeps all others off it."""
    return _kept.get() or sys.stdout


@contextmanager
def results_alone() -> Iterator[None]:
    """Meanwhile whatever libraries, and processes that are started, print on standard output goes to standard error:
    MLflow, for one, says there where a run can be seen. `output`, and what writes there, goes on as before."""
    standard_output, is_own = sys.stdout, _is(sys.stdout, 1) and _is(sys.stderr, 2)
    result = standard_output
    if is_own:
        standard_output.flush()
        encoding, errors = standard_output.encoding, standard_output.errors
        result = os.fdopen(os.dup(1), "w", encoding=encoding, errors=errors)
        os.dup2(2, 1)
    token = _kept.set(result)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _kept.reset(token)
        if is_own:
            standard_output.flush()
            os.dup2(result.fileno(), 1)
            with suppress(BrokenPipeError):  # whoever read it has gone
                result.close()


def _is(stream: IO[str] | None, descriptor: int) -> bool:
    """Whether what is written to `stream` leaves the process there: children write there too."""
    try:
        return stream is not None and stream.fileno() == descriptor
    except OSError:  # it stays in memory
        return False


class Command(TyperCommand):
    """A command whose results have standard output for themselves; its --help is no result, and printed before."""

    def invoke(self, ctx: Any) -> Any:
        with results_alone():
            return super().invoke(ctx)


class Commands(typer.Typer):
    """Several of them."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[F], F]:
        return super().command(name, cls=Command, **options)


class Output(Console):
    """Writes to `output`."""

    @property  # type: ignore[misc]  # nobody sets it
    def file(self) -> IO[str]:
        return output()


console = Output(highlight=False, width=None if sys.stdout.isatty() else WIDE)
notices = Console(stderr=True, highlight=False, soft_wrap=True)


def escape(text: str) -> str:
    """Text of the data or of a file for `console`: no markup of rich's, and no control character for the terminal.

    >>> escape("a[b]\x1b[2J\x07")
    'a\\\\[b]\\ufffd[2J\\ufffd'
    """
    is_plain = {"\n", "\t"}
    plain = "".join("\ufffd" if unicodedata.category(sign) == "Cc" and sign not in is_plain else sign for sign in text)
    return markup.escape(plain)


def print_json(value: object) -> None:
    """A result as JSON: moments as ISO 8601, what is no number as null."""
    print_text(_as_json(value) + "\n")


def print_text(text: str) -> None:
    """A result that is text for a program, as it is."""
    typer.echo(text, file=output(), nl=False)


def notice_json(value: object) -> None:
    """As `print_json`, in one line on standard error."""
    typer.echo(_as_json(value, indent=None), err=True)


def _as_json(value: object, indent: int | None = 1) -> str:
    return json.dumps(to_jsonable_python(value, inf_nan_mode="null"), indent=indent, ensure_ascii=False)


def wants_json() -> bool:
    """Whether this command was called with --json: asked before anything is parsed, as that may fail."""
    return "--json" in sys.argv[1:]
