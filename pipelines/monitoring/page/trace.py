"""trace: from which rows of which table each number of a page comes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipelines.html.wording import is_number, span


class Source(NamedTuple):
    """Rows of a table, or of a file in the problem's folder of the store."""

    table: str
    where: Mapping[str, Any]

    def conditions(self) -> str:
        """Which rows, in words.

        >>> source("profiles", column="temp", slice="", partition=["2013-01-07", "2013-01-14"]).conditions()
        "column = temp, slice = '', partition = 2013-01-07 to 2013-01-14 (2)"
        """
        return ", ".join(f"{name} = {_shown(value)}" for name, value in self.where.items())


class TracedNumber(NamedTuple):
    """What a number is, how it is made of the rows, and which rows those are."""

    what: str
    value: float
    measure: str
    sources: tuple[Source, ...]


@dataclass
class Trace:
    """Numbers as they are shown, in the order of the page."""

    numbers: list[TracedNumber] = field(default_factory=list)

    def noted(self, what: str, value: Any, measure: str, *sources: Source) -> Any:
        """The value itself; where it is a number, it is noted with what it is and where it comes from."""
        if is_number(value):
            self.numbers.append(TracedNumber(what, float(value), measure, sources))
        return value

    def to_json(self) -> str:
        """All numbers, a line each."""
        lines = [
            {
                "what": number.what,
                "value": number.value,
                "measure": number.measure,
                "from": [source._asdict() for source in number.sources],
            }
            for number in self.numbers
        ]
        return "[" + ",\n".join(json.dumps(line, sort_keys=True) for line in lines) + "]"


def source(table: str, **where: Any) -> Source:
    """Rows of a table, or of a file in the problem's folder of the store."""
    return Source(table, where)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value or "''"
    return span(value, missing="none") if isinstance(value, Iterable) else str(value)
