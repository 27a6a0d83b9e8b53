"""The Health page, for those who may read a problem's DAGs; of any other problem not even the name is there."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.common.db.common import _get_session
from airflow.api_fastapi.core_api.security import get_user
from airflow.models import import_all_models
from airflow.models.base import Base
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, insert
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from benchmarks.health import filled
from include import health_app
from include.evidence_app import app
from include.in_flight import dags_of_problems, in_flight, run_ids
from pipelines import ledger, store
from pipelines.errors import ServiceUnavailable
from pipelines.handoffs.ingestion import Reach, Reading
from pipelines.health import shelf
from pipelines.health.in_flight import Run
from pipelines.health.kept import keep
from pipelines.health.problem_page import RunKey
from pipelines.health.script import SCRIPT
from pipelines.problem import parse_problem
from tests.conftest import ToyProblem

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAGS = {"kettle": ["ingest", "train", "score", "release"], "teapot": ["ingest", "train"]}


class Auth:
    """As an auth manager: who may read what, asked as the Evidence tab asks."""

    def __init__(self, allowed: Collection[str]) -> None:
        self.allowed = allowed

    def batch_is_authorized_dag(self, requests: list[dict[str, Any]], *, user: SimpleAuthManagerUser) -> bool:
        def may(details: DagDetails) -> bool:
            return details.id in self.allowed

        assert user.username == "ada"
        assert all((request["method"], request["access_entity"].value) == ("GET", "XCOM") for request in requests)
        return all(may(request["details"]) for request in requests)


@pytest.fixture(scope="module")
def tables() -> Iterator[Any]:
    import_all_models()
    engine = create_engine("sqlite://", connect_args={"check_same_thread": False}, poolclass=StaticPool)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def session(tables: Any) -> Iterator[Session]:
    with tables.connect() as connection, connection.begin() as whole, Session(connection) as session:
        session.add(DagBundleModel(name="evergreen"))
        ids = [f"{problem}.{dag}" for problem, dags in DAGS.items() for dag in dags]
        session.add_all(
            [DagModel(dag_id=dag_id, bundle_name="evergreen", is_stale=False, is_paused=False) for dag_id in ids]
        )
        session.add(DagModel(dag_id="kettle.annotate", bundle_name="evergreen", is_stale=True))
        session.add(DagModel(dag_id="somebody.elses", bundle_name="evergreen", is_stale=False, is_paused=False))
        session.flush()
        yield session
        session.close()
        whole.rollback()


@pytest.fixture
def client(session: Session, monkeypatch: pytest.MonkeyPatch, store_folder: Path) -> Iterator[TestClient]:
    """Ada, who may read all DAGs but the teapot's training."""
    app.dependency_overrides = {
        _get_session: lambda: session,
        get_user: lambda: SimpleAuthManagerUser(username="ada", role="VIEWER"),
    }
    auth = Auth(
        [f"{problem}.{dag}" for problem, dags in DAGS.items() for dag in dags if (problem, dag) != ("teapot", "train")]
    )
    monkeypatch.setattr(health_app, "get_auth_manager", lambda: auth)
    health_app._shelf.cache_clear()
    yield TestClient(app)
    app.dependency_overrides = {}


def add_run(session: Session, dag_id: str, run_id: str, state: str, **failed: str) -> None:
    """A run, with a task of each name in that state."""
    run = {"dag_id": dag_id, "run_id": run_id, "_state": state, "partition_key": "2024-01-03"}
    session.execute(insert(DagRun), [run | {"run_type": "manual", "run_after": NOW, "start_date": NOW}])
    tasks = [
        {
            "task_id": name,
            "dag_id": dag_id,
            "run_id": run_id,
            "map_index": -1,
            "state": task_state,
            "pool": "default_pool",
        }
        | {"pool_slots": 1, "executor_config": {}, "max_tries": 0, "try_number": 1}
        for name, task_state in failed.items()
    ]
    if tasks:
        session.execute(insert(TaskInstance.__table__), tasks)
    session.flush()


def test_a_user_sees_the_problems_whose_dags_they_may_read(
    client: TestClient, toy: ToyProblem, store_folder: Path
) -> None:
    problem = toy()
    filled(problem, 3)
    keep(problem)
    overview = client.get("/health")
    assert overview.status_code == 200
    assert '<a href="health/kettle">kettle</a>' in overview.text
    assert "teapot" not in overview.text and "somebody" not in overview.text
    page = client.get("/health/kettle")
    assert page.status_code == 200 and "Decisions 1 to 4 of 4" in page.text
    hidden, absent = client.get("/health/teapot"), client.get("/health/saucer")
    assert (
        (hidden.status_code, hidden.json())
        == (absent.status_code, absent.json())
        == (404, {"detail": "there is no such problem"})
    )


def test_nothing_of_a_problem_is_told_to_who_may_not_read_one_of_its_dags(
    client: TestClient, toy: ToyProblem, tmp_path: Path
) -> None:
    """However much is kept of it, and by whichever route; metrics have a token of their own."""
    problem = parse_problem(toy().model_dump(mode="json"), tmp_path / "teapot")
    filled(problem, 3)
    read = {"kettles": Reach("at", [Reading("2024-01-03", NOW, NOW)], arrived=NOW)}
    assert keep(problem, read).sources, "what nobody is to see"
    own = [route for route in health_app.router.routes if isinstance(route, APIRoute)]
    paths = {f"/{route.path.strip('/')}".replace("{problem}", "teapot") for route in own}
    files = {f"/pages/{path}" for path in ("_health/teapot/health.json", "teapot/health.json", "teapot/history.json")}
    assert paths == {"/health", "/health/teapot", "/comparison/teapot"}
    for path in paths | files | {f"{path}?window=104&kind=gate" for path in paths} | {"/metrics"}:
        answer = client.get(path, follow_redirects=False)
        assert answer.status_code == (200 if path.startswith("/health") and "teapot" not in path else 404), path
        said = answer.text.replace("no page of Evergreen lies at teapot", "")
        assert [word for word in ("teapot", "kettles", "version 1", "AUC") if word in said] == [], path


def test_the_pages_run_the_one_script_and_send_forms_to_themselves(client: TestClient) -> None:
    for path in ("/health", "/health/kettle"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy == (
            f"default-src 'none'; style-src 'unsafe-inline'; script-src '{SCRIPT.allowed}'; base-uri 'none'; "
            "form-action 'self'; frame-ancestors 'self'"
        )


def test_the_comparison_is_that_of_the_newest_training_for_those_who_may_see_the_problem(
    client: TestClient, toy: ToyProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = toy()
    filled(problem, 3)
    keep(problem)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000/")
    monkeypatch.setenv("EVERGREEN_MLFLOW_URL", "https://runs.example/")
    assert client.get("/comparison/kettle", follow_redirects=False).status_code == 404, "an evaluation of before"
    [gate] = [row["decision"] for row in ledger.decisions(problem, "gate")]
    evaluation = f"{gate.removeprefix('gate:')}.json"
    store.write_json(store.store_uri("kettle", "evaluations", evaluation), {"experiment": "7"})
    went = client.get("/comparison/kettle", follow_redirects=False)
    wanted = "https://runs.example/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=evergreen"
    assert (went.status_code, went.headers["location"]) == (307, wanted)
    assert client.get("/comparison/teapot", follow_redirects=False).status_code == 404, "not for ada"


@pytest.mark.parametrize("query", ["kind=any", "window=7", "page=0", f"text={'a' * 101}"])
def test_nothing_but_filters_is_taken(client: TestClient, query: str) -> None:
    assert client.get(f"/health/kettle?{query}").status_code == 422


def test_where_the_store_does_not_answer_the_last_look_is_shown(
    client: TestClient, toy: ToyProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = toy()
    filled(problem, 3)
    keep(problem)
    client.get("/health")

    def silent(uri: str) -> dict[str, str]:
        raise ServiceUnavailable("nobody <b>answers</b>")

    monkeypatch.setattr(shelf.store, "listing", silent)
    overview = client.get("/health")
    assert overview.status_code == 200
    assert "nobody &lt;b&gt;answers" in overview.text and "version 1" in overview.text
    assert "The store does not answer" in client.get("/health/kettle").text


def test_what_goes_on_is_read_from_airflow(session: Session) -> None:
    add_run(session, "kettle.ingest", "old", "failed", publish="failed")
    add_run(session, "kettle.ingest", "new", "success")
    add_run(session, "kettle.train", "refused", "failed", gate="failed", register="upstream_failed")
    add_run(session, "kettle.score", "broken", "failed", publish="failed", plan="success")
    add_run(session, "kettle.train", "now", "running", sample="running")
    add_run(session, "kettle.score", "next", "queued")
    add_run(session, "kettle.release", "asks", "running", ask="awaiting_input")
    [asking] = session.query(TaskInstance.id).where(TaskInstance.task_id == "ask").all()
    question = {"ti_id": asking[0], "options": ["Approve"], "subject": "Go on?", "params": {}}
    session.execute(insert(HITLDetail.__table__), [question | {"assignees": [{"id": "ada", "name": "Ada"}]}])
    session.query(DagModel).where(DagModel.dag_id == "kettle.score").update({"is_paused": True})
    session.flush()

    dags = dags_of_problems(session)
    assert dags == {"kettle": ["ingest", "train", "score", "release"], "teapot": ["ingest", "train"]}
    going_on = in_flight(session, dags)
    kettle = going_on["kettle"]
    assert [(run.dag, run.run_id) for run in kettle.running] == [("train", "now"), ("release", "asks")]
    assert kettle.waiting == ("score",) and kettle.paused == ("score",)
    assert kettle.failed == (Run("score", "broken", "2024-01-03", None, ("publish",)),)
    [asked] = kettle.questions
    assert (asked.dag, asked.run_id, asked.subject, asked.users) == ("release", "asks", "Go on?", ("Ada",))
    assert not any(going_on["teapot"])
    wanted = {RunKey("ingest", "2024-01-03"), RunKey("train", "2024-01-09")}
    assert run_ids(session, "kettle", wanted) == {RunKey("ingest", "2024-01-03"): "new"}
    assert run_ids(session, "kettle", []) == {}


def test_an_answered_question_waits_for_nobody(session: Session) -> None:
    add_run(session, "kettle.release", "asks", "running", ask="awaiting_input")
    [asking] = session.query(TaskInstance.id).where(TaskInstance.task_id == "ask").all()
    question = {"ti_id": asking[0], "options": ["Approve"], "subject": "Go on?", "params": {}, "responded_at": NOW}
    session.execute(insert(HITLDetail.__table__), [question])
    assert in_flight(session, {"kettle": DAGS["kettle"]})["kettle"].questions == ()
