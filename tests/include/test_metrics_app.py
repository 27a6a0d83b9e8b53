"""Metrics are for who has their token: all problems; for anybody else there is nothing, and no hint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.api_fastapi.common.db.common import _get_session
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from benchmarks.health import filled
from include import health_app
from include.evidence_app import app
from include.metrics_app import TOKEN, TOKEN_FILE
from pipelines.errors import ServiceUnavailable
from pipelines.health import shelf
from pipelines.health.kept import keep
from tests.conftest import ToyProblem
from tests.include.test_health_app import add_run, session, tables

__all__ = ["session", "tables"]

SECRET = "a-token-of-some-length"


@pytest.fixture
def client(session: Session, monkeypatch: pytest.MonkeyPatch, store_folder: Path) -> Iterator[TestClient]:
    """Nobody in particular, of a server that has a token."""
    app.dependency_overrides = {_get_session: lambda: session}
    health_app._shelf.cache_clear()
    monkeypatch.setenv(TOKEN, SECRET)
    monkeypatch.delenv(TOKEN_FILE, raising=False)
    yield TestClient(app)
    app.dependency_overrides = {}


def status(client: TestClient, *given: str) -> int:
    return client.get("/metrics", headers=[("Authorization", value) for value in given]).status_code


def test_who_has_the_token_sees_every_problem(client: TestClient, toy: ToyProblem, session: Session) -> None:
    problem = toy()
    filled(problem, 3)
    keep(problem)
    add_run(session, "teapot.train", "one", "failed", sample="failed")
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {SECRET}"})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.text.splitlines()
    assert "evergreen_store_up 1.0" in lines
    assert 'evergreen_champion_info{problem="kettle",version="1",how="promoted"} 1' in lines
    assert 'evergreen_dags_failed{problem="teapot"} 1' in lines, "nothing else is known of it"
    assert not any("somebody" in line or "annotate" in line for line in lines)


@pytest.mark.parametrize(
    "given",
    [
        (),
        ("",),
        ("Bearer",),
        ("Bearer ",),
        (SECRET,),
        (f"Basic {SECRET}",),
        (f"Bearer {SECRET}x",),
        (f"Bearer {SECRET[:-1]}",),
        (f"Bearer {SECRET.upper()}",),
        ("Bearer \xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9",),
    ],
)
def test_anybody_else_is_refused(client: TestClient, given: tuple[str, ...]) -> None:
    answer = client.get("/metrics", headers=[(b"Authorization", value.encode("latin-1")) for value in given])
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "evergreen_" not in answer.text and SECRET not in answer.text


def test_without_a_token_there_are_no_metrics(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for token in ("", " ", "short"):
        monkeypatch.setenv(TOKEN, token)
        assert [status(client), status(client, "Bearer "), status(client, f"Bearer {token}")] == [404] * 3
    monkeypatch.setenv(TOKEN_FILE, str(tmp_path / "absent"))
    monkeypatch.setenv(TOKEN, "")
    assert status(client, f"Bearer {SECRET}") == 404


def test_the_token_may_lie_in_a_file_which_counts_at_once(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    monkeypatch.delenv(TOKEN)
    monkeypatch.setenv(TOKEN_FILE, str(file))
    for secret in (SECRET, "another-one-of-the-same-length"):
        file.write_text(f"{secret}\n")
        assert status(client, f"Bearer {secret}") == 200
        assert status(client, f"bearer {secret}") == 200
    assert status(client, f"Bearer {SECRET}") == 401


def test_where_the_store_does_not_answer_the_last_look_is_told(
    client: TestClient, toy: ToyProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = toy()
    filled(problem, 3)
    keep(problem)
    before = client.get("/metrics", headers={"Authorization": f"Bearer {SECRET}"}).text

    def down(_: str) -> None:
        raise ServiceUnavailable("the store does not answer")

    monkeypatch.setattr(shelf.store, "listing", down)
    after = client.get("/metrics", headers={"Authorization": f"Bearer {SECRET}"}).text
    assert after == before.replace("evergreen_store_up 1.0", "evergreen_store_up 0.0")
