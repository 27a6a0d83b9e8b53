"""What `monitor.profile` found out for the stages after it: which partitions' labels are still on their way."""

from __future__ import annotations

from pipelines.dataset.waiting import Judgeable, judgeable
from pipelines.handoffs.monitoring import Profiled
from pipelines.problem import Problem


def handed_on(problem: Problem, profiled: Profiled) -> Judgeable:
    """What `monitor.profile` has found, as a later stage is given it.

    Where nobody handed it on, as for a stage that somebody runs by itself, it is looked up.
    """
    if profiled.late is None:
        return judgeable(problem, profiled.partition)
    return Judgeable(problem, profiled.partition, frozenset(profiled.late))
