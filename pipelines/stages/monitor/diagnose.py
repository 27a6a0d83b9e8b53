"""diagnose: which kinds of shift it shows."""

from __future__ import annotations

from typing import Any

from pipelines.errors import NothingToDo
from pipelines.handoffs.config import pinned_problem
from pipelines.stages.monitor import past


def diagnose(
    problem_name: str, detected: dict[str, Any] | None, estimated: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Name the kinds of shift. Only what the very version that scored this partition did counts against it.

    `estimated`: what the stage `estimate` gave, None where it had nothing to say or has failed. Result: what `detect`
    gave, "estimated" and "diagnosis".

    Raises:
        NothingToDo: there is nothing to diagnose, since `detect` gave nothing.
    """
    from pipelines.monitoring.diagnose.diagnose import diagnose as name_shifts
    from pipelines.monitoring.diagnose.finding import Diagnosis

    if detected is None:
        raise NothingToDo(
            "detect gave nothing: it failed, or was skipped",
            where=f"problem {problem_name}",
            cure="if it failed, mend what it says, then clear it",
        )
    problem = pinned_problem(problem_name, detected.get("config"))
    if detected.get("rows") == 0:
        unjudged = {"inputs": "the partition has no rows"}
        nothing = Diagnosis(findings=(), labelled=(), bad=(), unjudged=unjudged, is_empty=True)
        return {**detected, "diagnosis": nothing.model_dump(mode="json")}
    its_own = [one for one in detected["realised"] if one["version"] == detected["version"]]
    reference = past.reference_of(problem, detected["version"])
    diagnosis = name_shifts(
        problem.monitoring.policy, reference, detected["detected"], its_own, estimated, detected["waiting"]
    )
    told = {name: (estimated or {}).get(name) for name in ("label_shift", "concept", "feedback")}
    return {**detected, **told, "diagnosis": diagnosis.model_dump(mode="json")}
