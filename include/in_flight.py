"""What goes on in Airflow about problems, read from its database: a handful of queries, however many problems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.utils.state import DagRunState, TaskInstanceState
from sqlalchemy import func, select, tuple_

from pipelines.health.in_flight import InFlight, Question, Run
from pipelines.health.problem_page import RunKey
from pipelines.stage_names import STAGES

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

JUDGES = {"train": frozenset({"gate", "refit"})}
"""Tasks that fail where a model is not good enough: no fault that somebody has to mend, and the ledger says so."""


def dags_of_problems(session: Session) -> dict[str, list[str]]:
    """The DAGs that Airflow has of each problem, without its name, in the order in which they feed each other."""
    dag_ids = session.scalars(select(DagModel.dag_id).where(DagModel.is_stale.is_(False)))
    by_problem: defaultdict[str, list[str]] = defaultdict(list)
    for dag_id in dag_ids:
        problem, _, dag = dag_id.rpartition(".")
        if problem and dag in STAGES:
            by_problem[problem].append(dag)
    return {problem: sorted(dags, key=list(STAGES).index) for problem, dags in sorted(by_problem.items())}


def in_flight(session: Session, dags: Mapping[str, Iterable[str]]) -> dict[str, InFlight]:
    """What goes on about each problem of which DAGs are named."""
    ids = {f"{problem}.{dag}": (problem, dag) for problem, names in dags.items() for dag in names}
    running, waiting, failed = _running(session, ids), _waiting(session, ids), _failed(session, ids)
    questions, paused = _questions(session, ids), _paused(session, ids)
    return {
        problem: InFlight(
            tuple(running[problem]),
            tuple(waiting[problem]),
            tuple(failed[problem]),
            tuple(questions[problem]),
            tuple(paused[problem]),
        )
        for problem in dags
    }


def run_ids(session: Session, problem: str, wanted: Collection[RunKey]) -> dict[RunKey, str]:
    """Id of the newest run of each of these DAGs of a problem and partitions, where there is one."""
    pairs = [(f"{problem}.{key.dag}", key.partition) for key in wanted]
    runs = session.execute(
        select(DagRun.dag_id, DagRun.partition_key, DagRun.run_id)
        .where(tuple_(DagRun.dag_id, DagRun.partition_key).in_(pairs))
        .order_by(DagRun.id)
    )
    return {RunKey(dag_id.rpartition(".")[2], str(key)): run_id for dag_id, key, run_id in runs}


Ids = Mapping[str, tuple[str, str]]


def _running(session: Session, ids: Ids) -> defaultdict[str, list[Run]]:
    rows = session.execute(
        select(DagRun.dag_id, DagRun.run_id, DagRun.partition_key, DagRun.start_date)
        .where(DagRun.dag_id.in_(ids), DagRun.state == DagRunState.RUNNING)
        .order_by(DagRun.id)
    )
    by_problem: defaultdict[str, list[Run]] = defaultdict(list)
    for dag_id, run_id, key, since in rows:
        problem, dag = ids[dag_id]
        by_problem[problem].append(Run(dag, run_id, key, since))
    return by_problem


def _failed(session: Session, ids: Ids) -> defaultdict[str, list[Run]]:
    """DAGs whose newest ended run has failed, but for trainings whose model was not good enough."""
    ended = (DagRunState.SUCCESS, DagRunState.FAILED)
    newest = select(func.max(DagRun.id)).where(DagRun.dag_id.in_(ids), DagRun.state.in_(ended)).group_by(DagRun.dag_id)
    runs = session.execute(
        select(DagRun.dag_id, DagRun.run_id, DagRun.partition_key, DagRun.end_date).where(
            DagRun.id.in_(newest), DagRun.state == DagRunState.FAILED
        )
    ).all()
    tasks = _failed_tasks(session, [(dag_id, run_id) for dag_id, run_id, _, _ in runs])
    by_problem: defaultdict[str, list[Run]] = defaultdict(list)
    for dag_id, run_id, key, since in runs:
        problem, dag = ids[dag_id]
        names = tasks[dag_id, run_id]
        if not names or not JUDGES.get(dag, frozenset()).issuperset(names):
            by_problem[problem].append(Run(dag, run_id, key, since, tuple(names)))
    return by_problem


def _failed_tasks(session: Session, runs: Sequence[tuple[str, str]]) -> defaultdict[tuple[str, str], list[str]]:
    by_run: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    if not runs:
        return by_run
    rows = session.execute(
        select(TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id)
        .where(
            tuple_(TaskInstance.dag_id, TaskInstance.run_id).in_(runs), TaskInstance.state == TaskInstanceState.FAILED
        )
        .distinct()
        .order_by(TaskInstance.task_id)
    )
    for dag_id, run_id, task_id in rows:
        by_run[dag_id, run_id].append(task_id)
    return by_run


def _questions(session: Session, ids: Ids) -> defaultdict[str, list[Question]]:
    rows = session.execute(
        select(
            TaskInstance.dag_id, TaskInstance.run_id, HITLDetail.subject, HITLDetail.created_at, HITLDetail.assignees
        )
        .join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
        .where(
            TaskInstance.dag_id.in_(ids),
            TaskInstance.state == TaskInstanceState.AWAITING_INPUT,
            HITLDetail.responded_at.is_(None),
        )
        .order_by(HITLDetail.created_at)
    )
    by_problem: defaultdict[str, list[Question]] = defaultdict(list)
    for dag_id, run_id, subject, since, assignees in rows:
        problem, dag = ids[dag_id]
        users = tuple(str(user["name"]) for user in assignees or [])
        by_problem[problem].append(Question(dag, run_id, subject, since, users))
    return by_problem


def _waiting(session: Session, ids: Ids) -> defaultdict[str, list[str]]:
    rows = session.scalars(
        select(DagRun.dag_id)
        .where(DagRun.dag_id.in_(ids), DagRun.state == DagRunState.QUEUED)
        .distinct()
        .order_by(DagRun.dag_id)
    )
    return _by_problem(ids, rows)


def _paused(session: Session, ids: Ids) -> defaultdict[str, list[str]]:
    rows = session.scalars(
        select(DagModel.dag_id).where(DagModel.dag_id.in_(ids), DagModel.is_paused.is_(True)).order_by(DagModel.dag_id)
    )
    return _by_problem(ids, rows)


def _by_problem(ids: Ids, dag_ids: Iterable[str]) -> defaultdict[str, list[str]]:
    by_problem: defaultdict[str, list[str]] = defaultdict(list)
    for dag_id in dag_ids:
        problem, dag = ids[dag_id]
        by_problem[problem].append(dag)
    return by_problem
