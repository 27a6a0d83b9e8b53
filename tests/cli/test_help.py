"""Every command, by the app's own list, explains itself: what it does, and an example that parses."""

from __future__ import annotations

import inspect
import re
import shlex

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from docs.commands import commands
from pipelines.cli.app import app
from pipelines.problem_folders import problem_names

COMMANDS = commands()


def examples(help_text: str) -> list[str]:
    """The lines below `Example:`.

    >>> examples("Stop it.\\n\\nExample:\\n    evergreen down")
    ['evergreen down']
    """
    _, _, block = help_text.partition("Example:\n")
    return [line.strip() for line in block.splitlines() if line.strip()]


def parsed(example: str) -> dict[str, object]:
    """The arguments that a command would get, as its own parser reads them; nothing is run."""
    words = shlex.split(re.split(r"\s[>|]\s", example)[0])
    assert words[0] == "evergreen"
    command, path, rest = get_command(app), "evergreen", words[1:]
    while isinstance(command, TyperGroup) and rest and rest[0] in command.commands:
        command, path, rest = command.commands[rest[0]], f"{path} {rest[0]}", rest[1:]
    context = command.make_context(path, rest)
    return {"command": path, **context.params}


def test_the_list_holds_commands_of_every_kind() -> None:
    assert {"up", "run", "decide", "roll-back", "fall-back", "quarantine list", "quarantine hold"} <= set(COMMANDS)
    assert len(COMMANDS) >= 19


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_example_of_its_own(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    help_text = inspect.cleandoc(COMMANDS[name].help or "")
    sentence = help_text.partition("\n")[0]
    assert len(sentence.split()) >= 5, "say what the command does, in a sentence"
    own = [line for line in examples(help_text) if line.split()[1 : 1 + len(name.split())] == name.split()]
    assert own, f"give an example: `Example:` and below it a line `evergreen {name} ...`"
    assert all(line in shown.stdout for line in own)


@pytest.mark.parametrize(
    "example", [line for command in COMMANDS.values() for line in examples(inspect.cleandoc(command.help or ""))]
)
def test_each_example_parses(example: str) -> None:
    arguments = parsed(example)
    name = str(arguments["command"]).removeprefix("evergreen").strip()
    assert name in COMMANDS
    assert arguments.get("problem") in (None, *problem_names())


def test_an_example_with_a_wrong_option_or_too_few_arguments_does_not_parse() -> None:
    with pytest.raises(Exception, match="No such option"):
        parsed("evergreen up --loudly")
    with pytest.raises(Exception, match="Missing parameter: problem"):
        parsed("evergreen replay")
