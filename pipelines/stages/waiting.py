"""Which partitions' labels are still on their way, where nothing says how long they take."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.dataset.label import awaiting, mature, usual_wait
from pipelines.problem import Problem

LOOKED_AT = 60  # newest partitions that tell how long labels take


def waiting(
    config: Problem,
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

    as_of = as_of or config.partitions.end(partition)
    looked_at = config.partitions.between(config.partitions.shift(partition, 1 - LOOKED_AT), partition)
    keys = sorted({*available} & {*looked_at})
    if not keys or config.labels.maturity_days is not None:
        return set()
    labels = store.dataset(config, "labels") if labels is None else labels
    labels = labels.filter(sql.is_among("partition", looked_at))  # those in which labels arrived
    wait = usual_wait(config, labels, as_of)
    recent = [key for key in keys if config.partitions.end(key) + wait > as_of]
    if not recent:
        return set()
    events = store.dataset(config, "events") if events is None else events
    its_own = targets(events.filter(sql.is_among("partition", recent)), as_of)
    is_about = pc.field("event_time") >= pc.scalar(config.partitions.start(recent[0]))
    return set(awaiting(config, its_own, labels.filter(is_about), as_of, wait))


def judgeable(config: Problem, partition: str, available: Sequence[str]) -> list[str]:
    """The partitions of `available` whose labels tell how good their scores were, at the end of `partition`: they are
    mature, and as many of their events have a label as usually get one. Those that come first may be of a kind."""
    keys = mature(config, partition, list(available))
    late = waiting(config, partition, keys)
    return [key for key in keys if key not in late]
