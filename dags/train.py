"""# Train: a new version, gated against the champion

**What it does.** `label` joins events with the labels known by now, `sample` draws the training set and splits it by
time, `featurize` computes features (a mapped task a share of many partitions), `check` looks for leaks and writes the
datasheet, `train` searches and fits each candidate (a mapped task each), `evaluate` measures them on the newest
held-out partitions, `gate` compares the best with thresholds, baselines and champion on the same rows, `refit` fits it
again on these rows too, for that model to serve, `register` makes it a version with lineage and model card, `promote`
gives it the alias *champion*, or begins its release by steps (`<problem>.release`).

**What makes it run.** The monitor's request (asset `<problem>/retrain_request`, with the partition key that alarmed);
the ledger says which kind of training it asked for. By hand: with no partition key it learns from everything labelled
so far; with one, from what was known then. *How* is `scratch`, or on top of the champion `continue` (more trees, from
newer rows alone) or `recalibrate`. Requests that come while a run is on wait in line; of several only the newest runs.

**Triage.**

- `gate` failed with *GateFailed*: not a fault. The challenger is not good enough and the champion goes on serving.
  The task's *Evaluation* link shows every check. Compare the runs in MLflow; lower no threshold to get a release out.
- `refit` failed with *GateFailed*: it fits rows worse once it has learnt from them. Look at the newest partitions.
- `check` failed with *DataError*: a feature knows too much, or rows stand on both sides of a split: see the task's
  *Datasheet* link. Accept a feature (`dataset.leaks.accepted`) only after a look at it.
- `label` failed with *DataError*: too few labelled partitions yet. Skipped: its XCom `verdict` says why.
- Some of `train` skipped: the champion alone is updated, or rows beyond `training.memory_limit_mb` teach them nothing.
- `train` was killed: its retry goes on where it was. Does not start: it waits for the pool `training` (Admin, Pools).
  Failed: a candidate's parameters do not fit it. `register`, `promote` up for retry: MLflow does not answer.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, PartitionedAssetTimetable, task

from include import alerts, assets
from include.boundary import boundary, run, stage
from include.links import Datasheet, Evaluation, ModelCard
from include.wiring import Urgency, key_or_none, options, problems
from pipelines.problem import Problem


@task
@boundary
def label(problem: str, *, dag_run: Any = None, params: Any = None) -> Any:
    asked = dag_run.run_type == "asset_triggered"
    how = {"how": None} if asked else dict(params)
    return run("train.label", problem, dag_run.partition_key, requested=asked and not dag_run.clear_number, **how)


@task(map_index_template="{{ task.op_kwargs['share']['partitions'] | first }}")
@boundary
def featurize(problem: str, share: Any) -> Any:
    return run("train.featurize", problem, share)


@task(pool="training", execution_timeout=timedelta(hours=2), map_index_template="{{ task.op_kwargs['candidate'] }}")
@boundary
def train(problem: str, featurized: Any, candidate: str) -> Any:
    return run("train.train", problem, featurized, candidate)


@task(trigger_rule="none_failed_min_one_success")  # where the champion is updated, other candidates are skipped
@boundary
def evaluate(problem: str, featurized: Any, trained: Any) -> Any:
    return run("train.evaluate", problem, featurized, trained)


sample, check, gate, register, promote = (
    stage(f"train.{name}") for name in ("sample", "check", "gate", "register", "promote")
)
refit = stage("train.refit").override(pool="training", execution_timeout=timedelta(hours=2))


def build(problem: Problem) -> None:
    name = problem.name
    with DAG(
        f"{name}.train",
        description="A new version, gated against the champion",
        schedule=PartitionedAssetTimetable(assets=assets.retrain_request(name)),
        params={
            "how": Param("scratch", enum=["scratch", "continue", "recalibrate"]),
            "window_from": Param(None, title="First partition to learn from", **key_or_none(problem.partitions)),
        },
        **options(problem, __doc__, Urgency.LEARNS),
    ):
        checked = check(name, featurize.partial(problem=name).expand(share=sample(name, label(name))))
        checked.operator.operator_extra_links = (Datasheet(),)
        fit = train.override(max_active_tis_per_dagrun=problem.scheduling.trainings_at_once)
        fitted = fit.partial(problem=name, featurized=checked).expand(candidate=list(problem.training.candidates))
        evaluated = evaluate(name, checked, fitted)
        registered = register(name, refit(name, gated := gate(name, evaluated)))
        for told, page in ((gated, Evaluation()), (registered, ModelCard())):
            told.operator.operator_extra_links = (page,)
        model = assets.promotion(name) if problem.release.by_steps else assets.model(name)
        promote.override(outlets=[model], on_success_callback=alerts.promoted)(name, registered)


for each in problems():
    build(each)
