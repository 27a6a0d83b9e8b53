"""promote: the version serves, or its release begins."""

from __future__ import annotations

from pipelines import store
from pipelines.errors import DataError
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.training import Promoted, Registered
from pipelines.paths import reference_uri


def promote(problem_name: str, registered: Registered) -> Promoted:
    """Let the version serve, with the alias champion and a ledger row; or by the steps that problem.yaml declares."""
    from pipelines.release.enter import enter
    from pipelines.release.ladder import Contender

    problem = problem_of(problem_name, registered)
    version = registered.version
    if not store.exists(reference_uri(problem, version)):
        raise DataError(
            f"version {version} has no reference to monitor it by",
            where=reference_uri(problem, version),
            cure="clear the task register",
        )
    contender = Contender(version, registered.run_id, registered.partition, registered.reason)
    entry = enter(problem, contender, registered.candidate)
    return Promoted(
        config=registered.config, version=version, replaced=entry.replaced, how=entry.how, release=entry.release
    )
