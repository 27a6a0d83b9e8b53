"""The commands of `evergreen`, as the app itself lists them."""

from __future__ import annotations

import inspect

from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from pipelines.cli.app import app


def commands() -> dict[str, TyperCommand]:
    """Each command by the words that call it, such as `quarantine list`; a group gives way to its commands."""
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    return _below(root, "")


def _below(group: TyperGroup, path: str) -> dict[str, TyperCommand]:
    leaves: dict[str, TyperCommand] = {}
    for name, command in group.commands.items():
        words = f"{path} {name}".strip()
        if isinstance(command, TyperGroup):
            leaves |= _below(command, words)
        else:
            assert isinstance(command, TyperCommand)
            leaves[words] = command
    return leaves


def table() -> str:
    """A row per command, in Markdown: its name and the first paragraph of its help."""
    rows = ["| command | what it does |", "| --- | --- |"]
    for name, command in commands().items():
        first_paragraph = inspect.cleandoc(command.help or "").partition("\n\n")[0]
        rows.append(f"| `evergreen {name}` | {' '.join(first_paragraph.split())} |")
    return "\n".join(rows)
