"""A problem of numbers through Airflow: history, then the whole train DAG.

What its stages hand on differs most from the two classes of all other tests here: no probabilities, other metrics,
intervals. The DAGs of each task run without a scheduler in tests/stages/test_defaults.py, those of classes there alone.
"""

from __future__ import annotations

import pytest

from pipelines import store, tracking
from pipelines.cli import replay
from pipelines.cli.airflow_client import AirflowClient
from pipelines.paths import version_uri
from pipelines.problem import load_problem
from tests.end_to_end.conftest import NUMBERS
from tests.stages.test_tasks import HISTORY

# The process that started the services waits in its last test for the others to be done with them.
pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(3000)]


def test_a_model_of_numbers_is_trained_and_serves(airflow: AirflowClient) -> None:
    problem = load_problem(NUMBERS)
    replay.prepare(airflow, problem)
    first, last = HISTORY
    ingest = airflow.trigger(f"{NUMBERS}.ingest", "history", conf={"first": first, "last": last})
    assert airflow.follow(ingest, lambda *_: None, 300)["state"] == "success"
    run = airflow.follow(airflow.trigger(f"{NUMBERS}.train", "first", partition=last), lambda *_: None, 600)
    assert run["state"] == "success", airflow.xcom(run, "gate", "verdict")
    version = str(tracking.serving(problem).version)
    assert version == "1"
    assert store.exists(version_uri(problem, version, "card.html"))
