"""What is done about a release: to its next rung, to serving, or to its end. Each is repeated safely after a kill."""

from __future__ import annotations

from pipelines import ledger
from pipelines.problem import Problem
from pipelines.release import ladder
from pipelines.release.enter import begin_next
from pipelines.release.ladder import Rollout, State

BY_HAND = "by hand"


def go_on(problem: Problem, rollout: Rollout, rung: int, partition: str, reason: str) -> None:
    """From a rung to the next, which is not the last."""
    here = rollout.settings.rungs[rung + 1]
    ladder.record(
        problem,
        rollout.name,
        "stepped",
        partition,
        reason,
        verdict=here.in_words,
        version=rollout.challenger,
        turn=str(rung + 1),
        to=rung + 1,
    )


def move(problem: Problem, rollout: Rollout, partition: str, share: float, reason: str) -> None:
    """Another share on the same rung, as a bandit's."""
    ladder.record(
        problem,
        rollout.name,
        "stepped",
        partition,
        reason,
        verdict=rollout.here._replace(share=share).in_words,
        version=rollout.challenger,
        turn=f"{rollout.rung}:{partition}",
        to=rollout.rung,
        share=share,
    )


def promote(problem: Problem, rollout: Rollout, partition: str, reason: str, approved_by: str | None = None) -> None:
    """Let the challenger serve everything. The registry first: what serves then is what the ledger says, at the latest
    after the next try. One that is done is not done again: the version may have been rolled back since. Of one that was
    begun, and is ended by another run, who approved it is known from the ledger."""
    from pipelines import tracking

    approved_by = approved_by or rollout.approver
    if rollout.state != "promoted":
        tracking.promote(problem, rollout.challenger)
    ledger.record(
        problem,
        decision=f"promotion:{rollout.challenger}",
        kind="promotion",
        partition=partition,
        verdict=f"passed its release, {rollout.name}",
        action="promoted",
        reason=reason,
        model_version=rollout.challenger,
        evidence={
            "run_id": rollout.challenger_run,
            "replaced": rollout.champion,
            "release": rollout.name,
            "approved_by": approved_by,
        },
    )
    end(problem, rollout, "promoted", partition, reason, approved_by=approved_by)


def end(
    problem: Problem,
    rollout: Rollout,
    state: State,
    partition: str,
    reason: str,
    *,
    verdict: str = "",
    approved_by: str | None = None,
) -> str | None:
    """End a release; gives the one that begins in its place, of a version that has waited."""
    from pipelines import tracking

    assert state != "under way"
    ladder.record(
        problem,
        rollout.name,
        state,
        partition,
        reason,
        verdict=verdict or state,
        version=rollout.challenger,
        approved_by=approved_by,
    )
    tracking.leave(problem, rollout.challenger)
    return begin_next(problem)


def hold(problem: Problem, rollout: Rollout, partition: str, reason: str) -> None:
    """Let a release stay where it is until it is resumed; what does harm is taken back all the same."""
    _by_hand(problem, rollout, "held", partition, reason)


def resume(problem: Problem, rollout: Rollout, partition: str, reason: str) -> None:
    """Let a held release go on; a question that nobody has answered is asked again."""
    _by_hand(problem, rollout, "resumed", partition, reason)


def _by_hand(problem: Problem, rollout: Rollout, action: ladder.Action, partition: str, reason: str) -> None:
    turn = str(sum(row["action"] == action for row in rollout.rows) + 1)
    ladder.record(
        problem, rollout.name, action, partition, reason, verdict=BY_HAND, version=rollout.challenger, turn=turn
    )
