"""A release: how far a challenger has come on its way to serve. Its state is what the ledger's rows add up to.

Every start, assignment, look, question, answer, step and end is one row of kind `rollout`, written once whoever is
killed and repeated; there is no other memory of a release. What its settings were when it began holds to its end.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple, cast

from pydantic import ValidationError

from pipelines import ledger
from pipelines.config import Release, Rung
from pipelines.handoffs.releases import Assignment, Verdict
from pipelines.ledger import Decision
from pipelines.problem import Problem

KIND = "rollout"
State = Literal["under way", "promoted", "rolled back", "expired", "aborted", "replaced", "overtaken", "rejected"]
Action = Literal[
    "started",
    "waiting",
    "assigned",
    "looked",
    "asked",
    "answered",
    "stepped",
    "held",
    "resumed",
    "promoted",
    "rolled back",
    "expired",
    "aborted",
    "replaced",
    "overtaken",
    "rejected",
]
"""What a row of the ledger says happened. Those that are a `State` too end the release."""
ENDS: tuple[State, ...] = ("promoted", "rolled back", "expired", "aborted", "replaced", "overtaken", "rejected")


class Contender(NamedTuple):
    """A version that has passed its gate and waits for its release."""

    version: str
    run_id: str
    partition: str
    reason: str


class Look(NamedTuple):
    """What was seen of a release at the end of a partition."""

    partition: str
    rung: int
    verdict: Verdict
    reason: str
    judged: tuple[str, ...]
    """Partitions of the rung whose labels were in."""


class Question(NamedTuple):
    """What people are asked, and have not answered yet."""

    partition: str
    rung: int
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One release."""

    name: str
    champion: str
    champion_run: str
    challenger: str
    challenger_run: str
    settings: Release
    began: str
    """Newest partition then: those after it are of the release."""
    started: datetime
    reason: str
    """Of its newest row."""
    rung: int = 0
    share: float | None = None
    """What a bandit has moved the challenger's share to."""
    state: State = "under way"
    is_held: bool = False
    question: Question | None = None
    looks: tuple[Look, ...] = ()
    assigned: dict[str, Assignment] = field(default_factory=dict)
    rows: tuple[Decision, ...] = ()
    """On the ledger, oldest first."""

    @property
    def here(self) -> Rung:
        rung = self.settings.rungs[self.rung]
        return rung if self.share is None else rung._replace(share=self.share)

    @property
    def approver(self) -> str | None:
        """Who answered last when people were asked; None: nobody has."""
        answered = [row for row in self.rows if row["action"] == "answered"]
        return None if not answered else str(answered[-1]["evidence"].get("user") or answered[-1]["verdict"])

    @property
    def next_rung(self) -> Rung:
        return self.settings.rungs[self.rung + 1]

    def assignment(self) -> Assignment:
        """How the rows of the next partition are assigned."""
        return Assignment(
            release=self.name,
            rung=self.rung,
            kind=self.here.kind,
            champion=self.champion,
            champion_run=self.champion_run,
            challenger=self.challenger,
            challenger_run=self.challenger_run,
            share=self.here.share,
            unit=self.settings.unit,
            sticky=self.settings.sticky,
        )


@dataclass(frozen=True)
class Ladder:
    """All releases of a problem, oldest first."""

    rollouts: tuple[Rollout, ...] = ()
    waiting: tuple[Contender, ...] = ()
    """Versions whose release has not begun, oldest first."""

    @property
    def current(self) -> Rollout | None:
        """The release that is under way."""
        newest = self.rollouts[-1] if self.rollouts else None
        return newest if newest and newest.state == "under way" else None

    def of(self, name: str) -> Rollout | None:
        return next((rollout for rollout in self.rollouts if rollout.name == name), None)

    def assigned(self, partition: str) -> Assignment | None:
        """How the rows of a partition were assigned; None where no release had to do with it, or took its challenger
        back before it served a row of it."""
        for rollout in self.rollouts:
            if partition in rollout.assigned:
                return rollout.assigned[partition]
        return None


def read(problem: Problem) -> Ladder:
    """The releases of a problem, as the ledger has them."""
    return fold(ledger.decisions(problem, KIND), ledger.decisions(problem, "promotion"))


def fold(rows: Sequence[Decision], promotions: Sequence[Decision]) -> Ladder:
    """What the ledger's rows add up to, both oldest first."""
    rollouts: dict[str, Rollout] = {}
    waiting: dict[str, Contender] = {}
    for row in sorted([*rows, *promotions], key=lambda row: row["decided_time"]):
        if row["kind"] != KIND:
            rollouts = {name: _overtaken(rollout, row) for name, rollout in rollouts.items()}
            continue
        name, version = str(row["evidence"].get("release", "")), str(row["model_version"])
        if row["action"] == "waiting":
            waiting[version] = Contender(version, row["evidence"]["run_id"], row["partition"], row["reason"])
        elif row["action"] == "started":
            waiting = {}  # older than the one that begins: not gone back to
            rollouts = {name: _followed(rollout, row) for name, rollout in rollouts.items()} | {name: _started(row)}
        elif name in rollouts:
            rollouts[name] = _after(rollouts[name], row)
    return Ladder(tuple(rollouts.values()), tuple(waiting.values()))


def _started(row: Decision) -> Rollout:
    evidence = row["evidence"]
    return Rollout(
        name=evidence["release"],
        champion=evidence["champion"],
        champion_run=evidence["champion_run"],
        challenger=str(row["model_version"]),
        challenger_run=evidence["challenger_run"],
        settings=_settings(evidence["settings"]),
        began=row["partition"],
        started=row["decided_time"],
        reason=row["reason"],
        rows=(row,),
    )


def _settings(kept: dict[str, Any]) -> Release:
    """As a release began with them; what is no setting any more counts for nothing.

    Releases that ended years ago are read with the one that is under way: no setting that is given up may stop that.
    """
    try:
        return Release.model_validate(kept)
    except ValidationError as error:
        given_up = [fault["loc"] for fault in error.errors() if fault["type"] == "extra_forbidden"]
        if not given_up:
            raise
    remaining = copy.deepcopy(kept)
    for *sections, name in given_up:
        section: Any = remaining
        for step in sections:
            section = section[step]
        del section[name]
    return Release.model_validate(remaining)


def _after(rollout: Rollout, row: Decision) -> Rollout:
    """A release after one more row; once it has ended nothing changes it but what it is told of by then."""
    evidence, partition = row["evidence"], row["partition"]
    rollout = replace(rollout, rows=(*rollout.rows, row))
    if row["action"] == "assigned":
        assignment = Assignment.model_validate(evidence["assignment"])
        return replace(rollout, assigned={**rollout.assigned, partition: assignment})
    if evidence.get("taken_back"):  # the champion has served all of the partition
        kept = {key: assignment for key, assignment in rollout.assigned.items() if key != partition}
        rollout = replace(rollout, assigned=kept)
    if rollout.state != "under way":
        return rollout
    match row["action"]:
        case "looked":
            look = Look(partition, evidence["rung"], _verdict(row), row["reason"], tuple(evidence["judged"]))
            return replace(rollout, looks=(*rollout.looks, look))
        case "asked":
            return replace(rollout, question=Question(partition, evidence["rung"], _verdict(row)))
        case "answered":
            return replace(rollout, question=None)
        case "stepped":
            rung = int(evidence["to"])
            share = evidence.get("share") if rung == rollout.rung or evidence.get("share") is not None else None
            return replace(rollout, rung=max(rung, rollout.rung), share=share, question=None, reason=row["reason"])
        case "held" | "resumed" as action:
            question = rollout.question if action == "held" else None  # to be asked again
            return replace(rollout, is_held=action == "held", question=question, reason=row["reason"])
    ended = next((state for state in ENDS if state == row["action"]), None)
    return rollout if ended is None else replace(rollout, state=ended, question=None, reason=row["reason"])


def _verdict(row: Decision) -> Verdict:
    return cast("Verdict", row["verdict"])


def _overtaken(rollout: Rollout, promotion: Decision) -> Rollout:
    """A release after something else came to serve: the monitor or a person has rolled back, or fallen back."""
    serves = promotion["model_version"]
    if rollout.state != "under way" or serves in (rollout.champion, rollout.challenger):
        return rollout
    return replace(rollout, state="overtaken", question=None, reason=f"version {serves} serves: {promotion['verdict']}")


def _followed(rollout: Rollout, begun: Decision) -> Rollout:
    """A release after another one has begun: what it was against served no more."""
    if rollout.state != "under way":
        return rollout
    return replace(rollout, state="overtaken", question=None, reason=f"release {begun['evidence']['release']} began")


def release_name(champion: str, challenger: str) -> str:
    """
    >>> release_name("3", "4")
    'v3-v4'
    """
    return f"v{champion}-v{challenger}"


def start(problem: Problem, contender: Contender, champion: str, champion_run: str, began: str) -> str:
    """Begin the release of a version against the one that serves; gives its name. Safe to repeat.

    Args:
        began: newest partition that was scored, or ingested for the training: those after it are of the release.
    """
    name = release_name(champion, contender.version)
    record(
        problem,
        name,
        "started",
        began,
        contender.reason,
        verdict="passed its gate",
        version=contender.version,
        champion=champion,
        champion_run=champion_run,
        challenger_run=contender.run_id,
        settings=problem.release.model_dump(mode="json"),
    )
    return name


def wait(problem: Problem, contender: Contender, behind: str) -> None:
    """Let a version wait until the release `behind` has ended. Safe to repeat."""
    ledger.record(
        problem,
        decision=f"{KIND}:waiting:{contender.version}",
        kind=KIND,
        partition=contender.partition,
        verdict=f"release {behind} is under way",
        action="waiting",
        reason=contender.reason,
        model_version=contender.version,
        evidence={"run_id": contender.run_id, "behind": behind},
    )


def record(
    problem: Problem,
    release: str,
    action: Action,
    partition: str,
    reason: str,
    *,
    verdict: str,
    version: str,
    turn: str = "",
    **evidence: Any,
) -> bool:
    """Append a row about a release, unless it is there; whether it was new.

    Args:
        turn: what tells rows of one action apart: the partition of a look, the rung of a step.
    """
    decision = ":".join(part for part in (KIND, release, action, turn) if part)
    return ledger.record(
        problem,
        decision=decision,
        kind=KIND,
        partition=partition,
        verdict=verdict,
        action=action,
        reason=reason,
        model_version=version,
        evidence={"release": release, **evidence},
    )


def assign(problem: Problem, rollout: Rollout, partition: str) -> Assignment:
    """Freeze how the rows of a partition are assigned; what was frozen first holds."""
    assignment = rollout.assignment()
    ledger.record(
        problem,
        decision=f"{KIND}:assigned:{partition}",
        kind=KIND,
        partition=partition,
        verdict=rollout.here.in_words,
        action="assigned",
        reason=f"version {rollout.challenger} beside version {rollout.champion}",
        model_version=rollout.challenger,
        evidence={"release": rollout.name, "assignment": assignment.model_dump(mode="json")},
    )
    return read(problem).assigned(partition) or assignment
