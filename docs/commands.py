"""The commands of `evergreen`, as the app itself lists them."""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path
from typing import get_args

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from pipelines.cli.app import app

# What stands after an option, by the type of its value.
VALUES = {str: "TEXT", list[str]: "TEXT", Path: "FILE", int: "NUMBER", float: "NUMBER"}


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
        anchor = f"evergreen-{name.replace(' ', '-')}"
        rows.append(f"| [`evergreen {name}`](#{anchor}) | {' '.join(first_paragraph.split())} |")
    return "\n".join(rows)


def pages() -> str:
    """A section per command, in Markdown: its help, its example, its arguments and options."""
    return "\n\n".join(_page(name, command) for name, command in commands().items())


def _page(name: str, command: TyperCommand) -> str:
    text, _, example = inspect.cleandoc(command.help or "").partition("Example:\n")
    rows = [f"## `evergreen {name}`", "", text.strip(), "", "```console", textwrap.dedent(example).strip(), "```"]
    parameters = [parameter for parameter in command.params if isinstance(parameter, TyperArgument | TyperOption)]
    if parameters:
        rows += ["", "| | default | meaning |", "| --- | --- | --- |", *map(_parameter, parameters)]
    return "\n".join(rows)


def _parameter(parameter: TyperArgument | TyperOption) -> str:
    default = "" if parameter.default in (None, "") else f"`{parameter.default}`".lower()
    meaning = (parameter.help or "").replace("|", "\\|")
    return f"| `{_spelled(parameter)}` | {'**required**' if parameter.required else default} | {meaning} |"


def _spelled(parameter: TyperArgument | TyperOption) -> str:
    """How it is typed: `PROBLEM`, `--stay`, `--no-stay`, `--until TEXT`."""
    if isinstance(parameter, TyperArgument):
        return (parameter.metavar or str(parameter.name)).strip("[].").upper()
    names = "`, `".join((*parameter.opts, *parameter.secondary_opts))
    if parameter.is_flag:
        return names
    annotation = parameter.type_descriptor.annotation
    return f"{names} {VALUES.get(annotation) or ' or '.join(get_args(annotation))}"
