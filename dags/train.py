"""# Train: a new version, gated against the champion

**What it does.** `label` joins events with the labels known by now, `sample` draws the training set and splits it by
time, `featurize` computes its features, `check` looks for leaks and writes the set's datasheet, `train` searches and
fits each candidate (one mapped task each), `evaluate` measures them on the newest held-out partitions, `gate` compares
the best with the thresholds of problem.yaml, with the baselines and with the champion on the same rows, `register`
makes it a version with its lineage and model card, `promote` gives it the alias *champion*.

**What makes it run.** The monitor's request (asset `<problem>/retrain_request`, with the partition key that alarmed).
By hand: with no partition key it learns from everything labelled so far; with one, from what was known then.
Requests that come while a run is on wait in line.

**Triage.**

- `gate` failed with *GateFailed*: not a fault. The challenger is not good enough and the champion goes on serving.
  The reason is the log's last line, the task's XCom `verdict` and the run's *Evidence* tab; the task's *Evaluation*
  link shows every check. Compare the runs in MLflow; do not lower a threshold to get a release out.
- `check` failed with *DataError*: a feature is named that knows too much (it is not there at the cut-off, or alone
  predicts the label), or rows stand on both sides of a split. Nothing was trained. Drop the feature or mend the split;
  the task's *Datasheet* link shows every check. Accept a feature (`dataset.leaks.accepted`) only after a look at it.
- `label` failed with *DataError*: too few labelled partitions yet. Ingest more, or wait for the labels.
- `train` failed for one candidate: its parameters in problem.yaml do not fit its model. Nothing was promoted.
- `train` was killed in the middle: its retry goes on with the trials and the boosting rounds that are done.
- `train` does not start: it waits for a slot of the pool `training` (Admin, Pools).
- `register` or `promote` is up for retry: MLflow does not answer. Both can be repeated without harm.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, PartitionedAssetTimetable, task

from include import alerts, assets
from include.boundary import boundary, stage
from include.links import Datasheet, Evaluation, ModelCard
from include.wiring import options, problems
from pipelines.problem import Problem


@task
@boundary
def label(problem: str, *, dag_run: Any = None) -> Any:
    from pipelines.stages import train

    asked = dag_run.run_type == "asset_triggered" and not dag_run.clear_number
    return train.label(problem, dag_run.partition_key, requested=asked)


@task(
    pool="training",
    execution_timeout=timedelta(hours=2),
    map_index_template="{{ task.op_kwargs['candidate'] }}",
)
@boundary
def train(problem: str, featurized: Any, candidate: str) -> Any:
    from pipelines.stages import train

    return train.train(problem, featurized, candidate)


@task
@boundary
def evaluate(problem: str, featurized: Any, trained: Any) -> Any:
    from pipelines.stages import train

    return train.evaluate(problem, featurized, list(trained))


sample = stage("train.sample")
featurize = stage("train.featurize")
check = stage("train.check")
gate = stage("train.gate")
register = stage("train.register")
promote = stage("train.promote")


def build(problem: Problem) -> None:
    name = problem.name
    with DAG(
        f"{name}.train",
        description="A new version, gated against the champion",
        schedule=PartitionedAssetTimetable(assets=assets.retrain_request(name)),
        **options(problem, __doc__),
    ):
        checked = check(name, featurize(name, sample(name, label(name))))
        checked.operator.operator_extra_links = (Datasheet(),)
        fit = train.partial(problem=name, featurized=checked)
        evaluated = evaluate(name, checked, fit.expand(candidate=list(problem.training.candidates)))
        gated = gate(name, evaluated)
        registered = register(name, gated)
        for told, page in ((gated, Evaluation()), (registered, ModelCard())):
            told.operator.operator_extra_links = (page,)
        promote.override(outlets=[assets.model(name)], on_success_callback=alerts.promoted)(name, registered)


for each in problems():
    build(each)
