"""A version that has passed its gate serves at once, or its release begins, or it waits for one that is under way."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pipelines import ledger, store
from pipelines.problem import Problem
from pipelines.release import ladder
from pipelines.release.ladder import Contender, Rollout


class Entry(NamedTuple):
    """What became of a version that has passed its gate."""

    how: Literal["serves", "released", "waits"]
    replaced: str | None = None
    """Version that served before it; None: it was the first, or does not serve yet."""
    release: str | None = None
    """That began, or that it waits for."""


def enter(problem: Problem, contender: Contender, candidate: str) -> Entry:
    """Let a version serve, begin its release, or let it wait. Safe to repeat.

    The first version serves at once: there is none to be compared with.
    """
    from pipelines import tracking

    champion = tracking.champion(problem)
    if not problem.release.by_steps or champion is None or str(champion.version) == contender.version:
        return Entry("serves", serve(problem, contender, candidate))
    releases = ladder.read(problem)
    begun = next((one for one in releases.rollouts if one.challenger == contender.version), None)
    if begun is not None:
        return Entry("released", release=begun.name)
    current = releases.current
    if current is not None and current.champion == str(champion.version):
        if not problem.release.newest:
            ladder.wait(problem, contender, current.name)
            tracking.challenge(problem, current.challenger)  # to register a version gives it the alias
            return Entry("waits", release=current.name)
        end_replaced(problem, current, contender)
    return Entry("released", release=begin(problem, contender))


def serve(problem: Problem, contender: Contender, candidate: str) -> str | None:
    """Let a version serve, without a release; gives the version that it replaced."""
    from pipelines import tracking

    replaced: str | None = tracking.promote(problem, contender.version)
    ledger.record(
        problem,
        decision=f"promotion:{contender.version}",
        kind="promotion",
        partition=contender.partition,
        verdict="passed its gate",
        action="promoted",
        reason=contender.reason,
        model_version=contender.version,
        evidence={"run_id": contender.run_id, "candidate": candidate, "replaced": replaced},
    )
    return replaced


def begin(problem: Problem, contender: Contender) -> str:
    """Begin the release of a version against what serves now; gives its name."""
    from pipelines import tracking

    champion = tracking.serving(problem)
    began = max([contender.partition, *store.partition_keys(problem, "predictions")])
    name = ladder.start(problem, contender, str(champion.version), str(champion.run_id), began)
    tracking.challenge(problem, contender.version)
    return name


def begin_next(problem: Problem) -> str | None:
    """Begin the release of the newest version that waits for one, if any does; those before it are passed over."""
    contenders = ladder.read(problem).waiting
    return begin(problem, contenders[-1]) if contenders else None


def end_replaced(problem: Problem, rollout: Rollout, contender: Contender) -> None:
    """End a release, as a newer challenger takes its place."""
    ladder.record(
        problem,
        rollout.name,
        "replaced",
        contender.partition,
        f"version {contender.version} has passed its gate, and takes its place",
        verdict="a newer challenger",
        version=rollout.challenger,
    )
