"""A document of sections, tables, lists and code: how it looks as Markdown and as a page of HTML, numbers included."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
.table { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; font-size: 14px; }
th, td { border: 1px solid #ccc; padding: .3rem .6rem; text-align: left; vertical-align: top; }
th { background: #f3f3f3; } pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 13px; }
"""


@dataclass(frozen=True)
class Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Listing:
    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    text: str


Block = str | Table | Listing | Code


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """GitHub's Markdown; what might be read as HTML, or as the end of a cell, is escaped.

    >>> print(to_markdown("A <b>", [Section("B", ["c", Table(["d"], [["1|2"]])])]))
    # A &lt;b>
    <BLANKLINE>
    ## B
    <BLANKLINE>
    c
    <BLANKLINE>
    | d |
    | --- |
    | 1\\|2 |
    <BLANKLINE>
    """
    parts = [f"# {_plain(title)}"]
    for section in sections:
        parts += [f"## {_plain(section.title)}", *map(_markdown, section.blocks)]
    return "\n\n".join(parts) + "\n"


def to_html(title: str, sections: Sequence[Section]) -> bytes:
    """One page that needs nothing else: no script, no font, no picture; every text is escaped."""
    name = html.escape(title)
    links = "".join(f'<li><a href="#s{n}">{html.escape(one.title)}</a></li>' for n, one in enumerate(sections, 1))
    body = "\n".join(
        f'<section id="s{n}">\n<h2>{html.escape(one.title)}</h2>\n' + "\n".join(map(_html, one.blocks)) + "\n</section>"
        for n, one in enumerate(sections, 1)
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{name}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n<nav><ol>{links}</ol></nav>\n{body}\n</body>\n</html>\n"
    ).encode()


def pairs(values: dict[str, str]) -> Table:
    return Table(["", ""], [[name, value] for name, value in values.items()])


def number(value: float | None) -> str:
    """A number for people.

    >>> number(1234567), number(0.123456), number(None)
    ('1,234,567', '0.1235', 'none')
    """
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def share(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def value_range(low: Any, high: Any) -> str:
    """A range, open where a side is None.

    >>> value_range(0, 5.5), value_range(None, 3), value_range(None, None)
    ('0 to 5.5', 'up to 3', 'none')
    """
    match low, high:
        case None, None:
            return "none"
        case None, _:
            return f"up to {_end(high)}"
        case _, None:
            return f"from {_end(low)}"
    return f"{_end(low)} to {_end(high)}"


def _end(value: Any) -> str:
    return number(value) if isinstance(value, (int, float)) else str(value)


def _markdown(block: Block) -> str:
    match block:
        case Table():
            lines = [block.header, ["---"] * len(block.header), *block.rows]
            return "\n".join(
                "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in row) + " |" for row in lines
            )
        case Listing():
            return "\n".join(f"- {_plain(item)}" for item in block.items)
        case Code():
            longest = max((len(run) for run in re.findall("`+", block.text)), default=0)
            fence = "`" * max(3, longest + 1)
            return f"{fence}\n{block.text.rstrip()}\n{fence}"
    return _plain(block)


def _html(block: Block) -> str:
    match block:
        case Table():
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in block.header)
            rows = "\n".join(
                "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in block.rows
            )
            return f'<div class="table"><table>\n<tr>{head}</tr>\n{rows}\n</table></div>'
        case Listing():
            return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in block.items) + "</ul>"
        case Code():
            return f"<pre>{html.escape(block.text.rstrip())}</pre>"
    return f"<p>{html.escape(block)}</p>"


def _plain(text: str) -> str:
    """One line of text in which no tag can begin."""
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
