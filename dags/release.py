"""# Release: a challenger comes to serve by steps

**What it does.** `assess` compares champion and challenger on every partition whose labels are in and says what is to
be done: go on to the next rung (shadow, canary, A/B test, bandit), serve, hold, or back to the champion; `ask` lets
people approve where `release.approval` wants it; `step` does it. How far a release has come stands on the ledger; the
run's *Evidence* tab shows it as a page. `evergreen release <problem>` says the same, and can promote, hold or abort.

**What makes it run.** A scored partition: asset `<problem>/predictions`, with its key. By hand: with a *partition key*.
A release begins when a version passes its gate (`<problem>.train`, task `promote`).

**To answer.** *Required Actions* in the UI shows what waits: *Approve* takes the step, *Reject* ends the release, and
the champion goes on serving. After `release.approval.hours` the answer is `release.approval.otherwise`. It waits
without a slot; partitions go on being scored and assessed meanwhile, and harm takes the challenger back all the same.

**Triage.**

- `assess` skipped: no release is under way. `ask` skipped: there is nothing to approve.
- `step` skipped: it stays where it is; its XCom `verdict` says why.
- A release was rolled back with *rows ... are missing*: the store lost rows between scoring and now. Score that
  partition again.
- A release hangs: fewer labels come than `partitions` of its rung asks for. The page says when it ends at the latest.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, PartitionedAssetTimetable, task

from include import alerts, assets
from include.approval import Ask
from include.boundary import boundary, partition_key, run
from include.links import Release
from include.wiring import Urgency, options, problems
from pipelines.problem import Problem

AT_ONCE = 16  # runs: one that waits for people keeps no later partition waiting


@task
@boundary
def assess(problem: str, *, dag_run: Any = None) -> Any:
    return run("release.assess", problem, partition_key(dag_run))


@task(trigger_rule="none_failed_min_one_success")  # `ask` is skipped where there is nothing to approve
@boundary
def step(problem: str, assessed: Any, answer: Any = None) -> Any:
    return run("release.step", problem, assessed, answer)


def build(problem: Problem) -> None:
    name, approval = problem.name, problem.release.approval
    with DAG(
        f"{name}.release",
        description="A challenger comes to serve by steps",
        schedule=PartitionedAssetTimetable(assets=assets.predictions(name)),
        **{**options(problem, __doc__, Urgency.WATCHES), "max_active_runs": AT_ONCE},
    ):
        assessed: Any = assess(name)
        assessed.operator.operator_extra_links = (Release(),)
        take = step.override(outlets=[assets.promotion(name)], on_success_callback=alerts.stepped)
        if approval.when == "none":
            stepped: Any = take(name, assessed)
        else:
            ask = Ask(approval=approval, task_id="ask")
            ask.operator_extra_links = (Release(),)
            assessed >> ask
            stepped = take(name, assessed, ask.output)
        stepped.operator.operator_extra_links = (Release(),)


for each in problems():
    if each.release.by_steps:
        build(each)
