"""Which partitions' labels are still on their way, where nothing says how long they take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.dataset.label import awaiting, mature, usual_wait
from pipelines.problem import Problem

LOOKED_AT = 60  # newest partitions that tell how long labels take, ...
LOOKED_AT_LEAST = timedelta(days=14)  # ... and all those of so long, of hours


def waiting(
    problem: Problem,
    partition: str,
    available: Sequence[str],
    as_of: datetime | None = None,
    events: Any = None,
    labels: Any = None,
) -> set[str]:
    """The partitions of `available`, up to `partition`, too many of whose labels still have time to come in.

    Args:
        as_of: when; by default the end of `partition`.
        events, labels: the tables, by default as they stand.
    """
    from pipelines.asof.as_known import targets

    as_of = as_of or problem.partitions.end(partition)
    count = max(LOOKED_AT, problem.partitions.as_many_as(LOOKED_AT_LEAST))
    looked_at = problem.partitions.between(problem.partitions.shift(partition, 1 - count), partition)
    keys = sorted({*available} & {*looked_at})
    if not keys or problem.labels.maturity_days is not None:
        return set()
    labels = store.dataset(problem, "labels") if labels is None else labels
    labels = labels.filter(sql.is_among("partition", looked_at))  # those in which labels arrived
    wait = usual_wait(problem, labels, as_of)
    recent = [key for key in keys if problem.partitions.end(key) + wait > as_of]
    if not recent:
        return set()
    events = store.dataset(problem, "events") if events is None else events
    its_own = targets(events.filter(sql.is_among("partition", recent)), as_of)
    is_about = pc.field("event_time") >= pc.scalar(problem.partitions.start(recent[0]))
    return set(awaiting(problem, its_own, labels.filter(is_about), as_of, wait))


@dataclass(frozen=True)
class Judgeable:
    """Which partitions' labels tell how good their scores were, at the end of `partition`."""

    problem: Problem
    partition: str
    late: frozenset[str]
    """Partitions too many of whose labels still have time to come in."""

    def among(self, available: Iterable[str]) -> list[str]:
        """Those of `available` that are mature, and as many of whose events have a label as usually get one.

        Those that come first may be of a kind.
        """
        return [key for key in mature(self.problem, self.partition, list(available)) if key not in self.late]


def judgeable(problem: Problem, partition: str) -> Judgeable:
    """What the tables tell of all partitions that have been ingested: labels of the newest ones are read for it."""
    return Judgeable(
        problem, partition, frozenset(waiting(problem, partition, store.partition_keys(problem, "events")))
    )
