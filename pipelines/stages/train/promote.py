"""promote: the version serves."""

from __future__ import annotations

from pipelines import ledger, store
from pipelines.errors import DataError
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.training import Promoted, Registered
from pipelines.paths import reference_uri


def promote(problem_name: str, registered: Registered) -> Promoted:
    """Let the version serve: alias champion, and a ledger row."""
    from pipelines import tracking

    problem = problem_of(problem_name, registered)
    version = registered.version
    if not store.exists(reference_uri(problem, version)):
        raise DataError(
            f"version {version} has no reference to monitor it by",
            where=reference_uri(problem, version),
            cure="clear the task register",
        )
    replaced = tracking.promote(problem, version)
    ledger.record(
        problem,
        decision=f"promotion:{version}",
        kind="promotion",
        partition=registered.partition,
        verdict="passed its gate",
        action="promoted",
        reason=registered.reason,
        model_version=version,
        evidence={"run_id": registered.run_id, "candidate": registered.candidate, "replaced": replaced},
    )
    return Promoted(config=registered.config, version=version, replaced=replaced)
