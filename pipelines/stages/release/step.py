"""step: what was found, and approved, is done."""

from __future__ import annotations

from typing import Literal

from pipelines.config.release import share_in_words
from pipelines.errors import NothingToDo
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.releases import Answer, Assessed, Stepped, Verdict
from pipelines.release import ladder, steps
from pipelines.release.ladder import Rollout, State

ENDED_BY: dict[Verdict, State] = {"roll back": "rolled back", "expire": "expired", "overtaken": "overtaken"}
DONE_BY: dict[Verdict, State] = {**ENDED_BY, "promote": "promoted"}


def step(problem_name: str, assessed: Assessed, answer: Answer | None = None) -> Stepped:
    """Take the step that the evidence asks for, once it is approved where people are asked. Safe to repeat.

    Raises:
        NothingToDo: it stays where it is; or a step was taken since, or the release has ended.
    """
    problem = problem_of(problem_name, assessed)
    rollout = ladder.read(problem).of(assessed.release)
    if rollout is None:
        raise NothingToDo("the ledger knows of no such release", where=assessed.release, cure="clear the run")
    partition, reason, by = assessed.partition, assessed.reason, None
    if assessed.asks and answer is None:
        raise NothingToDo(
            f"people are asked before it: {reason}",
            where=f"release {rollout.name}",
            cure=f"answer in Airflow's Required Actions, or: evergreen release {problem_name} --promote --reason ...",
        )
    if answer is not None:
        ladder.record(
            problem,
            rollout.name,
            "answered",
            partition,
            answer.in_words,
            verdict=answer.in_words,
            version=rollout.challenger,
            turn=f"{assessed.rung}:{partition}",
            user=answer.user,
            answered_time=answer.time,
        )
        reason, by = f"{answer.in_words}: {reason}", answer.user or answer.in_words
    is_rejected = answer is not None and not answer.is_approved
    _require_current(rollout, assessed, "rejected" if is_rejected else DONE_BY.get(assessed.verdict, "stepped"))
    if is_rejected:
        steps.end(problem, rollout, "rejected", partition, reason, approved_by=by)
        return _stepped(assessed, "rejected", reason, rollout.champion)
    match assessed.verdict:
        case "promote":
            steps.promote(problem, rollout, partition, reason, by)
            return _stepped(assessed, "promoted", reason, rollout.challenger)
        case "go on":
            steps.go_on(problem, rollout, assessed.rung, partition, reason)
            here = rollout.settings.rungs[assessed.rung + 1].in_words
            return _stepped(assessed, "stepped", f"to {here}: {reason}", rollout.champion)
        case "roll back" | "expire" | "overtaken" as verdict:
            steps.end(problem, rollout, ENDED_BY[verdict], partition, reason, verdict=verdict)
            return _stepped(assessed, ENDED_BY[verdict], reason, rollout.champion)
    if assessed.share is None:
        raise NothingToDo(f"it stays at {assessed.kind}: {reason}", where=f"release {rollout.name}", cure="wait")
    steps.move(problem, rollout, partition, assessed.share, reason)
    return _stepped(assessed, "stepped", f"share {share_in_words(assessed.share)}: {reason}", rollout.champion)


def _require_current(rollout: Rollout, assessed: Assessed, action: State | Literal["stepped"]) -> None:
    """Raises NothingToDo where the release has gone on since it was assessed, but by an earlier try of this step.

    `action` is what this step would do: another row of the same partition, as of a person who has ended the release
    meanwhile, is no try of it.
    """
    is_current = rollout.state == "under way" and rollout.rung == assessed.rung
    tried = {row["action"] for row in rollout.rows if row["partition"] == assessed.partition}
    has_ended = rollout.state not in ("under way", action)
    if not is_current and (has_ended or action not in tried):
        raise NothingToDo(
            f"the release has gone on since: {rollout.state}, {rollout.here.in_words}",
            where=f"release {rollout.name}, as of {assessed.partition}",
            cure="look at the newest run",
        )


def _stepped(assessed: Assessed, action: str, reason: str, version: str) -> Stepped:
    return Stepped(
        config=assessed.config,
        partition=assessed.partition,
        release=assessed.release,
        action=action,
        verdict=f"{assessed.release} {action}",
        reason=reason,
        version=version,
    )
