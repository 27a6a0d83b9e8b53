"""decide: a policy turns a diagnosis into an action. Retraining is asked for when it can help, and not before."""

from __future__ import annotations

from typing import Literal

from pipelines.config import Policy
from pipelines.monitoring.column import Frozen
from pipelines.monitoring.finding import Diagnosis, Kind

Action = Literal["none", "alert", "retrain"]


class Decision(Frozen):
    """`reason` is one sentence for people, with the numbers."""

    verdict: Kind | Literal["stable"]
    action: Action
    reason: str


def decide(policy: Policy, diagnosis: Diagnosis, partitions_since_request: int | None) -> Decision:
    """Verdict: the most harmful finding. Action: retrain when enough of the newest labelled partitions are bad.

    Args:
        partitions_since_request: how many partitions ago an earlier one asked for a retraining (1: the one before);
            None when none ever did.

    Broken data, a model that recovered, or a request still cooling down: alert, and the reason says so. A shift of
    inputs, scores or labels that does no harm yet: alert, never more. Features that moved with the season: nothing
    but the verdict.
    """
    labelled, bad = len(diagnosis.labelled), len(diagnosis.bad)
    off = f"{bad} of the last {labelled} labelled partitions {'is' if bad == 1 else 'are'} off"
    if not diagnosis.findings:
        calm = (
            f"no shift beyond the policy's limits, {off}"
            if labelled
            else "no shift beyond the policy's limits, no labels yet"
        )
        return Decision(verdict="stable", action="none", reason=calm)

    worst = diagnosis.findings[0]

    def decision(action: Action, *clauses: str) -> Decision:
        return Decision(verdict=worst.kind, action=action, reason=", ".join([worst.evidence, *clauses]))

    if not diagnosis.is_newest_bad:
        is_season = worst.kind == "feature change"
        return decision("none" if is_season else "alert", off if labelled else "no labels yet")
    if worst.kind == "data fault":
        return decision("alert", off, "mend the data before anything learns from it")
    if bad < policy.at_least:
        return decision("alert", f"{off}, a retraining takes {policy.at_least} of {policy.of_last}")
    if partitions_since_request is not None and partitions_since_request < policy.cool_down_partitions:
        left = policy.cool_down_partitions - partitions_since_request
        return decision("alert", off, f"cooling down for {left} more partition{'s' * (left != 1)}")
    return decision("retrain", off)
