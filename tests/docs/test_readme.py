"""What the README tells people to type exists."""

from __future__ import annotations

import re

import pytest

from docs.commands import commands
from pipelines.problem import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = {name.split()[0] for name in commands()}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("command", sorted(set(re.findall(r"\bevergreen ([a-z][a-z-]*)", README))))
def test_each_evergreen_command_exists(command: str) -> None:
    assert command in COMMANDS


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z-]+)", README))))
def test_each_make_target_exists(target: str) -> None:
    assert target in TARGETS


def test_the_commands_are_told_on_the_first_screen() -> None:
    first_screen = "\n".join(README.splitlines()[:45])
    assert {"make demo", "make test"} <= set(re.findall(r"make [a-z]+", first_screen))
    assert "mermaid" in first_screen
