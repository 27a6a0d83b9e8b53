"""A challenger comes to serve by steps through Airflow: people approve by REST, harm is taken back, people reject.

One training, which begins a release, runs in Airflow; the others, and the history, in this process.
"""

from __future__ import annotations

import pytest

from pipelines import ledger, local_run, tracking
from pipelines.cli.airflow_client import AirflowClient, Run
from pipelines.problem import load_problem
from pipelines.release import ladder
from tests.end_to_end.test_loop import answer, tasks, wait
from tests.stages.release.test_whole import HISTORY, NAME, NEXT, learn

# The process that started the services waits in its last test for the others to be done with them.
pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(3000)]


def follow(airflow: AirflowClient, run: Run) -> Run:
    ended = airflow.follow(run, lambda *_: None, 600)
    assert ended["state"] == "success", tasks(airflow, ended)
    return ended


def day(airflow: AirflowClient, partition: str) -> Run:
    """The run of the release DAG for a partition that was ingested; its predictions have woken it."""
    follow(airflow, airflow.trigger(f"{NAME}.ingest", partition, partition=partition))
    return airflow.wait_for(f"{NAME}.release", partition, 600)


def decide(airflow: AirflowClient, run: Run, option: str) -> None:
    question = answer(airflow, run, -1, lambda _: {"chosen_options": [option], "params_input": {}})
    assert question["options"] == ["Approve", "Reject"] and question["defaults"] == ["Reject"]
    assert "Release v" in question["body"]
    follow(airflow, run)


def serves() -> str:
    return str(tracking.serving(load_problem(NAME)).version)


def newest() -> ladder.Rollout:
    return ladder.read(load_problem(NAME)).rollouts[-1]


@pytest.fixture(scope="module")
def begun(airflow: AirflowClient) -> None:
    """Version 1 serves, and version 2, as good, has passed its gate."""
    wanted = [f"{NAME}.{dag}" for dag in ("train", "release", "score", "ingest")]
    wait(lambda: set(wanted) <= airflow.dag_ids())
    for dag_id in wanted:
        airflow.unpause(dag_id)
    first, last = HISTORY
    local_run.ingest(NAME, first, last)
    local_run.train(NAME, last)
    learn(trees=30)
    follow(airflow, airflow.trigger(f"{NAME}.train", "second", partition=last))
    assert serves() == "1"


def test_a_good_challenger_is_promoted_once_it_is_approved(airflow: AirflowClient, begun: None) -> None:
    run = day(airflow, NEXT[0])
    assert tasks(airflow, follow(airflow, run)) == {"assess": "success", "ask": "skipped", "step": "success"}
    assert newest().here.kind == "canary"
    run = day(airflow, NEXT[1])
    decide(airflow, run, "Approve")
    assert serves() == "2"
    (promotion,) = [row for row in ledger.decisions(load_problem(NAME), "promotion") if row["model_version"] == "2"]
    assert promotion["evidence"]["approved_by"] == "admin"
    events = airflow._call("GET", "/api/v2/assets/events", params={"source_dag_id": f"{NAME}.release"})["asset_events"]
    assert [event["name"] for event in events] == [f"{NAME}/model"], "the promotion alone is one"


def test_one_that_does_harm_is_rolled_back_by_itself(airflow: AirflowClient, begun: None) -> None:
    learn(trees=30, columns=["size"])
    local_run.train(NAME, NEXT[1])
    learn(trees=35)
    assert tasks(airflow, follow(airflow, day(airflow, NEXT[2])))["step"] == "success"
    assert (newest().state, serves()) == ("rolled back", "2")


def test_a_rejection_leaves_the_champion_and_later_days_do_not_wait_for_it(airflow: AirflowClient, begun: None) -> None:
    local_run.train(NAME, NEXT[2])
    follow(airflow, day(airflow, NEXT[3]))
    asked = day(airflow, NEXT[4])
    wait(lambda: tasks(airflow, asked).get("ask") == "awaiting_input")
    later = follow(airflow, day(airflow, NEXT[5]))
    assert tasks(airflow, later)["step"] == "skipped"
    assert "an answer is waited for" in str(airflow.xcom(later, "step", "verdict"))
    decide(airflow, asked, "Reject")
    assert (newest().state, serves()) == ("rejected", "2")
    assert "rejected by admin" in newest().reason
