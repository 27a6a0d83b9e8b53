"""detect: how far the partition lies from what is usual."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipelines import quarantine, store
from pipelines.dataset.label import mature
from pipelines.handoffs.config import pinned_problem
from pipelines.stages.monitor import past
from pipelines.stages.waiting import handed_on


def detect(problem_name: str, profiled: dict[str, Any]) -> dict[str, Any]:
    """How far the partition lies from the reference, and how good the newest labelled partitions turned out.

    What is usual is told by the reference's partitions and by those that the same version scored since. Partitions in
    quarantine tell neither that nor how good the model is: a fault that stays is found in each of its partitions.
    Partitions with too few rows are pooled with their neighbours before them.
    Result: what `profile` gave, "detected", "realised": performance per labelled partition, or pool of them, oldest
    first, each with the version that scored it; and "waiting": earlier partitions too many of whose labels are still on
    their way for them to tell anything.
    """
    from pipelines.features.schema import feature_units
    from pipelines.monitoring.detect.detect import detect as measure_drift
    from pipelines.stages.monitor.labelled import newest_realised

    problem = pinned_problem(problem_name, profiled.get("config"))
    if profiled.get("rows") == 0:
        return {
            **profiled,
            "detected": {"rows": 0, "columns": {}, "prediction": {}, "same_as": None},
            "realised": [],
            "waiting": [],
        }
    partition, policy = profiled["partition"], problem.monitoring.policy
    labels_in = handed_on(problem, profiled)
    before, held = past.past(profiled["version"], labels_in), quarantine.held(problem) - {partition}
    # One that a new version learnt from is no repetition of itself.
    others = {key: part for key, part in before.reference.partitions.items() if key != partition}
    before = replace(before, reference=before.reference.model_copy(update={"partitions": others}))
    profiles = {key: part for key, part in before.profiles().items() if key not in others and key not in held}
    found = profiles.pop(partition)
    # A unit that was declared after the version was made counts at once.
    units = feature_units(before.trained_problem) | feature_units(problem)
    detected = measure_drift(
        before.reference,
        found,
        profiles,
        policy.false_alarm_rate,
        policy.trailing_partitions,
        policy.min_labels,
        units,
    )
    scored = [key for key in store.partition_keys(problem, "predictions") if key not in held]
    late = labels_in.late.intersection(mature(problem, partition, scored))
    realised = newest_realised(problem, partition, [key for key in scored if key not in late])
    return {**profiled, "detected": detected, "realised": realised, "waiting": sorted(late - {partition})}
