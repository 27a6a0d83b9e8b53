"""plan: which versions score the partition, in how many shards."""

from __future__ import annotations

from math import ceil

from pipelines import store
from pipelines.asof.clock import INSTANT, present
from pipelines.asof.ingested import ingested
from pipelines.errors import DataError
from pipelines.handoffs.config import pin
from pipelines.handoffs.releases import Assignment
from pipelines.handoffs.scoring import Shard
from pipelines.paths import score_staging_uri
from pipelines.problem import Problem, load_problem
from pipelines.release import ladder
from pipelines.release.ladder import Ladder
from pipelines.stages.score.shards import events_to_score


def plan(problem_name: str, partition: str) -> list[Shard]:
    """One shard per so many rows; all of them name the same champion, resolved here and once.

    Where a release is under way its challenger scores all rows too, in as many shards: which rows it then serves, if
    any, is frozen here, and is the same whenever the partition is scored again.

    Raises:
        NothingToDo: no champion serves yet.
        DataError: the partition has not been ingested.
    """
    from pipelines import tracking

    problem = load_problem(problem_name)
    problem.partitions.parse(partition)
    as_of = (present(problem) + INSTANT).isoformat()
    events_version, labels_version = (store.table_version(problem, name) for name in ("events", "labels"))
    rows = events_to_score(problem, partition, as_of, events_version).count_rows()
    if not rows and partition not in ingested(problem):
        raise DataError(
            f"partition {partition} has no events, and has not been ingested",
            where=f"problem {problem_name}",
            cure=f"run {problem_name}.ingest for it first",
        )
    champion = tracking.serving(problem)
    assignment = _assignment(problem, partition, str(champion.version))
    shards = max(ceil(rows / problem.scoring.shard_rows), 1)  # what is empty is scored too: its manifest says so
    store.begin(score_staging_uri(problem, partition))
    first = Shard(
        config=pin(problem),
        partition=partition,
        assignment=assignment,
        shard=0,
        shards=shards,
        events=rows,
        version=assignment.champion if assignment else str(champion.version),
        run_id=assignment.champion_run if assignment else champion.run_id,
        as_of=as_of,
        events_version=events_version,
        labels_version=labels_version,
    )
    planned = [first.model_copy(update={"shard": shard}) for shard in range(shards)]
    if assignment is not None:
        other = {"variant": "challenger", "version": assignment.challenger, "run_id": assignment.challenger_run}
        planned += [shard.model_copy(update=other) for shard in planned]
    return planned


def _assignment(problem: Problem, partition: str, champion: str) -> Assignment | None:
    """How the partition's rows are assigned; None where its champion serves them all.

    What was assigned once holds, whatever has happened to the release since, and to problem.yaml. What the champion has
    served alone stays its own: a release is of the partitions that come after it began.
    """
    if not problem.release.by_steps and partition not in store.partition_keys(problem, "shadow_predictions"):
        return None
    releases = ladder.read(problem)
    assignment = releases.assigned(partition)
    rollout = releases.current
    if assignment is not None or rollout is None or not problem.release.by_steps:
        return assignment
    is_later = rollout.champion == champion and partition > rollout.began
    if not is_later or _was_assigned(releases, partition) or partition in store.partition_keys(problem, "predictions"):
        return None
    return ladder.assign(problem, rollout, partition)


def _was_assigned(releases: Ladder, partition: str) -> bool:
    """Whether a release had to do with the partition, be it that its challenger was taken back since."""
    rows = (row for rollout in releases.rollouts for row in rollout.rows)
    return any(row["action"] == "assigned" and row["partition"] == partition for row in rows)
