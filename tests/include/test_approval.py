"""What people say of a step, through Airflow's own operator."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput

from include import alerts
from include.approval import Ask, answer
from pipelines.config.release import Approval
from pipelines.handoffs.releases import Assessed
from tests.handed_on import example


def ask(**settings: Any) -> Ask:
    return Ask(approval=Approval(when="promote", **settings), task_id="ask")


def context(**assessed: Any) -> dict[str, Any]:
    handed_on = example(Assessed, **assessed).model_dump(mode="json")
    given: dict[str, Any] = {"dag_run": SimpleNamespace(partition_key="2024-01-02"), "params": {}}
    instance = SimpleNamespace(
        id="1", dag_id="kettle.release", xcom_pull=lambda task_ids: handed_on, get_template_context=lambda: given
    )
    return given | {"ti": instance, "task_instance": instance}


def test_nobody_is_asked_where_nothing_is_to_be_approved() -> None:
    with pytest.raises(AirflowSkipException, match="nobody is to be asked: hold"):
        ask().execute(context(verdict="hold"))


def test_people_are_told_and_waited_for_without_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(alerts, "asked", told.append)
    monkeypatch.setattr("airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **_: None)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example.com/base/")
    given, asking = context(verdict="promote", asks=True), ask()
    with pytest.raises(TaskAwaitingInput):
        asking.execute(given)
    assert told == [given]
    page = "http://airflow.example.com/base/evergreen/pages/kettle/reports/2024-01-02/release.html"
    assert asking.body is not None and asking.body.endswith(f"[The evidence]({page})")


def test_who_may_answer_how_long_and_what_counts_otherwise() -> None:
    asked = ask(users=["ada"], hours=2, otherwise="approve")
    assert asked.assigned_users == [{"id": "ada", "name": "ada"}]
    assert asked.response_timeout is not None and asked.response_timeout.total_seconds() == 7200
    assert asked.defaults == ["Approve"]
    assert ask().defaults == ["Reject"] and ask().assigned_users is None


@pytest.mark.parametrize(("option", "is_approved"), [("Approve", True), ("Reject", False)])
def test_an_answer_is_handed_on_and_a_rejection_skips_nothing(option: str, is_approved: bool) -> None:
    event = {
        "chosen_options": [option],
        "params_input": {},
        "responded_at": datetime(2024, 1, 2, tzinfo=UTC),
        "responded_by_user": {"id": "1", "name": "ada"},
    }
    given = ask().execute_complete(context(asks=True), event)
    assert given == {
        "config": None,
        "is_approved": is_approved,
        "user": "ada",
        "time": "2024-01-02T00:00:00+00:00",
    }


def test_no_answer_names_nobody() -> None:
    given = answer({"chosen_options": ["Reject"], "responded_by_user": None, "responded_at": None})
    assert (given.is_approved, given.user) == (False, None)
