"""A document of sections, tables, lists and code, once as Markdown and once as a page of HTML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.html.columns import Table
from pipelines.html.render import render


@dataclass(frozen=True)
class Pairs:
    """Names, and what they are."""

    facts: Mapping[str, str]


@dataclass(frozen=True)
class Listing:
    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    text: str


Block = str | Table | Pairs | Listing | Code


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """The same text twice; `html` is one page that needs nothing else."""

    markdown: str
    html: bytes


def document(title: str, sections: Sequence[Section]) -> Document:
    """Both forms of a document; equal sections give equal bytes."""
    return Document(_markdown(title, sections), render("document.html", title, sections))


def _markdown(title: str, sections: Sequence[Section]) -> str:
    """GitHub's Markdown; what might be read as HTML, or as the end of a cell, is escaped.

    >>> from pipelines.html.columns import number
    >>> print(_markdown("A <b>", [Section("B", ["c", Table([number("d")], [["1|2"], [3000]])])]))
    # A &lt;b>
    <BLANKLINE>
    ## B
    <BLANKLINE>
    c
    <BLANKLINE>
    | d |
    | --- |
    | 1\\|2 |
    | 3,000 |
    <BLANKLINE>
    """
    parts = [f"# {_plain(title)}"]
    for section in sections:
        parts += [f"## {_plain(section.title)}", *map(_block, section.blocks)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case Table():
            rows = [[column.shown(cell) for column, cell in zip(block.columns, row, strict=True)] for row in block.rows]
            return _table([column.title for column in block.columns], rows)
        case Pairs():
            return _table(["", ""], list(block.facts.items()))
        case Listing():
            return "\n".join(f"- {_plain(item)}" for item in block.items)
        case Code():
            longest = max((len(run) for run in re.findall("`+", block.text)), default=0)
            fence = "`" * max(3, longest + 1)
            return f"{fence}\n{block.text.rstrip()}\n{fence}"
    return _plain(block)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """One line of text in which no tag can begin."""
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
