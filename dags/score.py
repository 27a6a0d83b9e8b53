"""# Score: the champion scores a partition

**What it does.** `plan` resolves the alias *champion* once and cuts the partition into shards, `score` scores each
(one mapped task a shard), `publish` writes them to `predictions` in one Delta commit, and then a manifest object
that a reader without Delta can wait for. Scoring a partition again replaces its rows. Where a version is under release
it scores all rows as well; which of them it serves is on the ledger, and the same whenever the partition is scored.

**What makes it run.** New rows: asset `<problem>/events`, with their partition key. By hand: with a *partition key*.

**Triage.**

- `plan` skipped: there is no champion yet. Run the problem's train DAG, then this one for the partition.
- `plan` failed with *no partition key*: the run was triggered by hand without one.
- `score` failed with *SchemaError*: the partition's columns are not those that the champion was trained on. The
  log's end lists the difference. Mend the source, or train a new version on the new columns.
- `publish` says that a version *is taken back*: it could not score, or its scores stray too far from the champion's
  on the same rows. Its release has ended and the champion serves the whole partition; the reason is on the ledger.
- `publish` says *partitions were missed*: earlier ones were ingested and not scored, as while this DAG was paused, when
  Airflow drops events. Its reason has the command; `evergreen status <problem>` shows it too.
- A task is up for retry: the store or MLflow does not answer. Readers still see the partition's old rows.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, PartitionedAssetTimetable, task

from include import assets
from include.boundary import boundary, partition_key, run
from include.wiring import Urgency, options, problems
from pipelines.problem import Problem


@task
@boundary
def plan(problem: str, *, dag_run: Any = None) -> Any:
    return run("score.plan", problem, partition_key(dag_run))


@task
@boundary
def score(problem: str, shard: dict[str, Any]) -> Any:
    return run("score.score", problem, shard)


@task
@boundary
def publish(problem: str, scored: Any, *, dag_run: Any = None) -> Any:
    return run("score.publish", problem, partition_key(dag_run), scored)


def build(problem: Problem) -> None:
    name = problem.name
    with DAG(
        f"{name}.score",
        description="The champion scores a partition",
        schedule=PartitionedAssetTimetable(assets=assets.events(name)),
        **options(problem, __doc__, Urgency.SERVES),
    ):
        scored = score.partial(problem=name).expand(shard=plan(name))
        publish.override(outlets=[assets.predictions(name)])(name, scored)


for each in problems():
    build(each)
