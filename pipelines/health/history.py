"""How a problem came to stand as it does: the ledger, told short, and how far its sources reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from pipelines import ledger
from pipelines.handoffs.ingestion import Reach
from pipelines.health.document import FORMAT, History, Turn, Watched
from pipelines.health.freshness import with_reach
from pipelines.monitoring.detect.detection import Drift, LabelledPartition
from pipelines.problem import Problem
from pipelines.profiles.profile import SCORE
from pipelines.summary import headline

MOST_TURNS = 10_000
MOST_WATCHED = 1_000
DIGITS = 4


def history_of(problem: Problem, before: History | None = None, reach: Mapping[str, Reach] | None = None) -> History:
    """The newest decisions of the ledger, what monitoring measured, and how far sources reached.

    Args:
        before: what this gave earlier. Decisions never change, so the evidence of those that it has is not read again.
            What it has of sources no table tells.
        reach: what an ingest has read of its sources.
    """
    metric = headline(problem)
    is_same = before is not None and (before.format, before.metric) == (FORMAT, metric)
    earlier = before if before is not None and is_same else History(problem=problem.name, metric=metric)
    turns = {turn.decision: turn for turn in earlier.turns}
    watched = {look.decision: look for look in earlier.watched}
    rows = ledger.without_evidence(problem)
    kept = rows[-MOST_TURNS:]
    looks = [row for row in kept if row["kind"] == "monitoring"][-MOST_WATCHED:]
    new = [row for row in kept if row["decision"] not in turns]
    new_looks = [row for row in looks if row["decision"] not in watched]
    evidence = ledger.evidence(problem, [*new, *new_looks])
    turns |= {row["decision"]: _turn(row, evidence[row["decision"]]) for row in new}
    watched |= {row["decision"]: _watched(row, evidence[row["decision"]], metric) for row in new_looks}
    return History(
        problem=problem.name,
        metric=metric,
        turns=tuple(turns[row["decision"]] for row in kept),
        is_whole=len(kept) == len(rows),
        sources=with_reach(problem, before.sources if before else (), reach or {}),
        watched=tuple(watched[row["decision"]] for row in looks),
    )


def _turn(row: ledger.Told, evidence: Mapping[str, Any]) -> Turn:
    by = evidence.get("user") or evidence.get("approved_by")
    return Turn(
        decision=row["decision"],
        kind=row["kind"],
        partition=row["partition"],
        verdict=row["verdict"],
        action=row["action"],
        reason=row["reason"],
        version=row["model_version"],
        decided=row["decided_time"],
        by=str(by) if by else None,
    )


def _watched(row: ledger.Told, evidence: Mapping[str, Any], metric: str) -> Watched:
    detected = Drift.model_validate(evidence["detected"]) if evidence.get("detected") else None
    realised = [LabelledPartition.model_validate(labelled) for labelled in evidence.get("realised") or []]
    return Watched(
        decision=row["decision"],
        partition=row["partition"],
        version=row["model_version"],
        decided=row["decided_time"],
        drift=_drift(detected) if detected else {},
        realised=dict(_measured(realised, metric)),
    )


def _drift(detected: Drift) -> dict[str, float | None]:
    columns = dict(detected.columns)
    if detected.prediction is not None:
        columns[SCORE] = detected.prediction
    times = {name: drift.step_over_level() for name, drift in columns.items()}
    return {name: None if value is None else round(value, DIGITS) for name, value in times.items()}


def _measured(realised: Iterable[LabelledPartition], metric: str) -> Iterable[tuple[str, float]]:
    """Rows held out from training tell of the past of a version, not of what it served."""
    for labelled in realised:
        value = labelled.value(metric)
        if value is not None and isfinite(value) and not labelled.is_held_out:
            yield labelled.partition, round(value, DIGITS + 1)
