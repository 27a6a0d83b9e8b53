"""What the README tells people to type exists."""

from __future__ import annotations

import re

import pytest

from pipelines.cli.app import app
from pipelines.problem import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
COMMANDS |= {group.name for group in app.registered_groups}
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("command", sorted(set(re.findall(r"evergreen ([a-z]+)\b", README)) - {"demo output"}))
def test_each_evergreen_command_exists(command: str) -> None:
    assert command in COMMANDS


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z]+)", README))))
def test_each_make_target_exists(target: str) -> None:
    assert target in TARGETS


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!https?:)[^)#]+)\)", README))))
def test_each_link_leads_somewhere(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_commands_are_told_on_the_first_screen() -> None:
    first_screen = "\n".join(README.splitlines()[:45])
    assert {"make demo", "make test"} <= set(re.findall(r"make [a-z]+", first_screen))
    assert "mermaid" in first_screen
