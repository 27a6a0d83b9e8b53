"""What a problem's tasks have used of late, and what that costs."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from pipelines.errors import ConfigError
from pipelines.health.document import Cost, StageUse
from pipelines.problem import Problem
from pipelines.usage import Try
from pipelines.usage.costs import of_partition
from pipelines.usage.prices import load_prices
from pipelines.usage.table import tries

LATE = timedelta(days=31)

log = logging.getLogger(__name__)


def tries_since(problem: Problem, now: datetime) -> list[Try]:
    """Those of the newest month, the oldest first."""
    return [attempt for attempt in tries(problem, now - LATE) if attempt.ended >= now - LATE]


def cost_of(attempts: Sequence[Try]) -> Cost | None:
    """None: no partition was scored by itself; or the prices are wrong, which stops nothing but this."""
    try:
        prices = load_prices()
    except ConfigError as error:
        log.warning("%s", error)
        return None
    average = of_partition(attempts, prices)
    return average and Cost(per_partition=average.cost, unit=prices.currency, partitions=average.partitions)


def stages_of(attempts: Sequence[Try]) -> tuple[StageUse, ...]:
    """By name."""
    by_stage: defaultdict[str, list[Try]] = defaultdict(list)
    for attempt in attempts:
        by_stage[attempt.stage].append(attempt)
    return tuple(_of_stage(stage, members) for stage, members in sorted(by_stage.items()))


def _of_stage(stage: str, attempts: Sequence[Try]) -> StageUse:
    outcomes = Counter(attempt.outcome for attempt in attempts)
    done = [attempt for attempt in attempts if attempt.outcome == "done"]
    if not done:
        return StageUse(stage=stage, outcomes=dict(outcomes))
    last = done[-1]
    return StageUse(
        stage=stage,
        ended=last.ended,
        wall_s=last.wall_s,
        cpu_s=last.cpu_s,
        peak_bytes=last.peak_bytes,
        outcomes=dict(outcomes),
    )
