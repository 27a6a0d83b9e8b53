"""A problem of four classes and one of numbers, through Airflow: history, then the whole train DAG."""

from __future__ import annotations

import pytest

from pipelines import store, tracking
from pipelines.cli import replay
from pipelines.cli.airflow_client import AirflowClient
from pipelines.paths import version_uri
from pipelines.problem import load_problem
from tests.stages.test_tasks import HISTORY, TASKS

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]


@pytest.mark.parametrize("name", TASKS)
def test_a_model_of_another_task_is_trained_and_serves(airflow: AirflowClient, name: str) -> None:
    problem = load_problem(name)
    replay.prepare(airflow, problem)
    first, last = HISTORY
    ingest = airflow.trigger(f"{name}.ingest", "history", conf={"first": first, "last": last})
    assert airflow.follow(ingest, lambda *_: None, 300)["state"] == "success"
    run = airflow.follow(airflow.trigger(f"{name}.train", "first", partition=last), lambda *_: None, 600)
    assert run["state"] == "success", airflow.xcom(run, "gate", "verdict")
    version = str(tracking.serving(problem).version)
    assert version == "1"
    assert store.exists(version_uri(problem, version, "card.html"))
