"""# Ingest: rows come in and are checked

**What it does.** `extract` reads the partition's rows from their source, `validate` checks them against the
contract, `publish` writes good rows to `events` (and `labels`, as they become known) and bad ones to `quarantine`
with the rules that they broke. One Delta commit a table: a run can be killed and retried at any moment. To ingest a
partition again changes nothing where the source says the same; where it says something else, that is a correction,
known from now on, and what former models saw stays. With *restate* the rows are taken as if for the first time.

**What makes it run.** Its clock: once a partition has closed, for that partition. By hand: with a *partition key*
(the first day of the partition, such as `2013-04-01`; of an hour its first moment in UTC, `2013-04-01T05Z`), which
scores and monitors it too; or without a key and with `first` and `last`, which loads a bulk history and wakes nothing.
`airflow backfill create` loads a range of partitions, each with all that follows.

Of deliveries (`partitions.every: delivery`) its clock looks each day for those that have come, takes them in, and has
each scored and monitored. By hand without anything it looks at once; with a *partition key* (`d00003`) it takes that
delivery in again; `first` and `last` load several and wake nothing. Skipped: nothing new has come.

**Triage.**

- `validate` failed with *DataError* or *SchemaError*: too many bad rows, or other columns than declared. Nothing was
  published. The log's end has the rules that were broken and where the rows lie, or the column diff; the task's
  *Validation* link has every rule. Mend the source or the problem's `columns`, then clear `extract`.
- `publish` says *3 of 44 partitions refused, and held* (a bulk history; an alert says so too): the others are
  published. The *Validation* link has all that is held against each. Mend the source, or name the partition under
  `validation.shape.accepted` if it is sound; then trigger this DAG for it.
- Some rows are in quarantine: `evergreen quarantine list <problem>` shows them, `release` mends one and lets it in.
- A task is up for retry: the source or the store does not answer. It is tried again with growing pauses; when the
  retries are used up, start the service and clear the task.
- `publish` says *partitions were missed*: they closed while no scheduler ran. Its reason has the command that loads
  them; `evergreen status <problem>` shows it too.
- `extract` failed with *has not closed*: the partition's rows are still coming. The message says when it closes.
- `publish` says *other deliveries*: a file that was ingested has changed, or is gone. Its reason has the command that
  takes the correction in. Of one that was refused `extract` waits until it changes, or somebody names its key.
- No run at all: the DAG is paused, or `partitions.last` of problem.yaml lies behind.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from include import alerts, assets
from include.boundary import boundary, run, span, stage, tell_partitions
from include.links import Validation
from include.wiring import Urgency, clock, key_or_none, options, problems
from pipelines.problem import Problem


@task
@boundary
def extract(problem: str, by_delivery: bool = False, *, dag_run: Any = None, params: Any = None) -> Any:
    return run("ingest.extract", problem, *span(dag_run, params, may_look=by_delivery))


validate = stage("ingest.validate")


@task
@boundary
def publish(problem: str, validated: Any, *, dag_run: Any = None, params: Any = None) -> Any:
    published = run("ingest.publish", problem, validated, restate=bool(params["restate"]))
    if not (dag_run.partition_key or params["first"]):
        tell_partitions(assets.events(problem), published.came)
    return published


def build(problem: Problem) -> None:
    key: Any = {**key_or_none(problem.partitions), "section": "Bulk history (no partition key)"}
    with DAG(
        f"{problem.name}.ingest",
        description="Rows come in, are checked and published",
        params={
            "first": Param(None, title="First partition", **key),
            "last": Param(None, title="Last partition", **key),
            "restate": Param(
                False,
                type="boolean",
                title="Restate",
                description="What was ingested before was our own mistake (SQL, a rule): forget that it was known.",
            ),
        },
        **clock(problem.partitions),
        **options(problem, __doc__, Urgency.SERVES),
    ):
        validated = validate(problem.name, extract(problem.name, problem.partitions.by_delivery))
        validated.operator.operator_extra_links = (Validation(),)
        publish.override(outlets=[assets.events(problem.name)], on_success_callback=alerts.held_back)(
            problem.name, validated
        )


for each in problems():
    build(each)
