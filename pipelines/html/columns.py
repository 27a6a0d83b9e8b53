"""Tables of pages and documents: what kind of cells a column has decides how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from pipelines.html.wording import figure, interval_text, percent

Kind = Literal["text", "code", "number", "share", "interval", "verdict"]


class Column(NamedTuple):
    """The head of a column, and the kind of its cells."""

    title: str
    kind: Kind = "text"

    @property
    def is_number(self) -> bool:
        return self.kind in ("number", "share", "interval")

    def shown(self, cell: Any) -> str:
        """A cell for people; what is text already stays as it is.

        >>> Column("rows", "number").shown(1200), Column("share", "share").shown(0.5), Column("note").shown(None)
        ('1,200', '50.0 %', '')
        >>> Column("result", "verdict").shown(False), Column("gain", "interval").shown("none")
        ('failed', 'none')
        """
        if isinstance(cell, str):
            return cell
        match self.kind:
            case "number":
                return figure(cell)
            case "share":
                return percent(cell)
            case "interval":
                return interval_text(cell)
            case "verdict":
                return "passed" if cell else "failed"
        return "" if cell is None else str(cell)


text = partial(Column, kind="text")
code = partial(Column, kind="code")
number = partial(Column, kind="number")
share = partial(Column, kind="share")
interval = partial(Column, kind="interval")
verdict = partial(Column, kind="verdict")


class Table(NamedTuple):
    """Each row has a cell for each column: a number, a share of 1, an interval as a mapping, a boolean, or text."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
