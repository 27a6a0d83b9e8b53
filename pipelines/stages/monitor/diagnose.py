"""diagnose: which kinds of shift it shows."""

from __future__ import annotations

from pipelines.errors import NothingToDo
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.monitoring import Detected, Diagnosed, Estimated
from pipelines.monitoring.detect.detection import Detection
from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.problem import Problem
from pipelines.stages.monitor import evidence, past


def diagnose(problem_name: str, detected: Detected | None, estimated: Estimated | None = None) -> Diagnosed:
    """Name the kinds of shift. Only what the very version that scored this partition did counts against it.

    `estimated`: None where `estimate` had nothing to say or has failed.

    Raises:
        NothingToDo: there is nothing to diagnose, since `detect` gave nothing.
    """
    if detected is None:
        raise NothingToDo(
            "detect gave nothing: it failed, or was skipped",
            where=f"problem {problem_name}",
            cure="if it failed, mend what it says, then clear it",
        )
    problem = problem_of(problem_name, detected)
    if detected.rows == 0:
        unjudged = {"inputs": "the partition has no rows"}
        diagnosis = Diagnosis(findings=(), labelled=(), bad=(), unjudged=unjudged, is_empty=True)
    else:
        diagnosis = _diagnosis(problem, detected, estimated)
    return Diagnosed(
        **detected.model_dump(),
        estimation=estimated.estimation if estimated else None,
        diagnosis=evidence.keep(problem, detected, "diagnosis", diagnosis),
        kinds=list(diagnosis.kinds),
        measures=sorted(diagnosis.findings[0].numbers) if diagnosis.findings else [],
    )


def _diagnosis(problem: Problem, detected: Detected, estimated: Estimated | None) -> Diagnosis:
    from pipelines.monitoring.diagnose.diagnose import diagnose as name_shifts
    from pipelines.monitoring.diagnose.shifts import LabelEvidence

    detection = evidence.read(Detection, detected.detection)
    own = [part for part in detection.realised if part.version == detected.version]
    reference = past.reference_of(problem, detected.version)
    labels = evidence.read(LabelEvidence, estimated.estimation) if estimated else None
    return name_shifts(problem.monitoring.policy, reference, detection.detected, own, labels, detection.waiting)
