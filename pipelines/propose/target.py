"""What is to be predicted: a yes or no, one of several classes, or a number; and when it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines import sql
from pipelines.config import Task
from pipelines.errors import ConfigError, DataError
from pipelines.propose import words
from pipelines.propose.facts import Facts
from pipelines.propose.table import ROWS, Clock, Column, Table
from pipelines.propose.times import EventTime, grain

MOST_CODES = 10  # different whole numbers that are taken for classes
MOST_CLASSES = 30
RARE_ROWS, RARE_SHARE = 20, 0.005  # classes of fewer become one
REST = "other"
KNOWN_SHARE = 0.95  # of the labelled rows, that a second time has to cover to be the one at which the label was known


@dataclass(frozen=True)
class Target:
    """The label: SQL over the source (`expression`) and over ROWS (`of_rows`), null where there is none."""

    column: str
    task: Task
    expression: str
    of_rows: str
    why: str
    asks: str
    """the question that a prediction answers"""
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """When a label becomes known: SQL over the source, the column that says so, and why."""

    expression: str
    column: str | None
    why: str
    waited_days: float = 0.0
    """from the event, of all but one label in twenty"""
    unknown: int = 0
    """labels whose time is missing, which are left out"""
    of_rows: str = ""
    """SQL over ROWS; empty where it is the time of the delivery"""
    clock: Clock = ""


def target_of(
    table: Table,
    facts: Mapping[str, Facts],
    column: Column,
    *,
    threshold: float | None = None,
    positive: str | None = None,
    task: Task | None = None,
) -> Target:
    """The task and the label that follow from the values of a column.

    Raises:
        ConfigError: an option does not go with the values.
        DataError: they are all the same, or each row has its own text.
    """
    known = facts[column.name]
    where = f"--target {column.source}"
    if known.distinct < 2:
        what = "has no value at all" if not known.values else f"has one value only, {known.low}"
        raise DataError(
            f"{column.source!r} {what}: there is nothing to predict",
            where=where,
            cure="name another column"
            + ("; if a blank means no, write it out in the source" if known.values and known.nulls else ""),
        )
    if threshold is not None:
        return _beyond(column, threshold, where)
    if column.kind in ("time", "other"):
        raise ConfigError(
            f"{column.source!r} is {'a time' if column.kind == 'time' else column.note}, which cannot be predicted",
            where=where,
            cure="name a column of classes or numbers, or make one of it in the source (days until then, say)",
        )
    is_number = column.kind in ("integer", "float")
    if task == "regression" or (task is None and is_number and not _is_coded(column, known)):
        if not is_number:
            raise ConfigError(
                "a regression needs numbers", where=where, cure="leave out --task, or name another column"
            )
        (missing_too,) = (f"{known.distinct:,} different numbers from {known.low:g} to {known.high:g}",)
        cast = "CAST({} AS DOUBLE)"
        return _target(column, "regression", cast, missing_too, f"How much will {column.name} be?")
    values = _counted(table, column)
    if known.distinct == 2 and task != "multiclass":
        return _yes_or_no(column, values, positive, where)
    if positive is not None:
        return _one_against_the_rest(column, values, positive, where)
    return _classes(table, column, values, where)


def _is_coded(column: Column, known: Facts) -> bool:
    """Whether whole numbers are names of classes: few of them, and the column's name counts nothing."""
    if known.distinct == 2:
        return True
    is_whole = column.kind == "integer"
    return is_whole and known.distinct <= MOST_CODES and not words.of(column.name) & words.COUNTS


def _target(column: Column, task: Task, sql_of: str, why: str, asks: str, classes: Sequence[str] = ()) -> Target:
    return Target(
        column.name,
        task,
        sql_of.format(column.expression),
        sql_of.format(sql.quote(column.name)),
        why,
        asks,
        tuple(classes),
    )


def _beyond(column: Column, threshold: float, where: str) -> Target:
    if column.kind not in ("integer", "float"):
        raise ConfigError("--threshold is for numbers", where=where, cure="leave it out")
    return _target(
        column,
        "binary",
        f"CAST({{}} >= {threshold:g} AS TINYINT)",
        f"whether it is {threshold:g} or more",
        f"Will {column.name} be {threshold:g} or more?",
    )


def _counted(table: Table, column: Column) -> list[tuple[str, int]]:
    """The values as text and their rows, the most frequent first."""
    name = sql.quote(column.name)
    rows = table.database.execute(
        f"SELECT CAST({name} AS VARCHAR) AS value, count(*) AS rows FROM {ROWS} WHERE {name} IS NOT NULL "
        "GROUP BY 1 ORDER BY rows DESC, value"
    ).fetchall()
    return [(str(value), int(count)) for value, count in rows]


def _yes_or_no(column: Column, values: Sequence[tuple[str, int]], positive: str | None, where: str) -> Target:
    names = [value for value, _ in values]
    if positive is not None and positive not in names:
        raise ConfigError(f"no row has {positive!r}", where=where, cure=f"--positive is one of {', '.join(names)}")
    likely = [name for name in names if name.strip().lower().removesuffix(".0") in words.POSITIVE]
    why, chosen = "", positive
    if chosen is None:
        chosen = likely[0] if len(likely) == 1 else names[-1]
        why = "" if len(likely) == 1 else ", the rarer of the two: look"
    share = dict(values)[chosen] / sum(count for _, count in values)
    said = f"{chosen} in {share:.1%} of the rows{why}"
    asks = f"Will {column.name} be {chosen}?"
    if column.kind == "boolean":
        flag = "CAST({} AS TINYINT)" if chosen == "true" else "CAST(NOT {} AS TINYINT)"
        return _target(column, "binary", flag, said, asks)
    if {float(n) for n in names if _is_float(n)} == {0.0, 1.0} and float(chosen) == 1:
        return _target(column, "binary", "CAST({} AS TINYINT)", said, asks)
    value = sql.literal(chosen) if column.kind == "string" else chosen
    return _target(column, "binary", f"CAST({{}} = {_braced(value)} AS TINYINT)", said, asks)


def _one_against_the_rest(column: Column, values: Sequence[tuple[str, int]], positive: str, where: str) -> Target:
    counts = dict(values)
    if positive not in counts:
        shown = ", ".join(name for name, _ in values[:8])
        raise ConfigError(f"no row has {positive!r}", where=where, cure=f"--positive is a value of it, such as {shown}")
    value = sql.literal(positive) if column.kind == "string" else positive
    share = counts[positive] / sum(counts.values())
    said = f"{positive} in {share:.1%} of the rows"
    of = f"CAST({{}} = {_braced(value)} AS TINYINT)"
    return _target(column, "binary", of, said, f"Will {column.name} be {positive}?")


def _classes(table: Table, column: Column, values: Sequence[tuple[str, int]], where: str) -> Target:
    rows = sum(count for _, count in values)
    fewest = max(RARE_ROWS, RARE_SHARE * rows)
    kept = [value for value, count in values if count >= fewest][:MOST_CLASSES]
    if len(kept) < 2 or sum(count for value, count in values if value in kept) < 0.5 * rows:
        raise DataError(
            f"{column.source!r} has {len(values):,} different values, most of them in a few rows: no classes to learn",
            where=where,
            cure="name another column; a number may be cut by --threshold, one value picked by --positive",
        )
    rare = [value for value, _ in values if value not in kept]
    text, asks = "CAST({} AS VARCHAR)", f"Which {column.name} will it be?"
    if not rare:
        return _target(column, "multiclass", text, f"{len(kept)} classes", asks, kept)
    among = ", ".join(_braced(sql.literal(value)) for value in kept)
    label = f"CASE WHEN {text} IN ({among}) THEN {text} WHEN {{0}} IS NOT NULL THEN '{REST}' END".replace("{}", "{0}")
    classes = [*kept, *([REST] if REST not in kept else [])]
    return _target(column, "multiclass", label, f"{len(rare)} classes of few rows are {REST!r}", asks, classes)


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def known_of(
    table: Table,
    facts: Mapping[str, Facts],
    target: Target,
    time: EventTime | None,
    later: Sequence[Column],
    named: Column | None = None,
) -> Known:
    """When labels are known: a later time that goes with them, else the event's own, or the day after a day's."""
    best: tuple[float, float] | None = None
    chosen: Column | None = None
    labelled = f"{target.of_rows} IS NOT NULL"
    event = f"CAST({time.of_rows} AS TIMESTAMP)" if time else "NULL::TIMESTAMP"
    missing = 0
    long_wait = 0.0
    for column in [named] if named else later:
        at = sql.quote(column.name)
        covered, agreeing, waited, most, absent = table.database.execute(
            f"SELECT avg(({at} IS NOT NULL)::INT) FILTER ({labelled}), "
            f"avg((({at} IS NULL) = NOT ({labelled}))::INT), "
            f"median(epoch(CAST({at} AS TIMESTAMP) - {event})) FILTER ({labelled}), "
            f"quantile_cont(epoch(CAST({at} AS TIMESTAMP) - {event}), 0.95) FILTER ({labelled}), "
            f"count_if({labelled} AND {at} IS NULL) FROM {ROWS}"
        ).fetchall()[0]
        if named is None and (covered or 0) < KNOWN_SHARE:
            continue
        score = (round(float(agreeing or 0), 2), float(waited or 0))
        if best is None or score > best:
            best, chosen, missing, long_wait = score, column, int(absent or 0), float(most or 0)
    if chosen is not None:
        lost = f"; {missing:,} labels have no such time and are left out" if missing else ""
        days = long_wait / 86_400
        why = f"look: known when {chosen.source!r} says{lost}" + (f"; {chosen.note}" if chosen.note else "")
        return Known(chosen.expression, chosen.name, why, days, missing, sql.quote(chosen.name), chosen.clock)
    if time is None:
        return Known("", None, "known when the row is delivered")
    if (one := grain(table, time)) is not None:
        what = {"1 DAY": "day", "7 DAY": "week", "1 MONTH": "month", "3 MONTH": "quarter"}[one]
        later_by, why = f" + INTERVAL {one}", f"look: taken to be known a {what} later"
        return Known(time.expression + later_by, None, why, of_rows=time.of_rows + later_by, clock=time.clock)
    why = "look: taken to be known at once; labels.delay_days says how much later"
    return Known(time.expression, None, why, of_rows=time.of_rows, clock=time.clock)
