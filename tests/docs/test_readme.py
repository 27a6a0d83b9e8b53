"""What README, CONTRIBUTING and the docs tell people to type within a line exists; blocks: test_blocks.py."""

from __future__ import annotations

import re

import pytest

from docs.commands import commands
from pipelines.problem import ROOT
from tests.docs.blocks import PAGES

README = (ROOT / "README.md").read_text()
TEXTS = [re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE) for page in PAGES]
CODE = "\n".join(code for text in TEXTS for code in re.findall(r"`[^`\n]+`", text))
COMMANDS = {name.split()[0] for name in commands()}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def typed(program: str) -> list[str]:
    """The words that follow `program` where it begins a command."""
    return sorted(set(re.findall(rf"(?:^|`|bin/){program} ([a-z][a-z-]*)", CODE, flags=re.MULTILINE)))


def test_something_is_looked_at() -> None:
    assert {"demo", "run", "quarantine", "roll-back"} <= set(typed("evergreen"))
    assert {"demo", "test", "check", "drift-bench"} <= set(typed("make"))


@pytest.mark.parametrize("command", typed("evergreen"))
def test_each_evergreen_command_exists(command: str) -> None:
    assert command in COMMANDS


@pytest.mark.parametrize("target", typed("make"))
def test_each_make_target_exists(target: str) -> None:
    assert target in TARGETS


def test_the_commands_are_told_on_the_first_screen() -> None:
    first_screen = "\n".join(README.splitlines()[:45])
    assert {"make demo", "make test"} <= set(re.findall(r"make [a-z]+", first_screen))
    assert "mermaid" in first_screen
