"""What each column of a table holds, measured in few queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines import sql
from pipelines.propose.table import ROWS, Column, Table, in_chunks

EXACT_ROWS = 500_000  # of more, different values are counted approximately


@dataclass(frozen=True)
class Facts:
    """Of one column."""

    rows: int
    nulls: int
    distinct: int
    low: Any
    high: Any
    words: float = 0.0
    """Of texts: mean number of words, and of characters."""
    characters: float = 0.0

    @property
    def values(self) -> int:
        return self.rows - self.nulls

    @property
    def repeats(self) -> float:
        """How often a value comes, on average."""
        return self.values / self.distinct if self.distinct else 0.0

    @property
    def is_unique(self) -> bool:
        return self.rows > 0 and self.nulls == 0 and self.distinct == self.rows


def facts_of(table: Table, columns: Sequence[Column] | None = None) -> dict[str, Facts]:
    """By the columns' names in events; of lists their lengths, of structs and the like the missing values alone."""
    measured: dict[str, Facts] = {}
    distinct = "count(DISTINCT {0})" if table.count <= EXACT_ROWS else "approx_count_distinct({0})"
    for chunk in in_chunks(table.columns if columns is None else columns):
        selected = []
        for column in chunk:
            name = sql.quote(column.name)
            parts = [f"count({name})"]
            if column.kind == "list":
                parts += [f"count(DISTINCT len({name}))", f"min(len({name}))", f"max(len({name}))"]
            elif column.kind != "other":
                parts += [distinct.format(name), f"min({name})", f"max({name})"]
            if column.kind == "string":
                spaces = f"length({name}) - length(replace({name}, ' ', ''))"
                parts += [f"avg({spaces} + 1)", f"avg(length({name}))"]
            selected += parts
        row = iter(table.database.execute(f"SELECT {', '.join(selected)} FROM {ROWS}").fetchall()[0])
        for column in chunk:
            values = int(next(row))
            if column.kind == "other":
                measured[column.name] = Facts(table.count, table.count - values, 0, None, None)
                continue
            different, low, high = int(next(row)), next(row), next(row)
            words, characters = (next(row), next(row)) if column.kind == "string" else (0.0, 0.0)
            measured[column.name] = Facts(
                table.count, table.count - values, different, low, high, float(words or 0), float(characters or 0)
            )
    return measured


def exactly_unique(table: Table, names: Sequence[str]) -> bool:
    """Whether no two rows have the same values in these columns, and none is missing."""
    row = ", ".join(map(sql.quote, names))
    present = " AND ".join(f"{sql.quote(name)} IS NOT NULL" for name in names)
    (different, complete) = table.database.execute(
        f"SELECT count(DISTINCT ({row})), count_if({present}) FROM {ROWS}"
    ).fetchall()[0]
    return int(different) == int(complete) == table.count
