"""act: the decision goes to the ledger and is carried out."""

from __future__ import annotations

import hashlib
from typing import Any

from pipelines import ledger
from pipelines.config import Action
from pipelines.errors import NoTraining
from pipelines.handoffs.config import pinned_problem

TOLD = ("label_shift", "concept", "feedback", "explained")  # evidence of other stages, where they gave any


def act(problem_name: str, decided: dict[str, Any]) -> dict[str, Any]:
    """Write the decision to the ledger and carry it out: a partition into quarantine, another version into service, or
    a request for a training.

    Result: {"partition", "action", "verdict", "reason"}: the request, which starts the train DAG.

    Raises:
        NoTraining: none is wanted, or the one for this partition has been carried out.
    """
    from pipelines import quarantine
    from pipelines.release import switch

    problem = pinned_problem(problem_name, decided.get("config"))
    outcome = {name: decided[name] for name in ("partition", "action", "verdict", "reason")}
    evidence = {name: decided[name] for name in ("version", "detected", "realised", "diagnosis")}
    evidence |= {name: decided.get(name) for name in ("options", "readings", "window_from", *TOLD)}
    digest = hashlib.sha256(repr(sorted(outcome.items())).encode()).hexdigest()[:8]
    ledger.record(
        problem,
        decision=f"monitoring:{decided['partition']}:{decided['version']}:{digest}",
        kind="monitoring",
        **outcome,
        model_version=decided["version"],
        evidence=evidence,
    )
    partition, action, reason = decided["partition"], Action(decided["action"]), decided["reason"]
    where = f"problem {problem_name}, partition {partition}"
    match action:
        case Action.QUARANTINE:
            quarantine.hold(problem, partition, reason, {"by": "monitor", "diagnosis": decided["diagnosis"]})
        case Action.ROLL_BACK:
            switch.roll_back(problem, partition, reason)
        case Action.FALL_BACK:
            switch.fall_back(problem, partition, reason)
    if not action.trains:
        raise NoTraining(f"{decided['verdict']}: {reason}", where=where, cure=f"the action is {action}")
    if ledger.has_gate(problem, partition):
        raise NoTraining(
            "a model has been trained for this partition already",
            where=where,
            cure=f"trigger {problem_name}.train by hand for another one",
        )
    return outcome
