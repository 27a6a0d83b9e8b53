"""# Annotate: labels that do not come by themselves

**What it does.** Three things that do not wait for each other. `vote` lets the labeling functions vote on the newest
events and states what they say together (labels of source *weak*). `choose` picks the unlabelled events that a label
would teach most about, `ask` puts them before people, one form per annotator, and `collect` states what they answered
(source *hand*). `self_train` lets a model label what it is sure of (source *self_trained*). What `labels` in
problem.yaml does not ask for is skipped. Which labels are learnt from says `labels.use`.

**What makes it run.** You do; or whoever calls it by REST. Without a partition it looks at the newest events; with one
(a *partition key*, or the parameter), at those until then.

**To answer.** *Required Actions* in the UI shows the forms that wait. Answer about each event, or leave *cannot tell*.
Answer one form only: two by the same person count once. After `labels.hand.answer_within_hours` an open form counts as
unanswered, and `collect` goes on with the answers that are there.

**Triage.**

- `vote` failed with *ConfigError*: a labeling function fails, or says something else than 1, 0 and null; it is named.
- `choose` skipped: every event has its label already. `collect` skipped: nobody answered in time.
- `ask` waits: that is its work. It holds no slot, but the next run of this DAG waits in line behind it.
- A form that was answered comes back: the answer came in the second in which it appeared. Answer it again.
- `self_train` skipped: no labels of both classes yet, or none wanted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLEntryOperator
from airflow.sdk import DAG, Param, task

from include.boundary import boundary, run
from include.links import WeakSupervision
from include.wiring import Urgency, key_or_none, options, problems
from pipelines.problem import Problem


@task
@boundary
def vote(problem: str, *, dag_run: Any = None, params: Any = None) -> Any:
    return run("annotate.vote", problem, dag_run.partition_key or params["partition"])


@task
@boundary
def choose(problem: str, *, dag_run: Any = None, params: Any = None) -> Any:
    return run("annotate.choose", problem, dag_run.partition_key or params["partition"])


@task
@boundary
def form(chosen: Any) -> Any:
    return [{**one, "params": {name: Param(**spec) for name, spec in one["params"].items()}} for one in chosen["forms"]]


@task(trigger_rule="all_done_min_one_success")
@boundary
def collect(problem: str, chosen: Any, responses: Any) -> Any:
    return run("annotate.collect", problem, chosen, list(responses or ()))


@task(pool="training")
@boundary
def self_train(problem: str, *, dag_run: Any = None, params: Any = None) -> Any:
    return run("annotate.self_train", problem, dag_run.partition_key or params["partition"])


def build(problem: Problem) -> None:
    name, labels = problem.name, problem.labels
    hours = labels.hand.answer_within_hours if labels.hand else 1
    with DAG(
        f"{name}.annotate",
        description="Labels that do not come by themselves",
        schedule=None,
        params={"partition": Param(None, title="Newest partition to look at", **key_or_none(problem.partitions))},
        **options(problem, __doc__, Urgency.LEARNS),
    ):
        voted: Any = vote(name)
        voted.operator.operator_extra_links = (WeakSupervision(),)
        chosen = choose(name)
        ask = HITLEntryOperator.partial(task_id="ask", response_timeout=timedelta(hours=hours))
        collect(name, chosen, ask.expand_kwargs(form(chosen)).output)
        self_train(name)


for each in problems():
    if each.labels.are_made:
        build(each)
