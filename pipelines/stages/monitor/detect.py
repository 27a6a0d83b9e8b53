"""detect: how far the partition lies from what is usual."""

from __future__ import annotations

from dataclasses import replace

from pipelines import quarantine, store
from pipelines.dataset.label import mature
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.monitoring import Detected, Profiled
from pipelines.monitoring.detect.detection import NOTHING, Detection
from pipelines.problem import Problem
from pipelines.stages.monitor import evidence, past
from pipelines.stages.waiting import handed_on


def detect(problem_name: str, profiled: Profiled) -> Detected:
    """How far the partition lies from the reference, and how good the newest labelled partitions turned out.

    What is usual is told by the reference's partitions and by those that the same version scored since. Partitions in
    quarantine tell neither that nor how good the model is: a fault that stays is found in each of its partitions.
    Partitions with too few rows are pooled with their neighbours before them.
    """
    problem = problem_of(problem_name, profiled)
    detection = Detection(detected=NOTHING, realised=()) if profiled.rows == 0 else _detection(problem, profiled)
    columns = detection.detected.columns
    return Detected(
        **profiled.model_dump(),
        detection=evidence.keep(problem, profiled, "detection", detection),
        columns=len(columns),
        moved=[name for name, drift in columns.items() if drift.is_beyond("step")],
        labelled=[part.partition for part in detection.realised],
    )


def _detection(problem: Problem, profiled: Profiled) -> Detection:
    from pipelines.features.schema import feature_units
    from pipelines.monitoring.detect.detect import detect as measure_drift
    from pipelines.stages.monitor.labelled import newest_realised

    partition, policy = profiled.partition, problem.monitoring.policy
    labels_in = handed_on(problem, profiled)
    before, held = past.past(profiled.version, labels_in), quarantine.held(problem) - {partition}
    # One that a new version learnt from is no repetition of itself.
    others = {key: part for key, part in before.reference.partitions.items() if key != partition}
    before = replace(before, reference=before.reference.model_copy(update={"partitions": others}))
    profiles = {key: part for key, part in before.profiles().items() if key not in others and key not in held}
    newest = profiles.pop(partition)
    # A unit that was declared after the version was made counts at once.
    units = feature_units(before.trained_problem) | feature_units(problem)
    drift = measure_drift(
        before.reference,
        newest,
        profiles,
        policy.false_alarm_rate,
        policy.trailing_partitions,
        policy.min_labels,
        units,
    )
    scored = [key for key in store.partition_keys(problem, "predictions") if key not in held]
    late = labels_in.late.intersection(mature(problem, partition, scored))
    realised = newest_realised(problem, partition, [key for key in scored if key not in late])
    return Detection(detected=drift, realised=tuple(realised), waiting=tuple(sorted(late - {partition})))
