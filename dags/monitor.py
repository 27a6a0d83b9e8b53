"""# Monitor: did the world move, does it matter, and what is to be done?

**What it does.** `profile` summarises the partition in one pass, `detect` measures it against the past, `estimate`
says how good its scores are likely to be and what labels say of those before it, `diagnose` names the kinds of shift,
`explain` says since when, along with what and where, `decide` weighs what each way to act is expected to gain against
what it costs, `act` carries the decision out, `report` draws the pages (the run's *Evidence* tab). XComs say it in
short; what each task has found in full lies in the store, below `monitoring/<partition>/<version>/`.

**What makes it run.** A scored partition: asset `<problem>/predictions`, with its key. By hand: with a *partition
key*. Only `act` asks for a training (asset `<problem>/retrain_request`), and once a partition: to clear a run
measures again and asks for nothing twice.

**Triage.**

- `act` skipped: no training is wanted, or it was asked for before; the XCom `verdict` says which. Partitions that it
  put into quarantine: `evergreen quarantine partitions <problem>`; `readmit` lets one back in.
- `detect` failed with *DataError*: no reference for the champion. Was it registered by Evergreen's train DAG?
- `estimate` skipped or failed: `diagnose` goes on without it, and knows neither concept drift nor estimated label
  shift. Of a regression it has nothing to say until the first labels are there.
- `report` failed: verdict and retraining do not depend on it. Clear it when the cause is gone.
- Alarms every week: read the page before you raise a limit. `evergreen decide <problem> --replay` says what another
  policy would have done. A shift of inputs alone never retrains.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, PartitionedAssetTimetable, task

from include import alerts, assets
from include.boundary import boundary, partition_key, run, stage
from include.links import DriftReport, Monitoring
from include.wiring import Urgency, options, problems
from pipelines.problem import Problem


@task
@boundary
def profile(problem: str, *, dag_run: Any = None) -> Any:
    return run("monitor.profile", problem, partition_key(dag_run))


@task(trigger_rule="all_done")  # `estimate` may have nothing to say, and may fail
@boundary
def diagnose(problem: str, detected: Any, estimated: Any) -> Any:
    return run("monitor.diagnose", problem, detected, estimated)


@task
@boundary
def decide(problem: str, explained: Any, *, ti: Any = None) -> Any:
    trainings = ti.get_dr_count(dag_id=f"{problem}.train", states=["queued", "running"])
    return run("monitor.decide", problem, explained, trainings)


detect = stage("monitor.detect")
estimate = stage("monitor.estimate")
explain = stage("monitor.explain")
act = stage("monitor.act")
report = stage("monitor.report")


def build(problem: Problem) -> None:
    name = problem.name
    with DAG(
        f"{name}.monitor",
        description="Did the world move, and does it matter?",
        schedule=PartitionedAssetTimetable(assets=assets.predictions(name)),
        **options(problem, __doc__, Urgency.WATCHES),
    ):
        profiled = profile(name)
        detected = detect(name, profiled)
        explained = explain(name, diagnose(name, detected, estimate(name, profiled)))
        detected >> explained  # where it failed, the run has failed too, although `diagnose` was skipped
        decided: Any = decide(name, explained)
        told = {"on_success_callback": alerts.requested, "on_skipped_callback": alerts.alerted}
        acted: Any = act.override(outlets=[assets.retrain_request(name)], **told)(name, decided)
        acted.operator.operator_extra_links = (Monitoring(),)
        drawn: Any = report(name, decided)
        drawn.operator.operator_extra_links = (Monitoring(), DriftReport())


for each in problems():
    build(each)
