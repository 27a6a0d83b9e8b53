"""How time is cut: partitions with enough rows to be judged, few of them empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from statistics import median

from pipelines import sql
from pipelines.config import Partitions
from pipelines.errors import ConfigError, DataError
from pipelines.propose.table import ROWS, Clock, Table
from pipelines.propose.target import Known
from pipelines.propose.times import EventTime

# Rows of the usual partition: a model's labels are judged by 200; who waits a month anyway takes fewer.
ENOUGH = {"hour": 2_000, "day": 200, "week": 200, "month": 100, "quarter": 100}
SOME = {"hour": 2_000, "day": 40, "week": 40, "month": 40, "quarter": 40}
MOST_EMPTY = 0.1
FEW = 3  # partitions, where there are not more of any kind
FEWEST = 8  # partitions, of which some are learnt from, some tested on, and the rest played
PARTIAL = 0.5  # of the usual rows: fewer at an end of the table are a partition that was cut through
STRAY = 0.05
CURRENT = 3  # partitions before now, within which the newest row says that more are coming
LONGEST_WAIT = 3  # times that of 99 labels in 100: what is known later still is a mistake
PLAYED, PLAYED_SHARE = 8, 4  # at most so many partitions are played one by one, and one in so many


@dataclass(frozen=True)
class Rhythm:
    """`first` and `last` are keys; `last`, to the newest label, is None while data keeps coming."""

    every: str
    first: str
    last: str | None
    usual: int
    why: str
    history_until: str | None = None
    until: str | None = None
    partitions: int = 0
    """with events"""
    last_events: str | None = None
    """key of the last of those, as `last`"""
    later_labels: int = 0
    """known later still, by far: no partition has them"""


def rhythm_of(table: Table, time: EventTime, zone: str, now: datetime, named: str | None = None) -> Rhythm:
    """The finest rhythm whose usual partition has rows enough, or some where there are no more; else the coarsest.

    Raises:
        ConfigError: `named` is no rhythm.
        DataError: no row has a time.
    """
    if named is not None and named not in LENGTH:
        known = ", ".join(LENGTH)
        raise ConfigError(f"there is no rhythm {named!r}", where="--every", cure=f"one of {known}, or delivery")
    counted = {every: _counts(table, time, every, zone) for every in ([named] if named else LENGTH)}
    if not any(counted.values()):
        raise DataError("no row has a time", where=f"column {time.columns[0]}", cure="name another by --time")
    chosen = named or _finest(counted, zone)
    return _cut(table, chosen, counted[chosen], zone, now)


def reaching_labels(rhythm: Rhythm, table: Table, time: EventTime, known: Known, label: str, zone: str) -> Rhythm:
    """With the partitions in which the labels of its last events are known: a label lies in that of its known time.

    Labels that are known far later than others, such as in the year 9999, lie outside.

    Args:
        label: SQL over ROWS, null where there is none.
    """
    if rhythm.last is None or not known.of_rows:
        return rhythm
    parts = _parts(rhythm.every, rhythm.first, zone)
    one, span = LENGTH[rhythm.every].total_seconds(), f"{sql.literal(rhythm.first)} AND {sql.literal(rhythm.last)}"
    event, at = (_moment(each.of_rows, each.clock, zone) for each in (time, known))
    newest, later = table.database.execute(
        f"WITH labels AS (SELECT {sql.partition_of(parts, event)} AS of_event, {sql.partition_of(parts, at)} AS key, "
        f"epoch({at} - {event}) AS wait FROM {ROWS} WHERE {label} IS NOT NULL AND {at} IS NOT NULL), "
        f"inside AS (SELECT * FROM labels WHERE of_event BETWEEN {span}), "
        f"longest AS (SELECT {LONGEST_WAIT} * quantile_cont(wait, 0.99) + {one} AS wait FROM inside) "
        f"SELECT max(key) FILTER (inside.wait <= longest.wait), count_if(inside.wait > longest.wait) "
        f"FROM inside, longest"
    ).fetchall()[0]
    return replace(rhythm, last=max(rhythm.last, str(newest or "")), later_labels=int(later))


def _moment(value: str, clock: Clock, zone: str) -> str:
    return value if clock == "zoned" else f"(CAST({value} AS TIMESTAMP) AT TIME ZONE '{zone}')"


LENGTH = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30.44),
    "quarter": timedelta(days=91.31),
}
"""From the finest to the coarsest."""


def _finest(counted: Mapping[str, Mapping[str, int]], zone: str) -> str:
    usual = {every: median(counts.values()) for every, counts in counted.items()}
    many = [every for every in LENGTH if len(counted[every]) >= FEWEST]
    full = [every for every in many if _empty_share(every, counted[every], zone) <= MOST_EMPTY]
    for enough in (ENOUGH, SOME):
        for every in full:
            if usual[every] >= enough[every]:
                return every
    if full:
        return full[-1]
    whole = [every for every in LENGTH if len(counted[every]) >= FEW and _empty_share(every, counted[every], zone) == 0]
    return (whole or many[::-1] or ["day"])[0]


def _empty_share(every: str, counts: Mapping[str, int], zone: str) -> float:
    ordered = sorted(counts)
    parts = _parts(every, ordered[0], zone)
    span = (parts.start(ordered[-1]) - parts.start(ordered[0])) / LENGTH[every] + 1
    return 1 - len(counts) / max(span, len(counts))


def _parts(every: str, first: str, zone: str) -> Partitions:
    return Partitions.model_validate({"every": every, "first": first, "timezone": zone})


def _counts(table: Table, time: EventTime, every: str, zone: str) -> dict[str, int]:
    """Rows by partition."""
    first = "2000-01-01T00Z" if every == "hour" else {"week": "2000-01-03"}.get(every, "2000-01-01")
    key = sql.partition_of(_parts(every, first, zone), _moment(time.of_rows, time.clock, zone))
    rows = table.database.execute(
        f"SELECT {key} AS key, count(*) FROM {ROWS} WHERE {time.of_rows} IS NOT NULL GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return {str(key): int(count) for key, count in rows}


def _cut(table: Table, every: str, counts: Mapping[str, int], zone: str, now: datetime) -> Rhythm:
    usual = median(counts.values())
    keys = sorted(counts)
    keys = _without_edge(keys, counts, 0)
    is_past = not _is_current(every, keys[-1], zone, now)
    if is_past:
        keys = _without_edge(keys, counts, -1)
    parts = _parts(every, keys[0], zone)
    span = parts.between(keys[0], keys[-1])
    empty = [key for key in span if key not in counts]
    left_out = sum(counts.values()) - sum(counts.get(key, 0) for key in span)
    why = f"usually {usual:,.0f} rows; {len(span):,} of them" + (f", {len(empty):,} empty" if empty else ", none empty")
    if left_out:
        why += f"; {left_out:,} rows lie before or after, in partitions that are not whole"
    played = min(PLAYED, max(len(span) // PLAYED_SHARE, 3))
    has_past = is_past and len(span) > played + 3
    return Rhythm(
        every,
        keys[0],
        keys[-1] if is_past else None,
        int(usual),
        why,
        span[-1 - played] if has_past else None,
        span[-1] if has_past else None,
        len(span),
        keys[-1] if is_past else None,
    )


def _without_edge(keys: Sequence[str], counts: Mapping[str, int], end: int) -> list[str]:
    """Without the partition at an end that was cut through, and without stray rows beyond it, such as of 1900."""
    kept, usual = list(keys), median(counts.values())
    while len(kept) > FEWEST and counts[kept[end]] < STRAY * usual:
        kept.pop(end)
    if len(kept) > FEWEST and counts[kept[end]] < PARTIAL * usual:
        kept.pop(end)
    return kept


def _is_current(every: str, newest: str, zone: str, now: datetime) -> bool:
    parts = _parts(every, newest, zone)
    return parts.shift(newest, CURRENT) >= parts.key_of(now.astimezone(UTC))
