"""act: the decision goes to the ledger and is carried out."""

from __future__ import annotations

import hashlib
from typing import Any

from pipelines import ledger
from pipelines.config import Action
from pipelines.errors import NoTraining
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.monitoring import Decided, Requested
from pipelines.monitoring.decide.weighing import Weighing
from pipelines.monitoring.detect.detection import Detection
from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.stages.monitor import evidence


def act(problem_name: str, decided: Decided) -> Requested:
    """Write the decision to the ledger, with all that it rests on, and carry it out: a partition into quarantine,
    another version into service, or a request for a training, which starts the train DAG.

    Raises:
        NoTraining: none is wanted, or the one for this partition has been carried out.
    """
    from pipelines import quarantine
    from pipelines.release import switch

    problem = problem_of(problem_name, decided)
    partition, action, reason = decided.partition, decided.action, decided.reason
    outcome = {"partition": partition, "action": action.value, "verdict": decided.verdict, "reason": reason}
    rests_on = _rests_on(decided)
    digest = hashlib.sha256(repr(sorted(outcome.items())).encode()).hexdigest()[:8]
    ledger.record(
        problem,
        decision=f"monitoring:{partition}:{decided.version}:{digest}",
        kind="monitoring",
        **outcome,
        model_version=decided.version,
        evidence=rests_on,
    )
    where = f"problem {problem_name}, partition {partition}"
    match action:
        case Action.QUARANTINE:
            quarantine.hold(problem, partition, reason, {"by": "monitor", "diagnosis": rests_on["diagnosis"]})
        case Action.ROLL_BACK:
            switch.roll_back(problem, partition, reason)
        case Action.FALL_BACK:
            switch.fall_back(problem, partition, reason)
    if not action.trains:
        raise NoTraining(f"{decided.verdict}: {reason}", where=where, cure=action.done)
    if ledger.has_gate(problem, partition):
        raise NoTraining(
            "a model has been trained for this partition already",
            where=where,
            cure=f"trigger {problem_name}.train by hand for another one",
        )
    return Requested(**outcome)


def _rests_on(decided: Decided) -> dict[str, Any]:
    """The evidence as the ledger has it: everything in one object."""
    from pipelines.monitoring.diagnose.shifts import LabelEvidence
    from pipelines.monitoring.explain.root_cause import Explanation

    detection = evidence.read(Detection, decided.detection)
    weighing = evidence.read(Weighing, decided.weighing)
    labels = LabelEvidence(partition=decided.partition)
    if decided.estimation is not None:
        labels = evidence.read(LabelEvidence, decided.estimation)
    explanation = None
    if decided.explanation is not None:
        explanation = evidence.read(Explanation, decided.explanation).model_dump(mode="json")
    return {
        "version": decided.version,
        **detection.model_dump(mode="json", include={"detected", "realised"}),
        "diagnosis": evidence.read(Diagnosis, decided.diagnosis).model_dump(mode="json"),
        **weighing.model_dump(mode="json"),
        "window_from": decided.window_from,
        **labels.model_dump(mode="json", include={"label_shift", "concept", "feedback"}),
        "explained": explanation,
    }
