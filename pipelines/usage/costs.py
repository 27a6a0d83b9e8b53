"""What tries come to: by DAG, run and partition, of a partition on average, and of a thousand predictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from pipelines.usage.prices import Prices
from pipelines.usage.tries import Try

OF_PARTITION = ("ingest", "score", "monitor", "release")
"""DAGs that run for each partition, from its ingest to its page."""
SCORED = "score.publish"
NEWEST = 8  # partitions, of which the average is taken


class Sum(NamedTuple):
    """What several tries came to."""

    name: str
    tries: int
    failed: int
    killed: int
    wall_s: float
    cpu_s: float
    peak_bytes: int
    """The most that one of them held."""
    requests: int
    cost: float
    began: datetime


class PartitionCost(NamedTuple):
    """What a partition costs on average."""

    cost: float
    partitions: int
    """Of so many, the newest."""


class PredictionCost(NamedTuple):
    """What a thousand predictions cost."""

    partitions: float
    """All that partitions took, each by itself."""
    all_in: float
    """What histories, trainings and labels took as well."""
    predictions: int


def summed(tries: Iterable[Try], prices: Prices, name: Callable[[Try], str | None]) -> list[Sum]:
    """Tries by what `name` calls them, in the order in which those began; those that it calls None are left out."""
    groups: defaultdict[str, list[Try]] = defaultdict(list)
    for attempt in tries:
        group = name(attempt)
        if group is not None:
            groups[group].append(attempt)
    return sorted((_sum(group, members, prices) for group, members in groups.items()), key=lambda total: total.began)


def by_partition(tries: Iterable[Try], prices: Prices) -> list[Sum]:
    """Of those that are of one partition, what its chain took; by partition."""
    of_chain = (attempt for attempt in tries if attempt.dag in OF_PARTITION)
    return sorted(summed(of_chain, prices, lambda attempt: attempt.partition), key=lambda total: total.name)


def of_partition(tries: Sequence[Try], prices: Prices) -> PartitionCost | None:
    """None: none has been scored by itself."""
    scored = {attempt.partition for attempt in tries if attempt.stage == SCORED and attempt.outcome == "done"}
    newest = [total for total in by_partition(tries, prices) if total.name in scored][-NEWEST:]
    return PartitionCost(sum(total.cost for total in newest) / len(newest), len(newest)) if newest else None


def of_predictions(tries: Sequence[Try], prices: Prices) -> PredictionCost | None:
    """None: none has been made."""
    predictions = sum(attempt.rows or 0 for attempt in tries if attempt.stage == SCORED and attempt.outcome == "done")
    if not predictions:
        return None
    of_chain = sum(total.cost for total in by_partition(tries, prices))
    everything = sum(map(prices.of, tries))
    return PredictionCost(1000 * of_chain / predictions, 1000 * everything / predictions, predictions)


def _sum(name: str, tries: Sequence[Try], prices: Prices) -> Sum:
    return Sum(
        name=name,
        tries=len(tries),
        failed=sum(attempt.outcome == "failed" for attempt in tries),
        killed=sum(attempt.outcome == "killed" for attempt in tries),
        wall_s=sum(attempt.wall_s for attempt in tries),
        cpu_s=sum(attempt.cpu_s for attempt in tries),
        peak_bytes=max(attempt.peak_bytes for attempt in tries),
        requests=sum(attempt.requests for attempt in tries),
        cost=sum(map(prices.of, tries)),
        began=min(attempt.started_time for attempt in tries),
    )
