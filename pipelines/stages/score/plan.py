"""plan: which champion scores the partition, in how many shards."""

from __future__ import annotations

from math import ceil

from pipelines import store
from pipelines.asof.clock import INSTANT, present
from pipelines.asof.ingested import ingested
from pipelines.errors import DataError
from pipelines.handoffs.config import pin
from pipelines.handoffs.scoring import Shard
from pipelines.paths import score_staging_uri
from pipelines.problem import load_problem
from pipelines.stages.score.shards import events_to_score


def plan(problem_name: str, partition: str) -> list[Shard]:
    """One shard per so many rows; all of them name the same champion, resolved here and once.

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
    shards = max(ceil(rows / problem.scoring.shard_rows), 1)  # what is empty is scored too: its manifest says so
    store.begin(score_staging_uri(problem, partition))
    first = Shard(
        config=pin(problem),
        partition=partition,
        shard=0,
        shards=shards,
        events=rows,
        version=str(champion.version),
        run_id=champion.run_id,
        as_of=as_of,
        events_version=events_version,
        labels_version=labels_version,
    )
    return [first.model_copy(update={"shard": shard}) for shard in range(shards)]
