"""What one version has made of a partition, and whether its challenger may be let in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.errors import DataError
from pipelines.handoffs.releases import Assignment
from pipelines.handoffs.scoring import ScoredShard
from pipelines.paths import manifest_uri
from pipelines.problem import Problem
from pipelines.release import ladder
from pipelines.release.guard import Gap, gaps, unseen_gaps
from pipelines.release.ladder import Rollout
from pipelines.release.versions import version_problem

if TYPE_CHECKING:
    import pyarrow.dataset as ds


@dataclass(frozen=True)
class Side:
    """The shards that one version has scored: of its partition all rows."""

    problem: Problem
    shards: Sequence[ScoredShard]

    @property
    def version(self) -> str:
        return self.shards[0].version

    @property
    def failed(self) -> str | None:
        """Why it has not scored all shards."""
        return next((shard.failed for shard in self.shards if shard.failed is not None), None)

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @cached_property
    def unseen(self) -> dict[str, int]:
        """Rows with a category that the version did not see in training, by feature."""
        counts: Counter[str] = Counter()
        for shard in self.shards:
            counts.update(shard.unseen)
        return dict(sorted(counts.items()))

    @cached_property
    def trained_problem(self) -> Problem:
        return version_problem(self.problem, self.version)

    @cached_property
    def staged(self) -> ds.Dataset:
        return store.staged(*(shard.uri for shard in self.shards))

    def require_complete(self, events: int) -> None:
        """
        Raises:
            DataError: the shards are not one row per event of the partition.
        """
        key = self.problem.key
        counted = f"SELECT count(*) AS rows, count(DISTINCT {sql.quote(key)}) AS keys FROM staged"
        counts = sql.query(counted, {"staged": self.staged}).to_pylist()[0]
        if not counts["rows"] == counts["keys"] == events:
            raise DataError(
                f"{counts['rows']} scores for {counts['keys']} keys, but {events} events",
                where=f"partition {self.shards[0].partition}",
                cure=f"clear the run from plan on; if it stays, {key} is not unique in events",
            )


class Outcome(NamedTuple):
    """What becomes of a partition under release."""

    assignment: Assignment | None
    """None: the champion serves all of it."""
    gaps: tuple[Gap, ...] = ()
    taken_back: str | None = None
    """Why the challenger serves none."""


def outcome(problem: Problem, partition: str, assignment: Assignment, champion: Side, challenger: Side) -> Outcome:
    """Whether the partition's rows are assigned as they were to be, or the challenger is taken back before it serves.

    Taking it back ends its release, on the ledger, before anything of the partition is published: a repeat finds it
    there. What a challenger has served once is not taken back when the partition is scored again, nor is a shadow for
    scoring otherwise: that may be what is better about it, and labels will say so.

    Raises:
        DataError: the challenger has served rows of the partition before, and cannot score them any more.
    """
    releases = ladder.read(problem)
    rollout = releases.of(assignment.release)
    if rollout is None or releases.assigned(partition) is None:
        return Outcome(None, taken_back=_reason_before(rollout, partition))
    has_served = assignment.kind != "shadow" and _has_served(problem, partition, assignment)
    if challenger.failed is not None:
        if has_served:
            raise DataError(
                f"version {challenger.version} has served rows of the partition, and cannot score them again: "
                + challenger.failed,
                where=f"partition {partition}, release {assignment.release}",
                cure="mend what it says and clear the run; what was published stands until then",
            )
        return _taken_back(problem, rollout, partition, f"it could not score: {challenger.failed}", [])
    measured = _gaps(problem, champion, challenger)
    if assignment.kind != "shadow" and not has_served:
        beyond = _beyond(problem, rollout, measured)
        if beyond:
            reason = "on the same rows: " + "; ".join(gap.line() for gap in beyond)
            return _taken_back(problem, rollout, partition, reason, measured)
    return Outcome(assignment, tuple(measured))


def _gaps(problem: Problem, champion: Side, challenger: Side) -> list[Gap]:
    classes = (champion.trained_problem.classes, challenger.trained_problem.classes)
    both = {*champion.trained_problem.categorical_features} & {*challenger.trained_problem.categorical_features}
    return [
        *gaps(problem, classes, champion.staged, challenger.staged),
        *unseen_gaps(both, champion.unseen, challenger.unseen, champion.rows),
    ]


def _beyond(problem: Problem, rollout: Rollout, measured: Sequence[Gap]) -> list[Gap]:
    """The gaps that are more than is allowed, on top of what they were in the release's own shadow."""
    allowed = rollout.settings.canary.max_decision_gap
    beyond = [gap for gap in measured if gap.is_beyond(allowed)]
    if not beyond:
        return []
    before: dict[str, list[float]] = {}
    for key, assignment in rollout.assigned.items():
        manifest: dict[str, Any] | None = None
        if assignment.kind == "shadow":
            manifest = store.find_json(manifest_uri(problem, key))
        for noted in (manifest or {}).get("gaps", ()):
            gap = Gap.model_validate(noted)
            before.setdefault(gap.measure, []).append(gap.difference)
    return [gap for gap in beyond if gap.is_beyond(allowed, before.get(gap.measure, ()))]


def _taken_back(problem: Problem, rollout: Rollout, partition: str, reason: str, measured: Sequence[Gap]) -> Outcome:
    ladder.record(
        problem,
        rollout.name,
        "rolled back",
        partition,
        reason,
        verdict="guard",
        version=rollout.challenger,
        turn=partition,
        taken_back=True,
        guard={"gaps": [gap.model_dump() for gap in measured], "allowed": rollout.settings.canary.max_decision_gap},
    )
    return Outcome(None, tuple(measured), reason)


def _reason_before(rollout: Rollout | None, partition: str) -> str:
    """Why an earlier try has taken the challenger back."""
    rows = rollout.rows if rollout else ()
    reasons = [row["reason"] for row in rows if row["partition"] == partition and row["evidence"].get("taken_back")]
    return reasons[-1] if reasons else "its release has no row of the partition any more"


def _has_served(problem: Problem, partition: str, assignment: Assignment) -> bool:
    """Whether the partition was published by this assignment before."""
    rows = store.dataset(problem, "predictions").filter(
        (pc.field("partition") == partition) & (pc.field("experiment") == assignment.release)
    )
    return bool(rows.count_rows())
