"""The commands of `evergreen`, as the app itself lists them."""

from __future__ import annotations

import inspect
import textwrap
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args, get_origin

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from pipelines.cli.app import app
from pipelines.cli.exits import MEANINGS
from pipelines.cli.results import RESULTS, Failure, Nothing, Result

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


def exit_codes() -> str:
    """What commands exit with, in Markdown."""
    rows = [f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(["| code | when |", "| --- | --- |", *rows])


def results() -> str:
    """What each command prints with --json, field by field, in Markdown; what several commands print stands once."""
    sections = [_result(Failure, "An error"), _result(Nothing, "Where there was nothing to do")]
    by_type: dict[type[Result], list[str]] = {}
    for command, kind in RESULTS.items():
        by_type.setdefault(kind[0] if isinstance(kind, list) else kind, []).append(command)
    for kind, names in by_type.items():
        title = ", ".join(f"`evergreen {name}`" for name in names)
        sections.append(_result(kind, f"{title}{', a list of' if isinstance(RESULTS[names[0]], list) else ''}"))
    return "\n\n".join(sections)


def _result(kind: type[Result], title: str) -> str:
    about = inspect.cleandoc(kind.__doc__ or "").partition("\n")[0]
    rows = "\n".join(["| field | type | meaning |", "| --- | --- | --- |", *_fields(kind, "")])
    return f"**{title}**: {about[0].lower()}{about[1:]}\n\n{rows}"


def _fields(kind: type[Result], path: str) -> list[str]:
    """A row per field, those of a part below it: `versions[].rows`."""
    rows = []
    for name, field in kind.model_fields.items():
        part = next((inner for inner in _inner(field.annotation) if issubclass(inner, Result)), None)
        meaning = field.description or (inspect.cleandoc(part.__doc__ or "") if part else "")
        rows.append(f"| `{path}{name}` | {_type_in_words(field.annotation)} | {' '.join(meaning.split())} |")
        if part is not None:
            rows += _fields(part, f"{path}{name}[].")
    return rows


def _inner(annotation: object) -> list[type]:
    if parts := get_args(annotation):
        return [inner for part in parts for inner in _inner(part)]
    return [annotation] if isinstance(annotation, type) else []


def _type_in_words(annotation: object) -> str:
    """The type as JSON has it.

    >>> _type_in_words(list[str]), _type_in_words(int | None), _type_in_words(Literal["a", "b"])
    ('list of text', 'number or null', '`a` or `b`')
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin is list:
        return f"list of {_type_in_words(parts[0])}"
    if origin is dict:
        return "object"
    if parts:
        return " or ".join(_type_in_words(part) for part in parts)
    words = {str: "text", int: "number", float: "number", bool: "true or false", type(None): "null"}
    words |= {datetime: "moment, ISO 8601"}
    return words.get(annotation, "object")  # type: ignore[call-overload, no-any-return]


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
