"""Columns that a model should not see, each with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines import sql
from pipelines.propose import words
from pipelines.propose.facts import Facts
from pipelines.propose.keys import panel_columns
from pipelines.propose.leaks import sampled, short, telling
from pipelines.propose.table import MOST_EXACT, ROWS, Column, Table, in_chunks
from pipelines.propose.target import Target
from pipelines.propose.times import EventTime

EMPTY = 0.99  # share of missing values
SAME_GAPS = 0.995  # share of rows in which two columns are both there or both missing
GROWS = 0.98  # rank correlation with time
UNIQUE = 0.9  # different values a row: a name of its own
MOST_CATEGORIES, REPEATS = 1_000, 20  # a category is worth learning if it comes so often
FEW_CATEGORIES, FEW_REPEATS = 12, 5  # or so often, of few
FEW_VALUES = 50
LONGEST = 4_096  # numbers of an embedding
DURATION = 0.99  # correlation with the time from the event to what follows


@dataclass(frozen=True)
class LeftOut:
    """Why each column is no feature; `entities` name who or what an event is of, and come again.

    `accepted` tell the label well alone, and are no leak: they name what the row is of, which is known before, or lie
    just below the limit (`near` are those).
    """

    reasons: dict[str, str]
    entities: list[str]
    accepted: list[str]
    near: list[str]


def left_out(
    table: Table,
    facts: Mapping[str, Facts],
    key: Sequence[str],
    time: EventTime | None,
    target: Target,
    later: Sequence[Column],
) -> LeftOut:
    """Every column that is no feature: ids, constants, what comes after the event, the label in other words."""
    reasons: dict[str, str] = {}
    entities: list[str] = []
    if len(key) == 1:
        reasons[key[0]] = "the key"
    reasons[target.column] = "what is predicted"
    if time is not None and len(time.columns) == 1:
        reasons[time.columns[0]] = "the event's time"
    for column in later:
        reasons[column.name] = "a time that follows the event: known only then"
    for column in table.columns:
        if column.name not in reasons and (reason := _by_itself(column, facts[column.name])):
            reasons[column.name] = reason
    for name, reason in [*_by_gaps(table, facts, target, later), *_durations(table, facts, time, later)]:
        reasons.setdefault(name, reason)
    if time is not None:
        for name, reason in [*_same_times(table, facts, time, later), *_by_time(table, facts, time)]:
            reasons.setdefault(name, reason)
    for column in table.columns:
        if column.name not in reasons and (reason := _as_category(column, facts[column.name])):
            reasons[column.name] = reason
            if facts[column.name].repeats >= 3:
                entities.append(column.name)
    rest = [c for c in table.columns if c.name not in reasons and c.kind not in ("time", "list", "other")]
    texts = [c.name for c in rest if is_text(c, facts[c.name])]
    found = telling(table, target, [c.name for c in rest if c.name not in texts], texts)
    panels = panel_columns(table, facts, time) if time else []
    accepted = [name for name in found.leaks if name in key or name in panels]
    reasons |= {name: reason for name, reason in found.leaks.items() if name not in accepted}
    beside_time = [*panels, *key] if time else []
    apart = [name for name in dict.fromkeys(beside_time) if time and name not in (*time.columns, *reasons)]
    named = [name for name in apart if facts[name].repeats >= REPEATS]
    return LeftOut(reasons, [*entities, *named], [*accepted, *found.near], found.near)


def is_text(column: Column, facts: Facts) -> bool:
    """Whether values are sentences, not names."""
    is_long = facts.words >= 4 and facts.characters >= 20
    return column.kind == "string" and is_long and facts.distinct > min(MOST_CATEGORIES, 0.2 * facts.rows)


def _by_itself(column: Column, facts: Facts) -> str | None:
    if not facts.values:
        return "it has no value"
    if column.kind == "other":
        return f"{column.note}: no column of events" if column.note else "no column of events"
    if column.kind == "list":
        is_fit = facts.low == facts.high and 0 < facts.low <= LONGEST
        return (
            None
            if is_fit
            else f"lists of {facts.low:,} to {facts.high:,} numbers: an embedding has as many in each row"
        )
    if column.kind == "integer" and max(abs(facts.low), abs(facts.high)) > MOST_EXACT:
        return f"numbers beyond {MOST_EXACT:,}: names, not amounts"
    if facts.distinct == 1 and not facts.nulls:
        return f"always {short(facts.low)}"
    if facts.nulls >= EMPTY * facts.rows:
        return f"missing in {facts.nulls / facts.rows:.1%} of the rows"
    if found := words.of(column.name) & words.AFTERWARDS:
        return f"look: by its name ({', '.join(sorted(found))}) it is known after the event"
    return None


def _by_gaps(
    table: Table, facts: Mapping[str, Facts], target: Target, later: Sequence[Column]
) -> Iterator[tuple[str, str]]:
    """Columns that are there just where the label, or a time after the event, is."""
    gaps = {f"{target.of_rows}": "the label"} | {sql.quote(c.name): repr(c.source) for c in later}
    with_gaps = [c for c in table.columns if 0.01 * table.count < facts[c.name].nulls < EMPTY * table.count]
    for expression, what in gaps.items():
        (missing,) = table.database.execute(f"SELECT count_if(({expression}) IS NULL) FROM {ROWS}").fetchall()[0]
        if not 0.01 * table.count < missing < EMPTY * table.count:
            continue
        for chunk in in_chunks(with_gaps):
            shares = ", ".join(f"avg(((({expression}) IS NULL) = ({sql.quote(c.name)} IS NULL))::INT)" for c in chunk)
            row = table.database.execute(f"SELECT {shares} FROM {ROWS}").fetchall()[0]
            for column, share in zip(chunk, row, strict=True):
                if share >= SAME_GAPS:
                    yield column.name, f"it is there only where {what} is: known only then"


def _durations(
    table: Table, facts: Mapping[str, Facts], time: EventTime | None, later: Sequence[Column]
) -> Iterator[tuple[str, str]]:
    """Numbers that say how long it took."""
    numbers = [c for c in table.columns if c.kind in ("integer", "float") and facts[c.name].distinct > 2]
    for column in later if time else ():
        assert time is not None
        took = f"epoch(CAST({sql.quote(column.name)} AS TIMESTAMP) - CAST({time.of_rows} AS TIMESTAMP))"
        for chunk in in_chunks(numbers):
            row = table.database.execute(
                f"SELECT {', '.join(f'corr({took}, {sql.quote(c.name)}::DOUBLE)' for c in chunk)} FROM {ROWS}"
            ).fetchall()[0]
            for number, correlation in zip(chunk, row, strict=True):
                if correlation is not None and abs(correlation) > DURATION:
                    yield number.name, f"the time from the event to {column.source!r}: known only then"


def _same_times(
    table: Table, facts: Mapping[str, Facts], time: EventTime, later: Sequence[Column]
) -> Iterator[tuple[str, str]]:
    """Times that are the event's once more: in another writing, or its day."""
    apart = (*time.columns, *(c.name for c in later))
    for column in table.columns:
        if column.kind != "time" or column.name in apart or not facts[column.name].values:
            continue
        other, moment = (f"CAST({value} AS TIMESTAMP)" for value in (sql.quote(column.name), time.of_rows))
        (same,) = table.database.execute(
            f"SELECT avg(({other} IN ({moment}, date_trunc('day', {moment})))::INT) FROM {ROWS}"
        ).fetchall()[0]
        if (same or 0) >= SAME_GAPS:
            yield column.name, "the event's time once more"


def _by_time(table: Table, facts: Mapping[str, Facts], time: EventTime) -> Iterator[tuple[str, str]]:
    """Numbers that grow with time, as ids and years do: the next rows have values that no row had."""
    numbers = [c for c in table.columns if c.kind in ("integer", "float") and facts[c.name].distinct > 2]
    numbers = [c for c in numbers if c.name not in time.columns or words.of(c.name) & words.YEAR]
    if not numbers:
        return
    at = "event time"  # with a blank, which no column of events has in its name
    rows = sampled(
        table, [f"epoch(CAST({time.of_rows} AS TIMESTAMP)) AS {sql.quote(at)}", *(sql.quote(c.name) for c in numbers)]
    )
    moments = rows[at].to_numpy().astype(np.float64)
    for column in numbers:
        values = rows[column.name].to_numpy(zero_copy_only=False).astype(np.float64)
        there = np.isfinite(values) & np.isfinite(moments)
        if there.sum() < 100 or len(np.unique(moments[there])) < 3:
            continue
        correlation = float(np.corrcoef(_ranked(values[there]), _ranked(moments[there]))[0, 1])
        is_year = (
            bool(words.of(column.name) & words.YEAR)
            and column.name in time.columns
            and facts[column.name].distinct < FEW_VALUES
        )
        if abs(correlation) > GROWS and (facts[column.name].distinct >= FEW_VALUES or is_year):
            yield column.name, f"it grows with time (rank correlation {correlation:.3f}): no new row has a value of old"
        elif is_year and correlation > 0.9:
            yield column.name, "the year: no new row has a value of old"


def _ranked(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle: np.ndarray[tuple[int], np.dtype[np.float64]] = np.cumsum(counts) - counts / 2.0
    return middle[place]


def _as_category(column: Column, facts: Facts) -> str | None:
    """Names and codes of which each comes too seldom to be learnt as a category."""
    is_own = column.kind == "integer" and facts.distinct == facts.values and facts.values > FEW_VALUES
    if is_own and (column.name.endswith("id") or facts.high - facts.low + 1 == facts.values):
        return "an id: each row has its own"
    is_code = column.kind == "integer" and words.name_a_thing(column.name) and facts.distinct > FEW_VALUES
    if column.kind != "string" and not is_code:
        return None
    if is_text(column, facts):
        return None
    if facts.distinct >= UNIQUE * facts.values:
        return f"an id: {facts.distinct:,} different values in {facts.values:,} rows"
    if facts.distinct > MOST_CATEGORIES or facts.repeats < (
        FEW_REPEATS if facts.distinct <= FEW_CATEGORIES else REPEATS
    ):
        return f"{facts.distinct:,} different values, each in {facts.repeats:,.0f} rows on average: too few to learn"
    return "an id of numbers" if is_code else None
