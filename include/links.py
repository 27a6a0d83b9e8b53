"""Buttons on a task's page."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperatorLink


class DriftReport(BaseOperatorLink):
    """Opens the Evidently report that a `report` task has saved."""

    name = "Drift report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Called at the task's end; `ti_key` is the task instance then."""
        problem = ti_key.dag_id.removesuffix(".monitor")
        return f"/evergreen/reports/{problem}/{ti_key.get_template_context()['dag_run'].partition_key}"
