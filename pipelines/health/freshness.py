"""How fresh each source is: how far its rows reach, and whether it has fallen behind its own usual pace.

A source lags by what lies between the newest time of its rows and the partition's end. What it usually lags by is the
most that it lagged by before it went on; one that never goes on, as a table of lookups does not, has no pace, and is
never behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from pipelines.handoffs.ingestion import Reach, most_readings
from pipelines.health.document import Health, KeptReading, SourceFresh, SourceReach
from pipelines.problem import Problem

FEWEST_STEPS = 3
"""By which a source has gone on before its pace is known,"""
FEWEST_PARTITIONS = 7
"""over so many partitions: of days a week, with its weekend."""
FEWEST_DELIVERIES = 8
TOLERANCE = 2
"""Times what a source usually lags by."""
LEAST_SHARE = 10
"""A source is not behind by less than a partition's length over this."""
LEAST_OF_DELIVERIES = timedelta(days=1)


def with_reach(problem: Problem, before: Sequence[SourceReach], reach: Mapping[str, Reach]) -> tuple[SourceReach, ...]:
    """What is known of each source of a problem, with what a run has read of it."""
    known = {source.name: source for source in before}
    for name, read in reach.items():
        earlier = known.get(name)
        is_same = earlier is not None and earlier.columns == read.columns
        readings = {reading.partition: reading for reading in earlier.readings} if earlier and is_same else {}
        readings |= {reading.partition: KeptReading(**reading._asdict()) for reading in read.readings}
        came = [each for each in (read.arrived, earlier.arrived if earlier else None) if each is not None]
        known[name] = SourceReach(
            name=name,
            columns=read.columns,
            readings=_stretches(readings[key] for key in sorted(readings))[-most_readings(problem.partitions.every) :],
            arrived=max(came, default=None),
        )
    return tuple(known[name] for name in problem.sources if name in known)


def _stretches(readings: Iterable[KeptReading]) -> tuple[KeptReading, ...]:
    """Of readings that a source stood still between the last one: it lagged most there.

    A run may read the rows of its own partitions alone, and find none: the source stands where it stood.
    """
    kept: list[KeptReading] = []
    for reading in readings:
        before = kept[-1].newest if kept else None
        newest = max(filter(None, [before, reading.newest]), default=None)
        if kept and newest == before:
            kept.pop()
        kept.append(reading.model_copy(update={"newest": newest}))
    return tuple(kept)


def freshness(problem: Problem, sources: Sequence[SourceReach]) -> tuple[SourceFresh, ...]:
    """How fresh each source is, as of its newest reading."""
    return tuple(_fresh(problem, source) for source in sources)


def _fresh(problem: Problem, source: SourceReach) -> SourceFresh:
    last = source.readings[-1] if source.readings else None
    allowed = None if last is None or last.newest is None else _allowed(problem, source)
    return SourceFresh(
        name=source.name,
        columns=source.columns,
        newest=last.newest if last else None,
        arrived=source.arrived,
        partition=last.partition if last else None,
        until=last.until if last else None,
        allowed_s=None if allowed is None else allowed.total_seconds(),
    )


def _allowed(problem: Problem, source: SourceReach) -> timedelta | None:
    """How much a source may lag by; None: its pace is not known."""
    parts, declared, last = problem.partitions, problem.sources[source.name], source.readings[-1]
    before = [reading for reading in source.readings[:-1] if reading.newest is not None]
    usual = max(
        [TOLERANCE * (reading.until - reading.newest) for reading in before if reading.newest], default=timedelta()
    )
    if parts.by_delivery:
        return max(usual, LEAST_OF_DELIVERIES) if len(before) >= FEWEST_DELIVERIES else None
    length = last.until - parts.start(last.partition)
    if len(before) >= FEWEST_STEPS and last.until - before[0].until >= FEWEST_PARTITIONS * length:
        return max(usual, length / LEAST_SHARE)
    if declared.time_column is None:
        return None
    # A partition is meant to find rows of its own in it, or some that lie as far back as it is read.
    return max(usual, length + timedelta(days=declared.lookback_days + problem.labels.delay_days))


def in_words(source: SourceFresh, health: Health) -> str:
    """Since when a source that is behind has stood still, beside the others of its problem."""
    assert source.newest is not None and source.until is not None and source.allowed_s is not None
    going_on = {other.name: other.newest for other in health.sources if other.newest and not other.is_behind}
    words = []
    if going_on and max(going_on.values()) > source.newest:
        others = "the others" if len(going_on) > 1 else next(iter(going_on))
        words.append(f"{lasting(max(going_on.values()) - source.newest)} before {others}")
    end = "the last ingest" if health.every == "delivery" else f"the end of the {health.every} {source.partition}"
    words.append(f"{lasting(source.until - source.newest)} before {end}")
    allowed = f"up to {lasting(timedelta(seconds=source.allowed_s))} would be usual"
    return f"stopped at {shown(source.newest)}, {', '.join(words)}; {allowed}"


def reaches(source: SourceFresh) -> str:
    """How far a source reaches, in words."""
    if source.newest is not None:
        return shown(source.newest)
    return "no times" if source.columns is None else "no row yet"


def shown(moment: datetime) -> str:
    """A moment for people, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M}"


def lasting(span: timedelta) -> str:
    """A duration for people, in a unit of which there are some.

    >>> lasting(timedelta(minutes=40)), lasting(timedelta(hours=40)), lasting(timedelta(days=9, hours=5))
    ('40 minutes', '40 hours', '9 days')
    """
    seconds = span.total_seconds()
    for unit, length, least in (("day", 86_400, 3), ("hour", 3_600, 1)):
        if seconds >= least * length:
            return _count(int(seconds // length), unit)
    return _count(int(seconds // 60), "minute")


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'s' * (number != 1)}"
