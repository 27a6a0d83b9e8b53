"""The blocks of code in the pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipelines.problem import ROOT

FENCE = re.compile(r"\s*(`{3,}|~{3,})(.*)")
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))


class Block(NamedTuple):
    """A fenced or an indented block."""

    page: str
    """Where it stands, from the repository's root."""
    line: int
    """Its first line."""
    kind: str
    """What its fence says, such as `console`; empty: nothing, or the block is indented."""
    text: str
    """What is in it."""


def blocks(page: Path) -> Iterator[Block]:
    """The page's blocks, in order."""
    name = str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name
    lines = page.read_text().splitlines()
    at, before = 0, ""
    while at < len(lines):
        fence = FENCE.fullmatch(lines[at])
        if fence:
            end = next(n for n in range(at + 1, len(lines)) if lines[n].strip() == fence[1])
            yield Block(name, at + 1, fence[2].strip(), "\n".join(lines[at + 1 : end]) + "\n")
            at = end
        elif lines[at].startswith("    ") and not before.strip() and not _is_list(lines[:at]):
            yield Block(name, at + 1, "", lines[at] + "\n")
        before = lines[at]
        at += 1


def _is_list(lines: list[str]) -> bool:
    """Whether what stands before the last empty lines belongs to a list: then it is a paragraph that is indented."""
    above = next((line for line in reversed(lines) if line.strip() and not line.startswith(" ")), "")
    return bool(re.match(r"[-*]|\d+\.", above))
