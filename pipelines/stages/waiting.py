"""What `monitor.profile` found out for the stages after it: which partitions' labels are still on their way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.dataset.waiting import Judgeable, judgeable
from pipelines.problem import Problem


def handed_on(problem: Problem, result: Mapping[str, Any]) -> Judgeable:
    """What `monitor.profile` has found, as a later stage is given it: "late", and "partition".

    Where nobody handed it on, as for a stage that somebody runs by itself, it is looked up.
    """
    late, partition = result.get("late"), result["partition"]
    return judgeable(problem, partition) if late is None else Judgeable(problem, partition, frozenset(late))
