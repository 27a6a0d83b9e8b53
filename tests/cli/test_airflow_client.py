"""The client of Airflow's REST API, against a server that gives a few of a list at once."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from pipelines.cli.airflow_client import AirflowClient

AT_ONCE = 2
IDS = [f"{problem}.{dag}" for problem in ("kettle", "kettle_2", "oven") for dag in ("ingest", "score", "train")]


def answer(request: httpx.Request) -> httpx.Response:
    if request.url.path == "/auth/token":
        return httpx.Response(201, json={"access_token": "token"})
    asked = request.url.params
    ids = [dag_id for dag_id in IDS if dag_id.startswith(asked.get("dag_id_prefix_pattern", ""))]
    first = int(asked["offset"])
    page: list[dict[str, Any]] = [{"dag_id": dag_id} for dag_id in ids[first : first + AT_ONCE]]
    return httpx.Response(200, json={"dags": page, "total_entries": len(ids)})


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> AirflowClient:
    monkeypatch.setenv("EVERGREEN_AIRFLOW_URL", "http://airflow.example")
    made = AirflowClient()
    made._http = httpx.Client(base_url=made.url, transport=httpx.MockTransport(answer))
    return made


def test_all_dags_are_listed_however_many_a_page_holds(client: AirflowClient) -> None:
    assert client.dag_ids() == set(IDS)


def test_those_of_a_problem_are_asked_for_by_its_name(client: AirflowClient) -> None:
    assert client.dag_ids("kettle") == {"kettle.ingest", "kettle.score", "kettle.train"}
