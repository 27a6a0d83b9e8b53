"""decide: a policy turns a diagnosis, and what each way to act is expected to gain, into an action.

Pure, so that a policy can be replayed over history (`evergreen decide --replay`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from pipelines.config import Action, Policy, Way
from pipelines.config.base import is_empty
from pipelines.monitoring.diagnose.finding import Diagnosis, Kind
from pipelines.profiles.column import Frozen

Verdict = Kind | Literal["stable", "not judged", "empty"]


class Option(Frozen):
    """A way to act. `gain`: expected over the horizon, in the unit of `cost`, with its interval; None: not measured.

    `why_not`: why it was not taken; empty: it was. `window_from`: first partition that a training should learn from.
    `cost_from`: where the cost comes from; empty, and left out of what is kept: from the policy.
    """

    action: Way
    cost: float
    cost_from: str = Field("", exclude_if=is_empty)
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    why_not: str = ""
    window_from: str | None = None

    @property
    def priced(self) -> str:
        """The cost in a sentence.

        >>> Option(action="retrain", cost=0.04).priced, Option(action="retrain", cost=2, cost_from="measured").priced
        ('costs 0.04', 'costs 2 (measured)')
        """
        return f"costs {self.cost:.3g}{f' ({self.cost_from})' if self.cost_from else ''}"

    @property
    def net(self) -> float | None:
        return None if self.gain is None else self.gain - self.cost


class Situation(Frozen):
    """What else a decision depends on.

    since_request: partitions since monitoring last asked for a training (1: the one before asked); None: it never did.
    since_training: partitions since the newest that the champion's training knew, or since a request that came later.
    continued: how often the champion was continued since it was trained from scratch.
    is_training: a training is running, or waits for its turn.
    """

    since_request: int | None = None
    since_training: int = 0
    continued: int = 0
    is_training: bool = False


class Decision(Frozen):
    """`reason` is one sentence for people, with the numbers; `options`: all that were considered."""

    verdict: Verdict
    action: Action
    reason: str
    window_from: str | None = None
    options: tuple[Option, ...] = ()


def decide(policy: Policy, diagnosis: Diagnosis, options: Sequence[Option], situation: Situation) -> Decision:
    """Verdict: the most harmful finding; `staleness` where only age speaks for an action; `not judged` where nothing
    was found among too few rows; `empty`, without any action, where there are none.

    A data fault is quarantined, and never trained from. Otherwise `policy.updates` says who asks for trainings: people,
    the calendar, or the expected gains: of the ways that gain more than they cost the best is taken. An alarm (enough
    of the newest labelled partitions are bad, and the newest of all is) opens every way; without one only a fresher
    model counts. An alarm that no other way helps asks for a training from scratch where it is not known what that
    would gain. A way that is worth it but has to wait is told as an alarm is.
    """
    if diagnosis.is_empty:
        return Decision(verdict="empty", action=Action.NONE, reason="the partition has no rows")
    off = _off(diagnosis)
    fault = next((finding for finding in diagnosis.findings if finding.kind == "data fault"), None)
    if fault is not None:
        mend = "mend the data before anything learns from it"
        judged = tuple(_refused(option, "the data is at fault") for option in options)
        action = Action.QUARANTINE if policy.quarantine else Action.ALERT
        return _decision(diagnosis, action, [fault.evidence, off, mend], judged)
    if policy.updates == "manual":
        judged = tuple(_refused(option, "updates are manual") for option in options)
        return _decision(diagnosis, _told(diagnosis), [*_evidence(diagnosis), off], judged)
    if policy.updates != "continual":
        return _by_schedule(policy, diagnosis, situation)
    return _by_gain(policy, diagnosis, options, situation)


def is_alarm(policy: Policy, diagnosis: Diagnosis) -> bool:
    """Whether enough of the newest labelled partitions are bad, and the newest of all is."""
    return diagnosis.is_newest_bad and len(diagnosis.bad) >= policy.at_least


def _by_schedule(policy: Policy, diagnosis: Diagnosis, situation: Situation) -> Decision:
    clauses = [*_evidence(diagnosis), _off(diagnosis)]
    left = policy.every_partitions - situation.since_training
    if left > 0:
        return _decision(diagnosis, _told(diagnosis), [*clauses, f"the next training is due in {_count(left)}"])
    if reason := _waits(policy, situation):
        return _decision(diagnosis, _told(diagnosis), [*clauses, f"a training is due, and {reason}"])
    due = f"a training every {_count(policy.every_partitions)}"
    is_stateful = policy.updates == "scheduled_stateful" and situation.continued + 1 < policy.scratch_every
    return _decision(diagnosis, Action.CONTINUE if is_stateful else Action.RETRAIN, [*clauses, due])


def _by_gain(policy: Policy, diagnosis: Diagnosis, options: Sequence[Option], situation: Situation) -> Decision:
    alarm, clauses = is_alarm(policy, diagnosis), [*_evidence(diagnosis), _off(diagnosis)]
    # At equal gains the way with fewer surprises: a tie is broken by the order in which options are given.
    worthy = sorted(
        (option for option in options if _is_open(policy, option, situation, alarm) is None),
        key=lambda option: -(option.net or 0.0),
    )
    unmeasured = (
        alarm and not worthy and all(option.gain is None for option in options if option.action == Action.RETRAIN)
    )
    chosen: Way | None = worthy[0].action if worthy else Action.RETRAIN if unmeasured else None
    waits = None if chosen is None else _pauses(policy, chosen, situation)
    judged = tuple(
        option
        if option.action == chosen and not waits
        else _refused(
            option, _is_open(policy, option, situation, alarm) or waits or f"{chosen} is expected to gain more"
        )
        for option in options
    )
    if chosen is None:
        few = diagnosis.is_newest_bad and not alarm
        why = [f"acting takes {policy.at_least} of {policy.of_last}"] if few else []
        why += ["nothing is expected to gain more than it costs"] if alarm else []
        return _decision(diagnosis, _told(diagnosis), [*clauses, *why], judged)
    if waits:
        return _decision(diagnosis, _told(diagnosis), [*clauses, f"{chosen.noun} is worth it, but {waits}"], judged)
    if unmeasured:
        return _decision(diagnosis, Action.RETRAIN, clauses, judged)
    best = worthy[0]
    gains = (
        f"{best.action.noun} is expected to gain {best.gain:.3g} over {_count(policy.horizon_partitions)} "
        f"and {best.priced}"
    )
    verdict: Kind | None = None if diagnosis.findings else "staleness"
    return _decision(diagnosis, best.action, [*clauses, gains], judged, best.window_from, verdict)


def _is_open(policy: Policy, option: Option, situation: Situation, alarm: bool) -> str | None:
    """Why an option is out of the question; None: it is not."""
    if option.gain is None:
        return option.why_not or "it could not be measured"
    if option.action.needs_alarm and not alarm:
        return "there is no alarm"
    if option.action == Action.CONTINUE and situation.continued + 1 >= policy.scratch_every:
        times = "once" if situation.continued == 1 else f"{situation.continued} times"
        return f"the champion was continued {times}: from scratch is due"
    if option.gain <= option.cost:
        return f"expected to gain {option.gain:.3g}, and {option.priced}"
    return None


def _pauses(policy: Policy, way: Way, situation: Situation) -> str | None:
    """Why a way that is worth it has to wait; None: it has not."""
    since = situation.since_request
    if since is not None and since < policy.cool_down_partitions:
        return f"it is cooling down for {_count(policy.cool_down_partitions - since, ' more')}"
    return _waits(policy, situation) if way.trains else None


def _waits(policy: Policy, situation: Situation) -> str | None:
    return "a training is running" if situation.is_training and policy.while_training == "none" else None


def _decision(
    diagnosis: Diagnosis,
    action: Action,
    clauses: Sequence[str],
    options: tuple[Option, ...] = (),
    window_from: str | None = None,
    verdict: Kind | None = None,
) -> Decision:
    quiet: Verdict = "not judged" if diagnosis.unjudged else "stable"
    worst = verdict or (diagnosis.findings[0].kind if diagnosis.findings else quiet)
    reason = ", ".join(clauses)
    return Decision(verdict=worst, action=action, reason=reason, window_from=window_from, options=options)


def _told(diagnosis: Diagnosis) -> Action:
    """What is done where nothing is asked for: people are told, except of a season that does no harm."""
    kinds = set(diagnosis.kinds)
    return Action.ALERT if kinds - {"feature change"} or (kinds and diagnosis.is_newest_bad) else Action.NONE


def _evidence(diagnosis: Diagnosis) -> list[str]:
    if diagnosis.findings:
        return [diagnosis.findings[0].evidence]
    return [*diagnosis.unjudged.values()] or ["no shift beyond the policy's limits"]


def _off(diagnosis: Diagnosis) -> str:
    labelled, bad = len(diagnosis.labelled), len(diagnosis.bad)
    waits = f", labels of {_since(diagnosis.waiting)} are still on their way" if diagnosis.waiting else ""
    if not labelled:
        return f"{'too few labels' if 'performance' in diagnosis.unjudged else 'no labels'} yet{waits}"
    return f"{bad} of the last {labelled} labelled partitions {'is' if bad == 1 else 'are'} off{waits}"


def _since(partitions: Sequence[str]) -> str:
    return partitions[0] if len(partitions) == 1 else f"{len(partitions)} partitions since {partitions[0]}"


def _refused(option: Option, why: str) -> Option:
    return option.model_copy(update={"why_not": why})


def _count(partitions: int, more: str = "") -> str:
    return f"{partitions}{more} partition{'s' * (partitions != 1)}"
