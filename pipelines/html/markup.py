"""HTML of an evaluation's page: tables, pictures side by side, sections, the page around them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #b6bec8; --paper: #fff; --shade: #f3f5f7; --first: #1f5fbf;
  --second: #b3541e; --good: #1a7f37; --bad: #b42318; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e6ea; --faint: #4d5560; --paper: #15181c; --shade: #21262c;
  --first: #6ea8ff; --second: #f0a36b; --good: #56c271; --bad: #ff8a7d; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: var(--ink);
  background: var(--paper); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.4rem; } h3 { font-size: 1rem; }
.table { overflow-x: auto; } table { border-collapse: collapse; margin: .6rem 0 1.2rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem; border-bottom: 1px solid var(--faint);
  overflow-wrap: break-word; max-width: 36rem; }
th { background: var(--shade); } .number { text-align: right; font-variant-numeric: tabular-nums; }
th.number, td.number { white-space: nowrap; }
td.heat { background: color-mix(in srgb, var(--first) calc(var(--share) * 45%), transparent); }
.passed { color: var(--good); } .failed { color: var(--bad); font-weight: 600; }
.passed, .failed { white-space: nowrap; }
.note { opacity: .8; max-width: 60rem; } .box { border-left: 4px solid; background: var(--shade); padding: .6rem 1rem; }
.box.good { border-color: var(--good); } .box.bad { border-color: var(--bad); } .box ul { margin: .4rem 0 0; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; } .pictures svg { max-width: 100%; height: auto; }
nav a { color: inherit; margin-right: .9rem; white-space: nowrap; }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def document(title: str, sections: Sequence[tuple[str, str]]) -> bytes:
    """The whole page; `sections` are titles and their HTML."""
    names = [(re.sub(r"\W+", "-", name.lower()).strip("-"), name) for name, _ in sections]
    links = "".join(f'<a href="#{place}">{escape(name)}</a> ' for place, name in names)
    body = "\n".join(
        f'<section id="{place}"><h2>{escape(name)}</h2>{content}</section>'
        for (place, name), (_, content) in zip(names, sections, strict=True)
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body><h1>{escape(title)}</h1><nav>{links}</nav>\n{body}\n</body></html>\n"
    ).encode()


def note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def row_of(*pictures: str | None) -> str:
    """Pictures side by side; those that could not be drawn are left out."""
    drawn = "".join(f"<div>{picture}</div>" for picture in pictures if picture)
    return f'<div class="pictures">{drawn}</div>' if drawn else ""


def pairs(values: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in values.items())
    return f'<div class="table"><table>{rows}</table></div>'


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; a head that begins with # is of a column of numbers, a boolean says whether something passed.

    >>> table(["a", "#b"], [["<", True]]).removeprefix('<div class="table"><table>').removesuffix("</table></div>")
    '<tr><th>a</th><th class="number">b</th></tr><tr><td>&lt;</td><td class="passed">passed</td></tr>'
    """
    kinds = [' class="number"' if head.startswith("#") else "" for head in heads]
    head = "".join(f"<th{kind}>{escape(one.removeprefix('#'))}</th>" for one, kind in zip(heads, kinds, strict=True))
    body = "".join(f"<tr>{''.join(map(_cell, row, kinds))}</tr>" for row in rows)
    return f'<div class="table"><table><tr>{head}</tr>{body}</table></div>'


def _cell(value: Any, kind: str) -> str:
    if isinstance(value, bool):
        word = "passed" if value else "failed"
        return f'<td class="{word}">{word}</td>'
    return f"<td{kind}>{escape('' if value is None else str(value))}</td>"
