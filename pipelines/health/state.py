"""How a problem stands, from its ledger, its tables, and what ingests have read of its sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import pyarrow.compute as pc

from pipelines import quarantine, store
from pipelines.artifacts import TableName
from pipelines.asof.ingested import ingested
from pipelines.health.document import (
    Champion,
    FailedGate,
    Fresh,
    Health,
    Held,
    History,
    Point,
    Release,
    Turn,
)
from pipelines.health.freshness import freshness
from pipelines.health.history import history_of
from pipelines.health.used import cost_of, stages_of, tries_since
from pipelines.metrics.metrics import METRICS
from pipelines.problem import Problem
from pipelines.release import ladder
from pipelines.release.ladder import Ladder, Rollout
from pipelines.release.versions import find_version_lineage
from pipelines.sql import is_among
from pipelines.summary import headline, missed, missed_in_words, unscored, unscored_in_words

POINTS = 26
TABLES: tuple[TableName, ...] = ("labels", "predictions", "profiles")


def health_of(problem: Problem, now: datetime | None = None, history: History | None = None) -> Health:
    """How a problem stands.

    Args:
        history: what `history_of` gives of it now; None: it is looked up.
    """
    now, history = now or datetime.now(UTC), history or history_of(problem)
    events = ingested(problem)
    newest = {name: max(store.partition_keys(problem, name), default=None) for name in TABLES}
    reach = {"events": max(events, default=None), **newest}
    metric, promotions, gates = headline(problem), history.of("promotion"), history.of("gate")
    limit = problem.gate.limits.get(metric)
    higher_is_better = METRICS[metric].higher_is_better
    gate = None if limit is None else limit.min if higher_is_better else limit.max
    releases = ladder.read(problem)
    attempts = tries_since(problem, now)
    return Health(
        problem=problem.name,
        every=problem.partitions.every,
        derived=now,
        metric=metric,
        gate=gate,
        higher_is_better=higher_is_better,
        champion=_champion(problem, promotions, events),
        points=_points(problem, history),
        judged=next(reversed(history.of("monitoring")), None),
        held=tuple(
            Held(partition=row["partition"], reason=row["reason"], since=row["decided_time"])
            for row in quarantine.holds(problem)
        ),
        quarantined_rows=sum(store.partition_rows(problem, "quarantine").values()),
        event_rows=sum(store.partition_rows(problem, "events").values()),
        release=_release(releases),
        waiting=tuple(contender.version for contender in releases.waiting),
        failed_gate=_failed_gate(gates),
        gate_failures=len(list(takewhile(lambda turn: turn.verdict == "failed", reversed(gates)))),
        tables=tuple(_fresh(problem, name, key) for name, key in reach.items()),
        sources=freshness(problem, history.sources),
        lies_in_past=problem.partitions.is_past(now),
        next_due=_next_due(problem, reach["events"]),
        missed=_missed(problem, now, events),
        cost=cost_of(attempts),
        stages=stages_of(attempts),
    )


def _missed(problem: Problem, now: datetime, events: Sequence[str]) -> str | None:
    missing = (
        missed_in_words(problem, missed(problem, now, events)),
        unscored_in_words(problem, unscored(problem)),
    )
    return "\n".join(filter(None, missing)) or None


def _champion(problem: Problem, promotions: Sequence[Turn], events: Sequence[str]) -> Champion | None:
    if not promotions:
        return None
    last = promotions[-1]
    trained_on = _trained_on(problem, promotions)
    return Champion(
        version=last.version or "",
        since=last.decided,
        partition=last.partition,
        how=last.action,
        trained_on=trained_on,
        age=None if trained_on is None else sum(key > trained_on for key in events),
    )


def _trained_on(problem: Problem, promotions: Sequence[Turn]) -> str | None:
    """Partition at whose end the version that serves was trained: its lineage knows, as it may serve much later."""
    version = promotions[-1].version
    lineage = find_version_lineage(problem, version) if version else None
    if lineage is not None:
        return str(lineage["partition"])
    trained = {turn.version: turn.partition for turn in promotions if turn.action == "promoted"}
    return trained.get(version)


def _points(problem: Problem, history: History) -> tuple[Point, ...]:
    keys = store.partition_keys(problem, "predictions")[-POINTS:]
    realised = history.realised()
    estimates = _estimates(problem, history.metric, [key for key in keys if key not in realised])
    points = []
    for key in keys:
        if key in realised:
            points.append(Point(partition=key, realised=realised[key]))
        else:
            value, low, high = estimates.get(key, (None, None, None))
            due = None if problem.partitions.by_delivery else _labels_due(problem, key)
            points.append(Point(partition=key, estimated=value, low=low, high=high, labels_due=due))
    return tuple(points)


def _labels_due(problem: Problem, key: str) -> datetime:
    return problem.partitions.end(key) + timedelta(days=problem.labels.mature_after_days)


def _estimates(problem: Problem, metric: str, keys: Sequence[str]) -> Mapping[str, tuple[float, float, float]]:
    if not keys:
        return {}
    wanted = is_among("partition", keys) & (pc.field("metric") == metric)
    rows = store.dataset(problem, "estimates").to_table(["partition", "value", "low", "high"], filter=wanted)
    return {row["partition"]: (row["value"], row["low"], row["high"]) for row in rows.to_pylist()}


def _failed_gate(gates: Sequence[Turn]) -> FailedGate | None:
    if not gates or gates[-1].verdict != "failed":
        return None
    last = gates[-1]
    training = last.decision.removeprefix("gate:")
    return FailedGate(partition=last.partition, reason=last.reason, decided=last.decided, training=training)


def _release(releases: Ladder) -> Release | None:
    rollout = releases.current
    if rollout is None:
        return None
    return Release(
        name=rollout.name,
        challenger=rollout.challenger,
        where=rollout.here.in_words,
        next_step=_next_step(rollout),
        is_held=rollout.is_held,
        asked=rollout.question.partition if rollout.question else None,
    )


def _next_step(rollout: Rollout) -> str:
    after = "serving everything" if rollout.next_rung.kind == "full" else rollout.next_rung.in_words
    if rollout.question:
        return f"{rollout.question.verdict} to {after}, once people approve"
    if rollout.is_held:
        return f"{after}, once it is resumed"
    looks = [look for look in rollout.looks if look.rung == rollout.rung]
    if not looks:
        return f"{after}, when the labels of its first partition are in"
    return f"{after}; {looks[-1].verdict} at {looks[-1].partition}: {looks[-1].reason}"


def _fresh(problem: Problem, name: str, key: str | None) -> Fresh:
    has_end = key is not None and not problem.partitions.by_delivery
    return Fresh(name=name, partition=key, until=problem.partitions.end(key) if key and has_end else None)


def _next_due(problem: Problem, newest: str | None) -> datetime | None:
    parts = problem.partitions
    if newest is None or parts.by_delivery:
        return None
    following = parts.shift(newest, 1)
    return parts.ingested_at(following) if parts.holds(following) else None
