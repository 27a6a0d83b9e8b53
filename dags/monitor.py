"""# Monitor: did the world move, and does it matter?

**What it does.** `profile` summarises the partition in one pass, `detect` measures it against the champion's training
reference, `estimate` says how good its scores are likely to be before the labels come (docs/estimates.md), `report`
draws an Evidently report (the run's *Evidence* tab, and the link on the task), `diagnose` names the kind of drift,
`decide` turns numbers into a verdict by the policy of problem.yaml, `act` carries it out.

**What makes it run.** A scored partition: asset `<problem>/predictions`, with its key. By hand: with a *partition
key*. Only `act` asks for a retraining (asset `<problem>/retrain_request`), and once a partition: to clear a run
measures again and asks for nothing twice.

**Triage.**

- `act` skipped: the usual end. Nothing to retrain for, or it was asked for before; the XCom `verdict` says which.
- `detect` failed with *DataError*: no reference for the champion. Was it registered by Evergreen's train DAG?
- `estimate` skipped: a regression, or a champion registered before there were estimates. Failed: `decide` goes on
  without it.
- `report` failed: verdict and retraining do not depend on it. Clear it when the cause is gone.
- Alarms every week: read the diagnosis before you raise a limit. Covariate drift alone never retrains.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, PartitionedAssetTimetable, task

from include import alerts, assets
from include.boundary import boundary, partition_key, stage
from include.links import DriftReport
from include.wiring import options, problems
from pipelines.problem import Problem


@task
@boundary
def profile(problem: str, *, dag_run: Any = None) -> Any:
    from pipelines.stages import monitor

    return monitor.profile(problem, partition_key(dag_run))


detect = stage("monitor.detect")
estimate = stage("monitor.estimate")
report = stage("monitor.report")
diagnose = stage("monitor.diagnose")
decide = stage("monitor.decide")
act = stage("monitor.act")


def build(problem: Problem) -> None:
    name = problem.name
    with DAG(
        f"{name}.monitor",
        description="Did the world move, and does it matter?",
        schedule=PartitionedAssetTimetable(assets=assets.predictions(name)),
        **options(problem, __doc__),
    ):
        profiled = profile(name)
        estimate(name, profiled)
        drawn = report(name, profiled)
        drawn.operator.operator_extra_links = (DriftReport(),)
        decided = decide(name, diagnose(name, detect(name, profiled)))
        told = {"on_success_callback": alerts.requested, "on_skipped_callback": alerts.alerted}
        act.override(outlets=[assets.retrain_request(name)], **told)(name, decided)


for each in problems():
    build(each)
