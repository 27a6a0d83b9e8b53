"""People approve a step of a release, in Airflow's *Required Actions*."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowSkipException

from include import alerts
from include.links import Release
from pipelines.config.release import Approval
from pipelines.handoffs.releases import Answer, Assessed


class Ask(ApprovalOperator):
    """Waits for people where `assess` asks for it, without a slot; gives their `Answer`.

    A rejection is an outcome that `step` writes down: nothing is skipped for it.
    """

    def __init__(self, *, approval: Approval, **kwargs: Any) -> None:
        asked = "ti.xcom_pull(task_ids='assess')"
        super().__init__(
            subject=f"{{{{ {asked}['subject'] }}}}",
            body=f"{{{{ {asked}['body'] }}}}",
            defaults=self.APPROVE if approval.otherwise == "approve" else self.REJECT,
            assigned_users=[{"id": user, "name": user} for user in approval.users] or None,
            response_timeout=timedelta(hours=approval.hours),
            **kwargs,
        )

    def execute(self, context: Any) -> Any:
        assessed = Assessed.model_validate(context["ti"].xcom_pull(task_ids="assess"))
        if not assessed.asks:
            raise AirflowSkipException(f"nobody is to be asked: {assessed.verdict}")
        if path := Release().get_link(self, ti_key=context["ti"]):
            address = conf.get("api", "base_url", fallback="/").rstrip("/") + path
            self.body = f"{self.body}\n\n[The evidence]({address})"
        alerts.asked(context)
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        return answer(HITLOperator.execute_complete(self, context, event)).model_dump(mode="json")


def answer(response: Mapping[str, Any]) -> Answer:
    """What Airflow has of an answer, in our words.

    >>> answer({"chosen_options": ["Reject"], "responded_by_user": None, "responded_at": None}).in_words
    'rejected, as nobody answered in time'
    """
    user, time = response.get("responded_by_user"), response.get("responded_at")
    return Answer(
        is_approved=ApprovalOperator.APPROVE in response["chosen_options"],
        user=str(user["name"] or user["id"]) if user else None,
        time=time.isoformat() if isinstance(time, datetime) else time,
    )
