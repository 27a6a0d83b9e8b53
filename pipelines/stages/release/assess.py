"""assess: what labels say of the release that is under way, and what that asks for."""

from __future__ import annotations

from pipelines import store
from pipelines.dataset.waiting import judgeable
from pipelines.errors import NothingToDo
from pipelines.handoffs.config import pin
from pipelines.handoffs.releases import Assessed, Verdict
from pipelines.paths import release_page_uri
from pipelines.problem import Problem, load_problem
from pipelines.release import ladder
from pipelines.release.enter import begin_next
from pipelines.release.ladder import Rollout
from pipelines.release.verdict import judged

NOT_ASKED: tuple[Verdict, ...] = ("hold", "roll back", "expire", "overtaken")


def assess(problem_name: str, partition: str) -> Assessed:
    """Compare both versions of the release on every partition whose labels are in at the end of `partition`, and say
    what is to be done. What was seen goes to the ledger, and to a page.

    Raises:
        NothingToDo: no release is under way.
    """
    from pipelines import tracking
    from pipelines.release.evidence import compare
    from pipelines.release.page import page

    problem = load_problem(problem_name)
    problem.partitions.parse(partition)
    rollout = _under_way(problem)
    serves = str(tracking.serving(problem).version)
    is_promoted = serves == rollout.challenger  # its promotion was begun, and not ended
    comparison = compare(problem, rollout, judgeable(problem, partition))
    verdict, reason = judged(rollout, comparison)
    if is_promoted:
        verdict, reason = "promote", rollout.reason
    elif serves != rollout.champion:
        verdict, reason = "overtaken", f"version {serves} serves by now"
    asks = not is_promoted and _asks(problem, rollout, verdict)
    if asks and rollout.question is not None:
        asks, verdict = False, "hold"
        reason = f"an answer is waited for, asked at {rollout.question.partition}: {reason}"
    ladder.record(
        problem,
        rollout.name,
        "looked",
        partition,
        reason,
        verdict=verdict,
        version=rollout.challenger,
        turn=partition,
        rung=rollout.rung,
        judged=list(comparison.judged),
        seen=comparison.model_dump(mode="json"),
    )
    if asks:
        ladder.record(
            problem,
            rollout.name,
            "asked",
            partition,
            reason,
            verdict=verdict,
            version=rollout.challenger,
            turn=f"{rollout.rung}:{partition}",
            rung=rollout.rung,
        )
    shown = ladder.read(problem).of(rollout.name) or rollout
    drawn = page(problem, shown, comparison, next_step(shown, verdict))
    uri = store.write_bytes(release_page_uri(problem, partition), drawn)
    tracking.annotate(rollout.challenger_run, files={"release.html": drawn})
    return Assessed(
        config=pin(problem),
        partition=partition,
        release=rollout.name,
        champion=rollout.champion,
        challenger=rollout.challenger,
        rung=rollout.rung,
        kind=rollout.here.kind,
        verdict=verdict,
        reason=reason,
        share=comparison.share,
        asks=asks,
        subject=f"{problem.name}: {_step_in_words(rollout, verdict)}?" if asks else "",
        body=_question(rollout, verdict, reason) if asks else "",
        page=uri,
    )


def _under_way(problem: Problem) -> Rollout:
    releases = ladder.read(problem)
    rollout = releases.current
    if rollout is None and releases.waiting:
        begin_next(problem)
        rollout = ladder.read(problem).current
    if rollout is None:
        raise NothingToDo(
            "no release is under way",
            where=f"problem {problem.name}",
            cure=f"one begins when a version passes its gate ({problem.name}.train)",
        )
    return rollout


def _asks(problem: Problem, rollout: Rollout, verdict: Verdict) -> bool:
    """Whether people are asked before this is done; who is asked is what problem.yaml says now."""
    when = problem.release.approval.when
    return verdict not in NOT_ASKED and (when == "every_step" or (when == "promote" and verdict == "promote"))


def next_step(rollout: Rollout, verdict: Verdict) -> str:
    """What is done now, in a sentence."""
    match verdict:
        case "promote" | "go on":
            asked = ", once it is approved" if rollout.question else ""
            words = _step_in_words(rollout, verdict)
            return f"{words[0].upper()}{words[1:]}{asked}."
        case "roll back":
            return f"Version {rollout.challenger} is taken back; version {rollout.champion} goes on serving."
        case "expire":
            return f"The release ends without a result; version {rollout.champion} goes on serving."
        case "overtaken":
            return "The release ends, as something else serves."
    return f"It stays where it is ({rollout.here.in_words})."


def _step_in_words(rollout: Rollout, verdict: Verdict) -> str:
    if verdict == "promote":
        return f"version {rollout.challenger} serves everything"
    return f"version {rollout.challenger} goes on to {rollout.next_rung.in_words}"


def _question(rollout: Rollout, verdict: Verdict, reason: str) -> str:
    return (
        f"Release {rollout.name} stands at **{rollout.here.in_words}**: {reason}.\n\n"
        f"*Approve*: {_step_in_words(rollout, verdict)}. "
        f"*Reject*: the release ends, and version {rollout.champion} goes on serving."
    )
