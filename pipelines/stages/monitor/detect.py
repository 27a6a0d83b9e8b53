"""detect: how far the partition lies from what is usual."""

from __future__ import annotations

from pipelines.handoffs.config import problem_of
from pipelines.handoffs.monitoring import Detected, Profiled
from pipelines.monitoring.detect.detection import NOTHING, Detection
from pipelines.problem import Problem
from pipelines.stages.monitor import evidence
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
    from pipelines.monitoring.served import detected, newest_realised, waiting
    from pipelines.stages.monitor.past import Past

    served = Past(profiled.version, handed_on(problem, profiled))
    return Detection(
        detected=detected(served),
        realised=tuple(newest_realised(served)),
        waiting=tuple(waiting(served)),
    )
