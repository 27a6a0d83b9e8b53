"""One source that is one row per event: its queries follow from the key, the time and the label."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from pipelines.config.base import Config

DELIVERED = "delivered_time"
"""Column of a delivered source, beside its own: the moment that stands for the row's delivery."""
# What holds no names (texts and comments), a quoted name, a bare word.
_SQL_WORDS = re.compile(r"""'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/|"((?:[^"]|"")+)"|([^\W\d][\w$]*)""", re.DOTALL)


class Label(Config):
    """What is to be predicted, of a table that is one row per event."""

    value: str = Field(
        min_length=1, description="column of the source, or SQL over its columns; null where there is no label yet"
    )
    known: str | None = Field(
        None,
        min_length=1,
        description="when it became known: a column, or SQL; null: with the event. labels.delay_days come on top",
    )


def _with_its_name(written: Any) -> Any:
    return {"value": written} if isinstance(written, str) else written


WrittenLabel = Annotated[Label | None, BeforeValidator(_with_its_name, json_schema_input_type=str | Label | None)]
"""A label as a file has it: its value alone, or more."""


def quote(name: str) -> str:
    """An identifier for SQL.

    >>> quote('order')
    '"order"'
    """
    return '"' + name.replace('"', '""') + '"'


def mentioned(expression: str, columns: Iterable[str]) -> list[str]:
    """The columns whose names occur in an SQL expression, in capitals or not.

    A function or a type of the same name counts as the column: rather one too many than one too few.

    >>> mentioned("Delay >= 15 AND state <> 'dest' -- and carrier", ["delay", "dest", "carrier"])
    ['delay']
    >>> mentioned('"Arrival Time" - due', ["Arrival Time", "due", "time"])
    ['Arrival Time', 'due']
    """
    words = {
        (match[1].replace('""', '"') if match[1] else match[2]).lower()
        for match in _SQL_WORDS.finditer(expression)
        if match[1] or match[2]
    }
    return [name for name in columns if name.lower() in words]


def events_query(source: str, key: str, time: str, columns: Iterable[str]) -> str:
    """What events.sql would say.

    >>> print(events_query("pots", "pot_id", "fired_at", ["clay"]))
    SELECT
        "pot_id",
        "fired_at" AS event_time,
        "clay"
    FROM "pots"
    """
    selected = [quote(key), f"{quote(time)} AS event_time", *map(quote, columns)]
    return _select(selected, source)


def labels_query(source: str, key: str, time: str, label: Label, source_columns: Iterable[str]) -> str:
    """What labels.sql would say.

    >>> print(labels_query("pots", "pot_id", "fired_at", Label(value="cracks > 0"), ["pot_id", "fired_at", "cracks"]))
    SELECT
        "pot_id",
        "fired_at" AS event_time,
        "fired_at" AS known_time,
        (cracks > 0) AS label
    FROM "pots"
    WHERE (cracks > 0) IS NOT NULL
    """
    columns = set(source_columns)
    value, known = _sql(label.value, columns), _sql(label.known or time, columns)
    selected = [quote(key), f"{quote(time)} AS event_time", f"{known} AS known_time", f"{value} AS label"]
    return f"{_select(selected, source)}\nWHERE {value} IS NOT NULL"


def _select(selected: list[str], source: str) -> str:
    listed = ",\n    ".join(selected)
    return f"SELECT\n    {listed}\nFROM {quote(source)}"


def _sql(text: str, columns: set[str]) -> str:
    """A column's name needs quotes where it is a word of SQL; an expression needs brackets."""
    return quote(text) if text in columns else f"({text})"
