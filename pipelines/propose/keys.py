"""What names an event."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from pipelines import sql
from pipelines.config import RESERVED_COLUMNS, RESERVED_KEYS
from pipelines.propose import words
from pipelines.propose.facts import Facts, exactly_unique
from pipelines.propose.table import ROWS, Column, Table
from pipelines.propose.times import EventTime

NEARLY = 0.9  # of the rows, that an approximate count has to reach before rows are compared
CALENDAR = 1.05  # values that a time has of what follows from it: rows with a wrong time are no reason
PANEL, DENSE = 0.95, 0.7  # share of rows that are the only ones of their time and thing; of times that a thing has
REPEATS = 20
TRIED = 8  # columns that may stand beside the time


@dataclass(frozen=True)
class Key:
    """Its name in events, SQL over the source, the columns that it is made of, and why."""

    name: str
    expression: str
    columns: tuple[str, ...]
    why: str


def key_of(
    table: Table,
    facts: Mapping[str, Facts],
    time: EventTime | None,
    target: str,
    later: Sequence[str] = (),
    named: Column | None = None,
) -> Key:
    """A column without two equal values; else the time with what tells rows of the same time apart; else a hash."""
    if named is not None:
        doubt = "" if exactly_unique(table, [named.name]) else "; look: not all rows have one of their own"
        return _of_column(named, f"as you said{doubt}", table)
    apart = {target, *(time.columns if time else ())}
    possible = [
        c
        for c in _complete(table, facts, ("string", "integer"), apart)
        if facts[c.name].distinct >= NEARLY * table.count
    ]
    for column in sorted(possible, key=lambda c: -_likely(table, c)):
        if (_likely(table, column) or column.kind == "string" or _counts_rows(facts[column.name])) and exactly_unique(
            table, [column.name]
        ):
            return _of_column(column, "each row has its own", table)
    made = _beside_time(table, facts, time, target) if time else _beside_calendar(table, facts, target)
    if made:
        return made
    return _hashed(table, [target, *later])


def _likely(table: Table, column: Column) -> int:
    hints = words.of(column.name)
    own = {table.origin.name, _singular(table.origin.name)}
    return (
        2 * bool(hints & words.IDS) + (bool(hints & own) and bool(hints & words.IDS)) + (column.name in ("id", "key"))
    )


def _is_text(facts: Facts) -> bool:
    return facts.words >= 4 and facts.characters >= 25


def _counts_rows(facts: Facts) -> bool:
    """Whether numbers go through all rows without a gap, as a row number does."""
    return bool(facts.high - facts.low + 1 == facts.rows)


def _of_column(column: Column, why: str, table: Table) -> Key:
    name = column.name
    if name in RESERVED_COLUMNS or name in RESERVED_KEYS:
        name = f"{table.origin.name}_{name}"
    return Key(name, column.expression, (column.name,), why)


def _complete(table: Table, facts: Mapping[str, Facts], kinds: Sequence[str], apart: Collection[str]) -> list[Column]:
    """Columns of some kinds with a value in each row, which is no text."""
    return [
        c
        for c in table.columns
        if c.kind in kinds and c.name not in apart and not facts[c.name].nulls and not _is_text(facts[c.name])
    ]


def _repeating(table: Table, facts: Mapping[str, Facts], kinds: Sequence[str], apart: Collection[str]) -> list[Column]:
    """Those of them whose values come again."""
    return [c for c in _complete(table, facts, kinds, apart) if 1 < facts[c.name].distinct <= table.count / 2]


def _beside_time(table: Table, facts: Mapping[str, Facts], time: EventTime, target: str) -> Key | None:
    """The time, with as few columns of names or codes as make rows unlike each other."""
    named = _repeating(table, facts, ("string", "integer", "boolean"), {target, *time.columns})
    named = [c for c in named if not follows_from_time(table, time, c)]
    named = sorted(
        named, key=lambda c: (c.kind != "string" and not words.of(c.name) & words.IDS, -facts[c.name].distinct)
    )
    for size in (0, 1, 2):
        for chosen in combinations(named[:TRIED], size):
            if exactly_unique(table, [*time.columns, *(c.name for c in chosen)]):
                columns = (*time.columns, *(c.name for c in chosen))
                parts = [f"CAST({time.expression} AS VARCHAR)", *(f"CAST({c.expression} AS VARCHAR)" for c in chosen)]
                expression = f"concat_ws('|', {', '.join(parts)})"
                what = "the time alone" if not chosen else f"the time and {', '.join(c.name for c in chosen)}"
                return Key(_free(table), expression, columns, f"no column is unlike in all rows; {what} are")
    return None


def _beside_calendar(table: Table, facts: Mapping[str, Facts], target: str) -> Key | None:
    """What a row is of and its year (month, wave), as in a panel of countries and years."""
    named = _repeating(table, facts, ("string", "integer"), {target})
    periods = [c for c in named if words.of(c.name) & words.PERIODS]
    things = [c for c in named if c not in periods and (c.kind == "string" or words.of(c.name) & words.IDS)]
    things = sorted(things, key=lambda c: -facts[c.name].distinct)[:TRIED]
    for size in (1, 2) if periods else ():
        for chosen in combinations(things, size):
            columns = [*periods, *chosen]
            if exactly_unique(table, [c.name for c in columns]):
                parts = ", ".join(f"CAST({c.expression} AS VARCHAR)" for c in columns)
                names = tuple(c.name for c in columns)
                why = f"no column is unlike in all rows; {', '.join(names)} together are"
                return Key(_free(table), f"concat_ws('|', {parts})", names, why)
    return None


def follows_from_time(table: Table, time: EventTime, column: Column) -> bool:
    """Whether a column is a part of the calendar: nearly each time has one value of it."""
    times, pairs = _times_and_pairs(table, time, column)
    return times < table.count and pairs <= CALENDAR * times


def _times_and_pairs(table: Table, time: EventTime, column: Column) -> tuple[int, int]:
    """How many different times there are, and how many of a time with a value of the column."""
    name = sql.quote(column.name)
    (times, pairs) = table.database.execute(
        f"SELECT count(DISTINCT {time.of_rows}), count(DISTINCT ({time.of_rows}, {name})) FROM {ROWS}"
    ).fetchall()[0]
    return int(times), int(pairs)


def panel_columns(table: Table, facts: Mapping[str, Facts], time: EventTime) -> list[str]:
    """Names of things of which each has one row at nearly every time, as stations and shops do.

    Which of them a row is of is known before anything happens, however well it tells the label.
    """
    panels = []
    for column in table.columns:
        known = facts[column.name]
        if column.kind not in ("string", "integer") or column.name in time.columns or known.nulls or known.distinct < 2:
            continue
        if known.distinct > table.count / REPEATS:
            continue
        times, pairs = _times_and_pairs(table, time, column)
        if pairs >= PANEL * table.count and known.distinct * times <= table.count / DENSE:
            panels.append(column.name)
    return panels


def _hashed(table: Table, unknown: Sequence[str]) -> Key:
    """A hash of what is known of a row from the first; rows that say the same are told apart by a number.

    `unknown` are columns that may be filled in later: a key that they are part of would change with them.
    """
    declared = [c for c in table.columns if c.declared is not None]
    values = [sql.quote(c.source) for c in declared if c.name not in unknown]
    order = [sql.quote(c.source) for c in declared if c.name in unknown]
    whole = f"to_json(struct_pack({', '.join(f'c{place} := {value}' for place, value in enumerate(values))}))"
    same = f"PARTITION BY {', '.join(values)} ORDER BY {', '.join(order)}"
    return Key(
        _free(table),
        f"md5(CAST({whole} AS VARCHAR)) || '-' || row_number() OVER ({same})",
        (),
        "look: no column names a row, so this is a hash of its values; a row that is corrected is another row then",
    )


def _free(table: Table) -> str:
    names = {c.name for c in table.columns}
    base = f"{_singular(table.origin.name)}_key"
    return base if base not in names else f"{base}_made"


def _singular(name: str) -> str:
    """A thing out of the name of a table of them.

    >>> _singular("deliveries"), _singular("orders"), _singular("sheep")
    ('delivery', 'order', 'sheep')
    """
    return f"{name[:-3]}y" if name.endswith("ies") else name.removesuffix("s")
