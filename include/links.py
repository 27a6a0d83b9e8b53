"""Buttons on a task's page."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperatorLink

from include.pages import path_of


class Page(BaseOperatorLink):
    """Opens the page that the task has left in the store."""

    page = ""

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Called at the task's end, whether it failed or not; `ti_key` is the task instance then."""
        context = ti_key.get_template_context()
        run = context["dag_run"]
        path = path_of(
            ti_key.dag_id, run.partition_key, context["params"], lambda task: ti_key.xcom_pull(task_ids=task), self.page
        )
        return f"/evergreen/pages/{ti_key.dag_id.rpartition('.')[0]}/{path}" if path else ""


class Monitoring(Page):
    """What was found, since when, where, and what was decided, on the monitor's `report` and `act`."""

    name = "Monitoring"


class DriftReport(Page):
    """Evidently's report, on the monitor's `report`."""

    name = "Drift report"
    page = "drift"


class Validation(Page):
    """Every rule and what broke it, on ingest's `validate`."""

    name = "Validation"


class Datasheet(Page):
    """What the training set is, on train's `check`."""

    name = "Datasheet"
    page = "datasheets"


class Evaluation(Page):
    """All that was found out about the challenger, and the verdict, on train's `evaluate` and `gate`."""

    name = "Evaluation"
    page = "evaluations"


class ModelCard(Page):
    """What a version is, is for and can do, on train's `register`."""

    name = "Model card"
    page = "models"


class WeakSupervision(Page):
    """How each labeling function does, on annotate's `vote`."""

    name = "Weak supervision"


class Release(Page):
    """How far a release has come, and on what evidence, on release's `assess` and `step`."""

    name = "Release"
