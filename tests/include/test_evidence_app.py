"""Pages for those who may read the DAG, and for nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.api_fastapi.common.db.common import _get_session
from airflow.models.dagrun import DagRun
from airflow.models.tasklog import LogTemplate
from airflow.models.xcom import XComModel
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from include.evidence_app import app, reads_page, reads_run
from include.health_app import readable
from include.metrics_app import scrapes
from pipelines.handoffs.training import Sampled
from tests.handed_on import example

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def session() -> Iterator[Session]:
    engine = create_engine("sqlite://", connect_args={"check_same_thread": False}, poolclass=StaticPool)
    DagRun.metadata.create_all(engine, tables=[table.__table__ for table in (DagRun, LogTemplate, XComModel)])
    with Session(engine) as session:
        yield session


@pytest.fixture
def client(session: Session) -> Iterator[TestClient]:
    """A user who may read all DAGs."""
    app.dependency_overrides = {reads_run: lambda: None, reads_page: lambda: None, _get_session: lambda: session}
    yield TestClient(app)
    app.dependency_overrides = {}


def test_every_route_asks_who_it_is() -> None:
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(routes) == len(app.routes) == 6
    for route in routes:
        asked = {dependency.call for dependency in route.dependant.dependencies}
        assert asked & {reads_run, reads_page, readable, scrapes}, (
            f"{route.path}: add dependencies=[Depends(reads_run)]"
        )


@pytest.mark.parametrize(
    "path",
    [
        "/runs/flight_delay.train/a",
        "/pages/flight_delay/reports/2013-04-01/drift.html",
        "/health",
        "/health/flight_delay",
    ],
)
def test_strangers_see_nothing(path: str) -> None:
    assert TestClient(app).get(path).status_code == 401


def test_report(client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_STORE_URI", f"file://{tmp_path}")
    missing = client.get("/pages/flight_delay/reports/2013-04-01/drift.html")
    assert missing.status_code == 404
    assert "flight_delay has no reports/2013-04-01/drift.html" in missing.text

    saved = tmp_path / "flight_delay" / "reports" / "2013-04-01" / "drift.html"
    saved.parent.mkdir(parents=True)
    saved.write_text("<h1>Drift</h1>")
    found = client.get("/pages/flight_delay/reports/2013-04-01/drift.html")
    assert (found.status_code, found.text) == (200, "<h1>Drift</h1>")
    assert found.headers["content-security-policy"].startswith("sandbox allow-scripts")
    assert found.headers["x-content-type-options"] == "nosniff"


def test_a_store_that_is_not_configured_says_so(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVERGREEN_STORE_URI", raising=False)
    answer = client.get("/pages/flight_delay/reports/2013-04-01/drift.html")
    assert answer.status_code == 500
    assert "EVERGREEN_STORE_URI is not set" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/pages/..%2fother/reports/2013-04-01/drift.html",
        "/pages/flight_delay/..",
        "/pages/A/reports/2013-04-01/drift.html",
        "/pages/flight_delay/models/1/problem.json",
        "/pages/flight_delay/reports/2013-04-01/../../models/1/problem.json",
    ],
)
def test_only_pages_of_problems(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 422)


def test_run_shows_its_verdicts_and_the_report(client: TestClient, session: Session) -> None:
    add_run(session, "flight_delay.monitor", {"decide": "label shift: <b>.24</b>", "act": "label shift: <b>.24</b>"})
    page = client.get("/runs/flight_delay.monitor/r1")
    assert page.status_code == 200
    assert page.text.count("label shift: &lt;b&gt;.24") == 1
    assert '<th scope="row">decide' in page.text
    assert '<iframe src="/evergreen/pages/flight_delay/reports/2013-04-01/monitoring.html" sandbox=' in page.text
    assert "allow-top-navigation" not in page.text
    policy = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; form-action 'none'"
    assert f'content="{policy}">' in page.text and page.headers["content-security-policy"].startswith(policy)


def test_run_without_a_page(client: TestClient, session: Session) -> None:
    add_run(session, "flight_delay.train", {})
    page = client.get("/runs/flight_delay.train/r1").text
    assert "No task of this run has given a verdict." in page
    assert "iframe src" not in page


def test_run_shows_the_page_that_its_task_names(client: TestClient, session: Session) -> None:
    sampled = example(Sampled, training_set="0123456789ab", config="abc123").model_dump(mode="json")
    add_run(session, "flight_delay.train", {"label": sampled, "sample": sampled}, key="return_value")
    page = client.get("/runs/flight_delay.train/r1").text
    assert '<iframe src="/evergreen/pages/flight_delay/datasheets/0123456789ab.html" sandbox=' in page
    assert "It goes by the config abc123" in page
    assert client.get("/runs/flight_delay.train/r2").status_code == 404


def add_run(session: Session, dag_id: str, values: dict[str, Any], key: str = "verdict") -> None:
    session.add(DagRun(dag_id=dag_id, run_id="r1", run_type="manual", partition_key="2013-04-01", run_after=NOW))
    session.flush()
    for second, (task_id, value) in enumerate(values.items()):
        session.add(
            XComModel(
                dag_run_id=1,
                task_id=task_id,
                map_index=-1,
                key=key,
                dag_id=dag_id,
                run_id="r1",
                value=value,
                timestamp=NOW.replace(second=second),
            )
        )
    session.commit()
