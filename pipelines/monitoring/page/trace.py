"""trace: from which rows of which table each number of a page comes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from pipelines.html.wording import figure, is_number

Source = dict[str, Any]


@dataclass
class Trace:
    """Numbers as they are shown, in the order of the page."""

    numbers: list[dict[str, Any]] = field(default_factory=list)

    def figure(self, what: str, value: Any, measure: str, *sources: Source) -> str:
        """The number for people; noted with what it is, how it is made of the rows, and which rows those are."""
        if is_number(value):
            self.numbers.append({"what": what, "value": float(value), "measure": measure, "from": list(sources)})
        return figure(value)

    def appendix(self) -> str:
        """All of them, as JSON that a program finds by its id."""
        lines = ",\n".join(json.dumps(one, sort_keys=True) for one in self.numbers)
        return (
            f"<details><summary>All {len(self.numbers)} numbers with their tables and rows, as JSON</summary>"
            f'<pre id="numbers">[{escape(lines)}]</pre></details>'
        )


def source(table: str, **where: Any) -> Source:
    """Rows of a table, or of a file in the problem's folder of the store."""
    return {"table": table, "where": where}


def told(*sources: Source) -> str:
    """The line below a table: where its numbers come from.

    >>> told(source("profiles", column="temp", slice=""))
    '<p class="note"><small>From <code>profiles</code> where column = temp, slice = \\'\\'</small></p>'
    """
    clauses = [
        f"<code>{escape(one['table'])}</code>{' where ' * bool(one['where'])}"
        + ", ".join(f"{escape(name)} = {_value(value)}" for name, value in one["where"].items())
        for one in sources
    ]
    return f'<p class="note"><small>From {"; ".join(clauses)}</small></p>'


def several(keys: Sequence[str]) -> str:
    """
    >>> several(["2013-01-07", "2013-01-14", "2013-01-21"]), several(["a"]), several([])
    ('2013-01-07 to 2013-01-21 (3)', 'a', 'none')
    """
    if not keys:
        return "none"
    return keys[0] if len(keys) == 1 else f"{min(keys)} to {max(keys)} ({len(keys)})"


def _value(value: Any) -> str:
    if isinstance(value, str):
        return escape(value) or "''"
    if isinstance(value, Iterable):
        return escape(several([str(one) for one in value]))
    return escape(str(value))
