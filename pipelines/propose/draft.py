"""A problem, drafted from a table: each choice with what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pipelines import sql
from pipelines.config import ColumnType, Task, did_you_mean
from pipelines.errors import ConfigError, DataError
from pipelines.ingest.shape.units import KINDS
from pipelines.propose.facts import Facts, facts_of
from pipelines.propose.keys import Key, key_of
from pipelines.propose.leaks import short
from pipelines.propose.left_out import is_text, left_out
from pipelines.propose.rhythm import LENGTH, Rhythm, reaching_labels, rhythm_of
from pipelines.propose.shift import usual_shift
from pipelines.propose.table import READABLE, ROWS, Column, Table, in_chunks
from pipelines.propose.target import Known, Target, known_of, target_of
from pipelines.propose.times import EventTime, event_time, grain, later_times, zone_of

FEW_ALLOWED = 12  # different texts that may be all there are
MOST_HISTORY = 3
MOST_RULED = 100  # columns
PROVEN = 200  # rows without a missing value
NEAR_ZERO = 0.01  # of the largest value: what comes as near to 0 and never below it does not go below it
USUAL_PAST = 10  # rows of a group that a history feature's window should hold
WINDOWS = (7, 14, 28, 91, 182, 364)
FEWEST = 20  # labels
SMALL, LARGE = 1_000, 1_000_000  # rows with a label
SEEN_IN_BOTH = 2
MOST_SPELLINGS = 100  # of a target


@dataclass(frozen=True)
class Wishes:
    """What a person said beforehand; None: it is found out."""

    target: str
    key: str | None = None
    time: str | None = None
    known: str | None = None
    every: str | None = None
    threshold: float | None = None
    positive: str | None = None
    task: Task | None = None


@dataclass(frozen=True)
class Feature:
    """A column of events: its name, SQL over the source, type, rules, and what was seen of it."""

    name: str
    expression: str
    type: ColumnType
    rules: Mapping[str, Any]
    note: str
    is_learnt_from: bool = True


@dataclass(frozen=True)
class Draft:
    """All that is written down."""

    name: str
    table: Table
    rows: int
    target: Target
    labelled: int
    known: Known
    key: Key
    time: EventTime | None
    zone: tuple[str, str]
    rhythm: Rhythm | None
    features: list[Feature]
    left_out: dict[str, str]
    """source column -> reason"""
    history: dict[str, dict[str, Any]]
    parts: dict[str, dict[str, Any]]
    no_leaks: list[str]
    """that tell the label well, and are kept"""
    near_leaks: list[str]
    """those of them that may be leaks, for all the table says"""
    rarest: float
    """share of the rarest class"""
    shift: float
    """the largest PSI of labels against those before them"""
    accepted: list[str] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)
    """column or rule of the shape checks -> why"""


def draft(name: str, table: Table, wishes: Wishes, now: datetime | None = None) -> Draft:
    """Look at a table and choose.

    Raises:
        ConfigError: a wish names no column, or does not go with it.
        DataError: there is nothing to predict.
    """
    facts = facts_of(table)
    column = _named(table, "--target", wishes.target)
    assert column is not None
    if column.kind == "string" and wishes.positive is None:
        table, column = _without_stray_capitals(table, facts, column)
        facts |= facts_of(table, [column])
    time_wish, key_wish, known_wish = (
        _named(table, f"--{option}", wish)
        for option, wish in (("time", wishes.time), ("key", wishes.key), ("known", wishes.known))
    )
    if time_wish is not None and time_wish.kind != "time":
        raise ConfigError(
            f"{time_wish.source!r} holds no times{_unreadable(table, time_wish)}",
            where="--time",
            cure="name a column of days or moments, or leave it out",
        )
    target = target_of(table, facts, column, threshold=wishes.threshold, positive=wishes.positive, task=wishes.task)
    time = None if wishes.every == "delivery" else event_time(table, facts, column.name, time_wish)
    later = later_times(table, facts, time, column.name) if time else []
    known = known_of(table, facts, target, time, later, known_wish)
    key = key_of(table, facts, time, column.name, [c.name for c in later], key_wish)
    zone = zone_of(table, facts, time) if time else ("UTC", "")
    rhythm = rhythm_of(table, time, zone[0], now or datetime.now(UTC), wishes.every) if time else None
    if rhythm and time:
        rhythm = reaching_labels(rhythm, table, time, known, target.of_rows, zone[0])
    out = left_out(table, facts, key.columns, time, target, later)
    history, entities = _history(table, facts, out.entities, target, rhythm)
    features = [
        *_features(table, facts, out.reasons, key),
        *(times := _other_times(table, facts, time, target, out.reasons)),
        *_entities(table, [name for name in entities if name in out.reasons], key),
    ]
    ages: dict[str, dict[str, Any]] = {f"{f.name}_age": {"of": f.name, "part": "age"} for f in times}
    if not features:
        reasons_of = [f"{c.source}: {out.reasons[c.name]}" for c in table.columns[:20] if c.name in out.reasons]
        raise DataError(
            f"no column is left to learn {column.source!r} from",
            where=table.origin.name,
            cure="; ".join(["add columns that are known before it", *reasons_of]),
        )
    parts = _parts(table, facts, time, rhythm, {feature.name for feature in features}) | ages
    reasons = {c.source: out.reasons[c.name] for c in table.columns if c.name in out.reasons}
    for entity in set(entities) & set(out.reasons):
        source = next(c.source for c in table.columns if c.name == entity)
        reasons[source] += "; its past is a feature instead (features.history)"
    (labelled,) = table.database.execute(f"SELECT count(*) FROM {ROWS} WHERE {target.of_rows} IS NOT NULL").fetchall()[
        0
    ]
    if labelled < FEWEST:
        raise DataError(
            f"{labelled} rows have a label, and a model needs {FEWEST} at the very least, better some hundreds",
            where=f"--target {column.source}",
            cure="gather more rows first",
        )
    return Draft(
        name,
        table,
        table.count,
        target,
        int(labelled),
        known,
        key,
        time,
        zone,
        rhythm,
        features,
        reasons,
        history,
        parts,
        out.accepted,
        out.near,
        _rarest(table, target),
        usual_shift(table, target, time) if time else 0.0,
    )


def _unreadable(table: Table, column: Column) -> str:
    """Of texts some of which are times: how many are none, and one of these."""
    if column.kind != "string":
        return ""
    name = sql.quote(column.name)
    values, times, example = table.database.execute(
        f"SELECT count({name}), count(TRY_CAST({name} AS TIMESTAMPTZ)), "
        f"any_value({name}) FILTER (TRY_CAST({name} AS TIMESTAMPTZ) IS NULL) FROM {ROWS}"
    ).fetchall()[0]
    if not times:
        return ""
    unread = f"{values - times:,} of {values:,} values are none, such as {short(example)}"
    return f": {unread}; at most {1 - READABLE:.0%} may be"


def _without_stray_capitals(table: Table, facts: Mapping[str, Facts], column: Column) -> tuple[Table, Column]:
    """The target's texts in small letters and without blanks at their ends, where that makes fewer of them."""
    name = sql.quote(column.name)
    plain = f"lower(trim({name}))"
    (distinct,) = table.database.execute(f"SELECT count(DISTINCT {plain}) FROM {ROWS}").fetchall()[0]
    if distinct >= facts[column.name].distinct or facts[column.name].distinct > MOST_SPELLINGS:
        return table, column
    table.database.execute(f"UPDATE {ROWS} SET {name} = {plain} WHERE {name} IS NOT NULL")
    settled = replace(column, expression=f"lower(trim({column.expression}))")
    return replace(table, columns=[settled if c.name == column.name else c for c in table.columns]), settled


def _rarest(table: Table, target: Target) -> float:
    """Share of the rarest class among the labels; 1 of numbers."""
    if target.task == "regression":
        return 1.0
    (share,) = table.database.execute(
        f"SELECT min(rows) / sum(rows) FROM (SELECT count(*) AS rows FROM {ROWS} "
        f"WHERE {target.of_rows} IS NOT NULL GROUP BY {target.of_rows})"
    ).fetchall()[0]
    return float(share)


def _named(table: Table, option: str, name: str | None) -> Column | None:
    if name is None:
        return None
    column = table.column(name)
    if column is None:
        names = [c.source for c in table.columns]
        unread = "".join(f"; {note}" for note in table.origin.notes)
        raise ConfigError(
            f"there is no column {name!r}{did_you_mean(name, names)}{unread}",
            where=option,
            cure=f"name one of {', '.join(names[:30])}{' ...' if len(names) > 30 else ''}",
        )
    return column


def _features(table: Table, facts: Mapping[str, Facts], reasons: Mapping[str, str], key: Key) -> list[Feature]:
    """Columns with their rules; of a wide table the units alone: hundreds of rules nobody reads, and each row costs."""
    kept = [c for c in table.columns if c.name not in reasons and c.kind not in ("time", "other")]
    is_wide = len(kept) > MOST_RULED
    values = {} if is_wide else _few_values(table, facts, kept)
    features = []
    for column in kept:
        known = facts[column.name]
        rules: dict[str, Any] = {}
        is_number = column.kind in ("integer", "float")
        if is_number and (unit := unit_of(column.name)):
            rules["unit"] = unit
        if not is_wide and not known.nulls and known.rows >= PROVEN:
            rules["nullable"] = False
        if not is_wide and is_number and known.low is not None and 0 <= known.low <= NEAR_ZERO * known.high:
            rules["min"] = 0
        if column.name in values:
            rules["allowed"] = values[column.name]
        kind: ColumnType = "text" if is_text(column, known) else column.kind  # type: ignore[assignment]
        if column.kind == "list":
            kind, rules["length"] = "embedding", int(known.low)
        name = column.name if column.name != key.name or column.name in key.columns else f"{column.name}_value"
        features.append(Feature(name, column.expression, kind, rules, _seen(column, known)))
    return features


def _few_values(table: Table, facts: Mapping[str, Facts], columns: Sequence[Column]) -> dict[str, list[str]]:
    """Of texts with few values all of them, where each came in the earlier and in the later half of the rows."""
    texts = [c for c in columns if c.kind == "string" and 1 < facts[c.name].distinct <= FEW_ALLOWED]
    few: dict[str, list[str]] = {}
    for chunk in in_chunks(texts):
        for column in chunk:
            name = sql.quote(column.name)
            rows = table.database.execute(
                f"SELECT {name}, count(DISTINCT rowid * 2 // {max(table.count, 1)}), count(*) FROM {ROWS} "
                f"WHERE {name} IS NOT NULL GROUP BY 1 ORDER BY 1"
            ).fetchall()
            if all(halves == SEEN_IN_BOTH and count >= 10 for _, halves, count in rows):
                few[column.name] = [str(value) for value, _, _ in rows]
    return few


def _seen(column: Column, facts: Facts) -> str:
    missing = f"; missing in {facts.nulls:,} rows" if facts.nulls else ""
    note = f"; {column.note}" if column.note else ""
    if column.kind == "list":
        return f"{facts.low:,} numbers each{missing}"
    if is_text(column, facts):
        return f"text of {facts.characters:,.0f} characters{missing}{note}"
    if column.kind in ("integer", "float"):
        return f"{_number(facts.low)} to {_number(facts.high)}{missing}{note}"
    return f"{facts.distinct:,} different values{missing}{note}"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def unit_of(name: str) -> str | None:
    """The unit that the last word of a name tells.

    >>> unit_of("distance_km"), unit_of("price_usd"), unit_of("delay_minutes"), unit_of("name")
    ('km', 'USD', 'minutes', None)
    """
    word = name.rpartition("_")[2]
    if word == name:
        return None
    if word in ("usd", "eur", "gbp", "chf"):
        return word.upper()
    if word in ("percent", "pct"):
        return "percent"
    words = {unit for units, _ in KINDS.values() for unit in units if len(unit) > 1} - {"in", "min", "degree"}
    return word if word in words else None


def _other_times(
    table: Table, facts: Mapping[str, Facts], time: EventTime | None, target: Target, left_out: Mapping[str, str]
) -> list[Feature]:
    """Times of what was before the event, or is planned for after it: their distance from it is a feature."""
    if time is None:
        return []
    apart = (*time.columns, *left_out, target.column)
    return [
        Feature(
            c.name,
            c.expression,
            "timestamp",
            {},
            "look: is it known by then? (features.datetime)" + (f"; {c.note}" if c.note else ""),
            False,
        )
        for c in table.columns
        if c.kind == "time" and c.name not in apart and facts[c.name].distinct > 1
    ]


def _history(
    table: Table, facts: Mapping[str, Facts], entities: Sequence[str], target: Target, rhythm: Rhythm | None
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The label's past by what comes again: of its names and codes, those with most rows a value first."""
    if rhythm is None or target.task == "multiclass":
        return {}, []
    days = rhythm.partitions * LENGTH[rhythm.every].days if rhythm.every != "hour" else rhythm.partitions / 24
    history: dict[str, dict[str, Any]] = {}
    used = []
    for name in sorted(entities, key=lambda e: -facts[e].repeats)[:MOST_HISTORY]:
        a_day = facts[name].repeats / max(days, 1)
        window = next((w for w in WINDOWS if w * a_day >= USUAL_PAST and w <= days / 2), None)
        if window is None:
            continue
        what = "rate" if target.task == "binary" else "mean"
        history[f"{name}_{what}_{window}d"] = {"by": [name], "function": "mean", "window_days": window}
        used.append(name)
    return history, used


def _entities(table: Table, names: Sequence[str], key: Key) -> list[Feature]:
    """Columns that history features group by, and that are no features themselves."""
    return [
        Feature(c.name, c.expression, "integer" if c.kind == "integer" else "string", {}, "for history alone", False)
        for c in table.columns
        if c.name in names and c.name != key.name
    ]


def _parts(
    table: Table, facts: Mapping[str, Facts], time: EventTime | None, rhythm: Rhythm | None, taken: set[str]
) -> dict[str, dict[str, Any]]:
    """The hour, the weekday and the month, as far as the table goes through all of them."""
    if time is None or rhythm is None:
        return {}
    days = rhythm.partitions * max(LENGTH[rhythm.every].days, 1 / 24)
    wanted: dict[str, dict[str, Any]] = {}
    moment = f"CAST({time.of_rows} AS TIMESTAMP)"
    hours, weekdays = table.database.execute(
        f"SELECT count(DISTINCT hour({moment})), count(DISTINCT isodow({moment})) FROM {ROWS}"
    ).fetchall()[0]
    if time.clock != "date" and hours > 1:
        wanted["hour_of_day"] = {"part": "hour"}
    if days >= 28 and weekdays > 1 and not (grain(table, time) or "").endswith("MONTH"):
        wanted["weekday"] = {"part": "weekday"}
    if days >= 2 * 365:
        wanted["month_of_year"] = {"part": "month", "cyclical": True}
    return {name if name not in taken else f"event_{name}": part for name, part in wanted.items()}
