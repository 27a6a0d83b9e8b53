"""Where commands write: results on standard output and nothing else, all other words on standard error."""

from __future__ import annotations

import json
import sys
import unicodedata

import typer
from pydantic_core import to_jsonable_python
from rich import markup
from rich.console import Console

WIDE = 160  # columns, where nobody looks at a terminal
console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
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
    typer.echo(_as_json(value))


def notice_json(value: object) -> None:
    """As `print_json`, in one line on standard error."""
    typer.echo(_as_json(value, indent=None), err=True)


def _as_json(value: object, indent: int | None = 1) -> str:
    return json.dumps(to_jsonable_python(value, inf_nan_mode="null"), indent=indent, ensure_ascii=False)


def wants_json() -> bool:
    """Whether this command was called with --json: asked before anything is parsed, as that may fail."""
    return "--json" in sys.argv[1:]
